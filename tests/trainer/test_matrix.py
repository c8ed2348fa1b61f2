"""A checkpoint of 1, 2 or 4 ranks goes on with 1, 2 or 4."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from domainlm.trainer.job import TrainJob, outcome, save_job

from .conftest import Trained, World, environment, read_lines

SIZES = (1, 2, 4)
STOP_STEP = 9


def run_all(jobs: list[TrainJob], num_ranks: int, stop_step: int) -> None:
    """The jobs one after the other, by `num_ranks` processes."""
    paths = []
    for job in jobs:
        save_job(job, job.output.with_suffix(".json"))
        paths.append(str(job.output.with_suffix(".json")))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={num_ranks}"]
    program = [str(Path(__file__).with_name("matrix.py")), str(stop_step), *paths]
    done = subprocess.run([*torchrun, *program], env=environment(), capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-4000:]


@pytest.fixture(scope="module")
def parts(world: World) -> dict[int, Path]:
    """Runs of each size that were stopped in the middle."""
    jobs = {size: world.job(f"matrix-{size}") for size in SIZES}
    for size, job in jobs.items():
        run_all([job], size, STOP_STEP)
        assert outcome(job.output) == "preempted"
        assert len(list((job.output / "checkpoints").glob("step-*/rank-*.safetensors"))) == size
    return {size: job.output for size, job in jobs.items()}


@pytest.mark.parametrize("later", SIZES)
def test_a_checkpoint_goes_on_with_any_number_of_ranks(
    later: int, parts: dict[int, Path], uninterrupted: Trained, world: World
) -> None:
    jobs = [world.job(f"matrix-{earlier}-to-{later}") for earlier in SIZES]
    for earlier, job in zip(SIZES, jobs, strict=True):
        shutil.copytree(parts[earlier], job.output)
    run_all(jobs, later, -1)
    for earlier, job in zip(SIZES, jobs, strict=True):
        resumed = Trained(0, "", job.output)
        starts = [line for line in resumed.events if line["event"] in ("start", "resume")]
        assert [line["num_ranks"] for line in starts] == [earlier, later]
        assert starts[1]["step"] == STOP_STEP + 1
        assert resumed.curve("digest") == uninterrupted.curve("digest")
        assert resumed.curve() == pytest.approx(uninterrupted.curve(), rel=1e-5)
        if earlier == later == 2:
            assert resumed.weights == uninterrupted.weights
        assert not read_lines(job.output / "metrics.jsonl")[-1]["skipped"]
