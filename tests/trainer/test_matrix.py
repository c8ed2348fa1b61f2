"""A checkpoint of 1, 2 or 4 ranks, or of 2 x 2 (two replicas of two shards), goes on with each of these."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file

from domainlm.trainer.job import Place, TrainJob, outcome, save_job

from .conftest import TINY, VOCAB, Trained, World, environment, read_lines

LAYOUTS = {"1": (1, 1), "2": (2, 2), "4": (4, 4), "2x2": (4, 2)}  # ranks, and ranks that parameters are sharded over
STOP_STEP = 9


def run_all(jobs: dict[str, list[TrainJob]], stop_step: int) -> None:
    """The jobs of each layout one after the other, by as many processes as it has."""
    work = []
    for layout, some in jobs.items():
        num_ranks, shard_ranks = LAYOUTS[layout]
        place = Place(device="cpu", microbatch_sequences=min(2, 4 // num_ranks), shard_ranks=shard_ranks)
        for job in some:
            save_job(replace(job, place=place), job.output.with_suffix(".json"))
        work.append([num_ranks, [str(job.output.with_suffix(".json")) for job in some]])
    program = [sys.executable, str(Path(__file__).with_name("matrix.py")), str(stop_step), json.dumps(work)]
    done = subprocess.run(program, env=environment(), capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-4000:]


@pytest.fixture(scope="module")
def parts(world: World) -> dict[str, Path]:
    """Runs of each layout that were stopped in the middle."""
    jobs = {layout: world.job(f"matrix-{layout}") for layout in LAYOUTS}
    run_all({layout: [job] for layout, job in jobs.items()}, STOP_STEP)
    assert {outcome(job.output) for job in jobs.values()} == {"preempted"}
    return {layout: job.output for layout, job in jobs.items()}


def test_every_row_is_written_once_whatever_the_layout(parts: dict[str, Path]) -> None:
    for layout, output in parts.items():
        files = sorted((output / "checkpoints").glob("step-*/rank-*.safetensors"))
        assert len(files) == LAYOUTS[layout][0]
        rows: dict[str, int] = {}
        for file in files:
            for name, tensor in load_file(file).items():
                rows[name] = rows.get(name, 0) + len(tensor)
        assert rows["exp_avg/model.embed_tokens.weight"] == VOCAB
        assert rows["parameter/model.layers.1.mlp.up_proj.weight"] == TINY.shape.mlp_width


@pytest.mark.parametrize("later", LAYOUTS)
def test_a_checkpoint_goes_on_with_any_layout(
    later: str, parts: dict[str, Path], uninterrupted: Trained, world: World
) -> None:
    jobs = [world.job(f"matrix-{earlier}-to-{later}") for earlier in LAYOUTS]
    for earlier, job in zip(LAYOUTS, jobs, strict=True):
        shutil.copytree(parts[earlier], job.output)
    run_all({later: jobs}, -1)
    for earlier, job in zip(LAYOUTS, jobs, strict=True):
        resumed = Trained(0, "", job.output)
        starts = [line for line in resumed.events if line["event"] in ("start", "resume")]
        assert [line["num_ranks"] for line in starts] == [LAYOUTS[earlier][0], LAYOUTS[later][0]]
        assert starts[1]["step"] == STOP_STEP + 1
        assert resumed.curve("digest") == uninterrupted.curve("digest")
        assert resumed.curve() == pytest.approx(uninterrupted.curve(), rel=1e-5)
        assert resumed.curve("grad_norm") == pytest.approx(uninterrupted.curve("grad_norm"), rel=1e-4)
        if earlier == later == "2":
            assert resumed.weights == uninterrupted.weights
        assert not read_lines(job.output / "metrics.jsonl")[-1]["skipped"]
