"""The engine: runs a datatrove pipeline over numbered ranks, one shard a rank, on as many workers as the runtime has.

The number of ranks follows from the input and never from the workers, so the workers change nothing but the time.
A rank writes its files under a temporary name and renames them; datatrove marks it complete afterwards. Those marks
live in the stage's own unfinished directory, which belongs to one key, so that a resumed stage redoes only the ranks
that were in flight.
"""

import os
import shutil
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import copy_context
from functools import partial
from pathlib import Path
from types import ModuleType

os.environ.setdefault("DATATROVE_COLORIZE_LOGS", "0")

import multiprocess
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.base import PipelineStep
from datatrove.utils.logging import logger as datatrove_log

from domainlm.tasks import progress
from domainlm.tasks.runtime import Runtime
from domainlm.trainer.supervisor import die_with_parent

MARKS = ".ranks"

datatrove_log.disable("datatrove")  # here, so that workers are quiet too; the view tells what a person wants to know

_running = threading.Event()
# datatrove forks a manager for its queues, which would outlive a builder that is killed.
os.register_at_fork(after_in_child=lambda: die_with_parent() if _running.is_set() else None)


def run_ranks(pipeline: Sequence[PipelineStep], ranks: int, out: Path, runtime: Runtime, *, name: str = "all") -> None:
    """Run `pipeline` for rank 0..ranks-1, reporting progress. `name` tells apart several passes of one stage."""
    marks = out / MARKS / name
    executor = LocalPipelineExecutor(
        pipeline=list(pipeline), tasks=ranks, workers=min(runtime.workers, ranks), logging_dir=str(marks)
    )
    finished = threading.Event()
    watch = partial(copy_context().run, _watch, marks / "completions", ranks, finished)  # a thread has no watcher else
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    _running.set()
    try:
        with _quick_workers():
            executor.run()
    finally:
        _running.clear()
        finished.set()
        watcher.join()
    progress.report(ranks, ranks, "shards")


def clear_marks(out: Path) -> None:
    """Remove the completion marks, all at once or none; a stage calls this last."""
    doomed = out / f"{MARKS}.done"
    shutil.rmtree(doomed, ignore_errors=True)
    if (out / MARKS).exists():
        (out / MARKS).rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)


@contextmanager
def _quick_workers() -> Iterator[None]:
    """Let workers start from what they need, and not by importing the program that called us.

    Each would otherwise import its `__main__`: under Prefect or a benchmark that takes longer than their work.
    """
    multiprocess.set_forkserver_preload(["domainlm.tasks.document_shards"])
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _watch(completions: Path, ranks: int, finished: threading.Event) -> None:
    while not finished.wait(progress.MIN_INTERVAL_S):
        done = sum(1 for _ in completions.iterdir()) if completions.exists() else 0
        progress.report(done, ranks, "shards")
