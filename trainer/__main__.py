"""Train one job: `torchrun --standalone --nproc-per-node 2 -m trainer --config train.json`.

Runs without torchrun, too, as the only rank. Exit code 0: done; 75: stopped by SIGTERM with a checkpoint, run it again
to go on; 2: the job cannot work, stderr says why; anything else: it broke.
"""

import argparse
import logging
import os
import sys
from pathlib import Path

import transformers

from .assemble import assemble
from .job import EXIT_DONE, load_job, outcome
from .loop import Run
from .ranks import join, leave
from .supervisor import die_with_parent

EXIT_REFUSED = 2


def main() -> int:
    """Parse the command line and train; does not return after training."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        die_with_parent()  # a rank without its launcher can neither end nor be found
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    transformers.utils.logging.disable_progress_bar()
    parser = argparse.ArgumentParser(prog="trainer", description="Train one job under torchrun.")
    parser.add_argument("--config", type=Path, required=True, help="path of train.json")
    try:
        job = load_job(parser.parse_args().config)
        if outcome(job.output) == "done":
            logging.info("%s holds done.json: nothing to do.", job.output)
            return EXIT_DONE
        ranks = join(job.place.device)
        parts = assemble(job, ranks)
    except (ValueError, FileNotFoundError) as error:
        sys.stderr.write(f"error: {error}\n")
        return EXIT_REFUSED
    return leave(ranks, Run(job, ranks, parts).train())


if __name__ == "__main__":
    sys.exit(main())
