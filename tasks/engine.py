"""The engine: runs a datatrove pipeline over numbered ranks, one shard a rank, on as many workers as the runtime has.

The number of ranks follows from the input and never from the workers, so the workers change nothing but the time.
A rank writes its files under a temporary name and renames them; datatrove marks it complete afterwards. Those marks
live in the stage's own unfinished directory, which belongs to one key, so that a resumed stage redoes only the ranks
that were in flight.

The workers are processes here (`local`), in a Ray cluster (`ray`) or the tasks of a Slurm job array (`slurm`); the
latter two see the store under the same path as this machine does.
"""

import os
import shutil
import sys
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import copy_context
from functools import partial
from pathlib import Path
from types import ModuleType

os.environ.setdefault("DATATROVE_COLORIZE_LOGS", "0")

import multiprocess
from datatrove.executor import LocalPipelineExecutor, RayPipelineExecutor
from datatrove.utils.logging import logger as datatrove_log

from domainlm.tasks import progress
from domainlm.tasks.runtime import Runtime
from domainlm.tasks.shard_step import ShardStep
from domainlm.tasks.slurm import run_in_slurm
from domainlm.trainer.supervisor import die_with_parent

MARKS = ".ranks"

datatrove_log.disable("datatrove")  # here, so that workers are quiet too; the view tells what a person wants to know

_running = threading.Event()
# datatrove forks a manager for its queues, which would outlive a builder that is killed.
os.register_at_fork(after_in_child=lambda: die_with_parent() if _running.is_set() else None)


class RankFailed(RuntimeError):
    """A rank that ran on another machine failed."""


def run_ranks(step: ShardStep, ranks: int, runtime: Runtime) -> None:
    """Run `step` for rank 0..ranks-1 where the runtime says, reporting progress."""
    finished = threading.Event()
    watch = partial(copy_context().run, _watch, step.marks / "completions", ranks, finished)  # it has no watcher else
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        _EXECUTORS[runtime.executor](step, ranks, runtime)
    finally:
        finished.set()
        watcher.join()
    _check_complete(step, ranks)
    progress.report(ranks, ranks, "shards")


def clear_marks(out: Path) -> None:
    """Remove the completion marks, all at once or none; a stage calls this last."""
    doomed = out / f"{MARKS}.done"
    shutil.rmtree(doomed, ignore_errors=True)
    if (out / MARKS).exists():
        (out / MARKS).rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def _run_here(step: ShardStep, ranks: int, runtime: Runtime) -> None:
    workers = min(runtime.workers, ranks)
    executor = LocalPipelineExecutor(pipeline=[step], tasks=ranks, workers=workers, logging_dir=str(step.marks))
    if workers == 1:
        _run_in_this_process(step, ranks, executor)
        return
    _running.set()
    try:
        with _quick_workers():
            executor.run()
    finally:
        _running.clear()


def _run_in_this_process(step: ShardStep, ranks: int, executor: LocalPipelineExecutor) -> None:
    """As the executor does it, but for the manager it would fork, which copies this process's memory, and its logs."""
    for rank in executor.get_incomplete_ranks():
        deque(step(None, rank, ranks), maxlen=0)
        executor.mark_rank_as_completed(rank)


def _run_in_ray(step: ShardStep, ranks: int, runtime: Runtime) -> None:
    """In the Ray cluster that this process is connected to, or that this machine belongs to."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise ImportError("executor: ray needs Ray, which is an extra: pip install 'domainlm[ray]'.") from error
    if not ray.is_initialized():
        ray.init(address="auto", log_to_driver=False)
    RayPipelineExecutor(
        pipeline=[step],
        tasks=ranks,
        workers=min(runtime.workers, ranks),
        logging_dir=str(step.marks.resolve()),
        mem_per_cpu_gb=runtime.worker_memory_gb,
    ).run()


_EXECUTORS = {"local": _run_here, "ray": _run_in_ray, "slurm": run_in_slurm}


def _check_complete(step: ShardStep, ranks: int) -> None:
    """Ray and Slurm tell of no failure: what is not marked complete has failed."""
    missing = [rank for rank in range(ranks) if not (step.marks / "completions" / f"{rank:05d}").exists()]
    if not missing:
        return
    errors = sorted((step.marks / "errors").glob("*.txt"))
    said = errors[0].read_text().strip() if errors else "it left no error: killed, or out of memory or time"
    raise RankFailed(
        f"{len(missing)} of {ranks} shards are not done, rank {missing[0]} for one; {said}. "
        f"What they left is in {step.marks}. Build again, and only those are done."
    )


@contextmanager
def _quick_workers() -> Iterator[None]:
    """Let workers start from what they need, and not by importing the program that called us.

    Each would otherwise import its `__main__`: under Prefect or a benchmark that takes longer than their work.
    """
    multiprocess.set_forkserver_preload(["domainlm.tasks.worker_process"])
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
