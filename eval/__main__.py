"""Evaluate one model, alone and offline: python -m domainlm.eval --config evaluate.json

In: evaluate.json (see `domainlm.eval.config.Job`). Out: samples/, scores.json and, last, done.json in its `output`.
Bad input is one line on stderr and exit code 2.
"""

import argparse
import gc
import os
import sys
from pathlib import Path

from domainlm.eval.config import Job
from domainlm.trainer import strict

OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "TQDM_DISABLE": "1",  # lm-eval's bars; progress is our own lines
    "TOKENIZERS_PARALLELISM": "true",
    "OMP_WAIT_POLICY": "PASSIVE",  # idle threads that spin made a 20 s evaluation last 10 minutes
}


def main(arguments: list[str] | None = None) -> int:
    """Read the command line, evaluate, return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m domainlm.eval", description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, required=True, help="evaluate.json")
    try:
        _run(parser.parse_args(arguments).config)
    except (ValueError, FileNotFoundError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return 0


def _run(config: Path) -> None:
    """Check the job before the large imports (seconds), and set what those libraries read when they are imported."""
    os.environ.update(OFFLINE)
    job = strict.load(Job, config)
    gc.disable()  # while the libraries are imported: a fifth of those seconds is spent looking for garbage
    from domainlm.eval.run import evaluate

    gc.enable()
    evaluate(job)


if __name__ == "__main__":
    sys.exit(main())
