"""Train one job: `torchrun --standalone --nproc-per-node 2 -m trainer --config train.json`.

Runs without torchrun, too, as the only rank; `python -m trainer.unattended` starts it again whatever happens.
Exit code 0: done; 75: stopped by SIGTERM with a checkpoint, run it again to go on; 2: the job cannot work, stderr says
why; 3: going on would be of no use, `stopped.json` says why; 77: out of memory; anything else: it broke.
"""

import argparse
import gc
import logging
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

gc.disable()  # while the libraries are imported: a fifth of those seconds is spent looking for garbage

import transformers

from . import startup
from .assemble import assemble
from .files import hold
from .heartbeat import SIGNS, End, Heart, Kind, save_end
from .job import EXIT_DONE, EXIT_FAILED, EXIT_OUT_OF_MEMORY, EXIT_REFUSED, TrainJob, load_job, outcome
from .loop import Run
from .microbatch import is_out_of_memory
from .preflight import check_room
from .ranks import Ranks, end, join
from .supervisor import die_with_parent, name_process
from .tensors import checkpoint_bytes

gc.enable()


def main() -> int:
    """Parse the command line and train; returns the exit code."""
    parser = argparse.ArgumentParser(prog="trainer", description="Train one job under torchrun.")
    parser.add_argument("--config", type=Path, required=True, help="path of train.json")
    return run_rank(parser.parse_args().config, prepare)


def run_rank(config: Path, prepare: Callable[[TrainJob, Ranks], Callable[[], int]]) -> int:
    """Do this rank's work on a job, and leave a word if it does not end well; returns the exit code.

    What `prepare` finds wrong with the job is told as such; what breaks later is worth another try.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        die_with_parent()  # a rank without its launcher can neither end nor be found
        name_process(f"rank {os.environ['RANK']}")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    transformers.utils.logging.disable_progress_bar()
    startup.mark("imports")
    try:
        job = load_job(config)
    except (ValueError, FileNotFoundError) as error:
        return _refuse(error)
    if outcome(job.output) == "done":
        logging.info("%s holds done.json: nothing to do.", job.output)
        return EXIT_DONE
    try:
        try:
            ranks = join(job.place.device, shard_ranks=job.place.shard_ranks)
            startup.mark("join")
            work = prepare(job, ranks)
            startup.mark("assemble")
        except (ValueError, FileNotFoundError) as error:
            _leave_word(job, "refused", error)
            return _refuse(error)
        code = work()
    except Exception as error:  # noqa: BLE001 - the last stop: it is told, and the process ends
        traceback.print_exc()
        kind: Kind = "out_of_memory" if is_out_of_memory(error) else "error"
        _leave_word(job, kind, error)
        end(EXIT_OUT_OF_MEMORY if kind == "out_of_memory" else EXIT_FAILED)  # a thread may still be writing
    ranks.barrier()
    return code


def prepare(job: TrainJob, ranks: Ranks) -> Callable[[], int]:
    """All that can be checked, and then the run."""
    Heart(job.output, ranks.rank)
    if ranks.is_first:
        hold(job.output / SIGNS / "lock")
    parts = assemble(job, ranks)
    check_room(job.output, checkpoint_bytes(parts.optimizer))
    return Run(job, ranks, parts).train


def _refuse(error: Exception) -> int:
    sys.stderr.write(f"error: {error}\n")
    return EXIT_REFUSED


def _leave_word(job: TrainJob, kind: Kind, error: BaseException) -> None:
    try:
        save_end(End(int(os.environ.get("RANK", "0")), kind, f"{type(error).__name__}: {error}"[:2000]), job.output)
    except OSError as problem:
        logging.error("the supervisor could not be told: %s", problem)


if __name__ == "__main__":
    end(main())
