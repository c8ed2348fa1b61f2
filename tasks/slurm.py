"""Ranks as the tasks of a Slurm job array, through datatrove's executor but without its pickled pipeline.

Run on the login node it writes, below the pass's own directory `.ranks/<name>/`, and submits:

    work.json            what a rank does (`domainlm.tasks.work_json`)
    ranks_to_run.json    the ranks that are not complete yet
    launch.slurm         the script that is given to `sbatch`; each array task runs
                         python -m domainlm.tasks.slurm .ranks/<name>/work.json

and waits until all ranks are complete or the job is no more. A stop or an error here cancels the job.
"""

import json
import math
import subprocess
import sys
import time
from pathlib import Path

from datatrove.executor.base import DistributedEnvVars
from datatrove.executor.slurm import SlurmPipelineExecutor

from domainlm.tasks import progress
from domainlm.tasks.runtime import Runtime, SlurmSettings
from domainlm.tasks.shard_step import ShardStep
from domainlm.tasks.work_json import load_work, save_work

WORK, RANKS, SCRIPT = "work.json", "ranks_to_run.json", "launch.slurm"
MAX_ARRAY = 1_000  # what Slurm allows by default; a task then runs several ranks
POLL_S = (0.5, 15.0)  # between two looks, at first and at last
SETTLE_S = 30.0  # that a shared file system may take to show what an ended job has written


class Stopped(RuntimeError):
    """The watcher asked for a stop; the job was cancelled."""


class JobArray(SlurmPipelineExecutor):  # type: ignore[misc]  # datatrove ships no types
    """datatrove's executor, its job read from JSON; in an array task `run` does that task's ranks."""

    def __init__(self, step: ShardStep, ranks: int, workers: int, memory_gb: float, slurm: SlurmSettings) -> None:
        super().__init__(
            pipeline=[step],
            tasks=ranks,
            workers=min(workers, ranks),
            time=slurm.time_limit,
            partition=slurm.partition,
            qos=slurm.qos,
            mem_per_cpu_gb=math.ceil(memory_gb),
            sbatch_args=dict(slurm.sbatch),
            job_name=f"domainlm-{step.marks.name}",
            logging_dir=str(step.marks.resolve()),
            slurm_logs_folder=str(step.marks.resolve() / "slurm_logs"),
            tasks_per_job=math.ceil(ranks / MAX_ARRAY),
            requeue_signals=None,
        )
        self.marks = step.marks.resolve()

    def launch_job(self) -> None:
        """Write the job and submit it."""
        ranks = self.get_incomplete_ranks()
        (self.marks / RANKS).write_text(json.dumps(ranks))
        command = f"{sys.executable} -m domainlm.tasks.slurm {self.marks / WORK}"
        arguments = self.get_sbatch_args(math.ceil(len(ranks) / self.tasks_per_job))
        (self.marks / SCRIPT).write_text(self.get_launch_file_contents(arguments, command))
        self.job_id = _output("sbatch", "--parsable", str(self.marks / SCRIPT)).split(";")[0]

    def get_distributed_env(self, node_rank: int = -1) -> DistributedEnvVars:
        """What datatrove sets for its steps; ours need no other node."""
        return DistributedEnvVars(
            datatrove_node_ips="",
            datatrove_cpus_per_task="1",
            datatrove_mem_per_cpu=str(self.mem_per_cpu_gb),
            datatrove_gpus_on_node="0",
            datatrove_executor="SLURM",
        )


def run_in_slurm(step: ShardStep, ranks: int, runtime: Runtime) -> None:
    """Submit the ranks that are not complete, and wait for them."""
    assert runtime.slurm is not None  # the runtime's own check
    step.marks.mkdir(parents=True, exist_ok=True)
    array = JobArray(step, ranks, runtime.workers, runtime.worker_memory_gb, runtime.slurm)
    if not array.get_incomplete_ranks():
        return
    save_work((step.work, step.directory, ranks, runtime), step.marks.resolve() / WORK)
    array.launch_job()
    try:
        _wait(array)
    except BaseException:
        _output("scancel", array.job_id)
        raise


def run_array_task(path: Path) -> None:
    """The ranks of one array task; Slurm says which by `SLURM_ARRAY_TASK_ID`."""
    work, directory, ranks, runtime = load_work(path)
    step = ShardStep(work, path.parent, directory)
    JobArray(step, ranks, runtime.workers, runtime.worker_memory_gb, runtime.slurm).run()


def _wait(array: JobArray) -> None:
    """Return when all ranks are complete, or when Slurm knows the job no more."""
    poll_s = POLL_S[0]
    while array.get_incomplete_ranks():
        if progress.stop_requested():
            raise Stopped(f"stopped; the Slurm job {array.job_id} is cancelled, and what it finished is kept.")
        if not _output("squeue", "--noheader", "--jobs", array.job_id, tolerate=True):
            settled_s = time.monotonic() + SETTLE_S
            while array.get_incomplete_ranks() and not _failed(array) and time.monotonic() < settled_s:
                time.sleep(POLL_S[0])
            return
        time.sleep(poll_s)
        poll_s = min(1.5 * poll_s, POLL_S[1])


def _failed(array: JobArray) -> bool:
    return any((array.marks / "errors").glob("*.txt"))


def _output(*command: str, tolerate: bool = False) -> str:
    """What a Slurm command prints; `squeue` fails for a job that it has forgotten."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{command[0]} is not on the PATH: run this on a machine that submits jobs.") from error
    if done.returncode and not tolerate:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout.strip()


if __name__ == "__main__":
    run_array_task(Path(sys.argv[1]))
