"""Trunk and branches: a run that goes on from a trunk is the run that would have come there by itself, bit for bit."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from domainlm.trainer.assemble import assemble
from domainlm.trainer.config import ScheduleConfig, TrainConfig
from domainlm.trainer.job import TrainJob
from domainlm.trainer.ledger import Ledger
from domainlm.trainer.loop import Run
from domainlm.trainer.mixture import load_mixture, save_mixture
from domainlm.trainer.ranks import Ranks
from domainlm.trainer.skips import untrained_steps

from .conftest import Trained, World

BATCH = 256
FLAT = ScheduleConfig(name="constant", warmup_tokens=4 * BATCH)
DOWN = ScheduleConfig(name="wsd", warmup_tokens=4 * BATCH, decay_tokens=8 * BATCH)


def job_of(world: World, name: str, schedule: ScheduleConfig, steps: int, trunk: Path | None = None) -> TrainJob:
    """So many steps of the world's mixture."""
    path = world.root / f"mixture-{steps}.json"
    save_mixture(dataclasses.replace(world.mixture, token_budget=steps * BATCH), path)
    config = dataclasses.replace(world.job(name).config, schedule=schedule)
    return world.job(name, mixture=path, config=config, trunk=trunk)


def run_here(job: TrainJob, ranks: Ranks, stop_step: int = -1) -> Trained:
    """Train a job in this process; `stop_step` is where SIGTERM would come."""
    run = Run(job, ranks, assemble(job, ranks))
    step = run._step

    def watched(batch, *, data_s=0.0):  # type: ignore[no-untyped-def]
        run.stop_asked = batch.step == stop_step
        return step(batch, data_s=data_s)

    run._step = watched  # type: ignore[method-assign]
    return Trained(run.train(), "", job.output)


@pytest.fixture(scope="module")
def trunk(world: World, ranks: Ranks) -> Path:
    return run_here(job_of(world, "trunk", FLAT, 16), ranks).output / "state"


def test_a_branch_is_bit_for_bit_the_run_that_decays_by_itself(world: World, ranks: Ranks, trunk: Path) -> None:
    alone = run_here(job_of(world, "alone", DOWN, 24), ranks)
    branch = run_here(job_of(world, "branch", DOWN, 24, trunk), ranks)
    assert branch.weights == alone.weights
    assert [line["step"] for line in branch.metrics] == list(range(16, 24))
    for key in ("loss", "lr", "digest", "tokens"):
        assert branch.curve(key) == alone.curve(key)[16:]
    assert [line["event"] for line in branch.events] == ["start", "done"]
    assert not (branch.output / "state").exists()


def test_a_trunk_goes_on_as_if_it_had_never_ended(world: World, ranks: Ranks, trunk: Path) -> None:
    whole = run_here(job_of(world, "whole", FLAT, 24), ranks)
    longer = run_here(job_of(world, "longer", FLAT, 24, trunk), ranks)
    assert longer.weights == whole.weights
    (one,), (other,) = (list((run.output / "state").glob("*/rank-*.safetensors")) for run in (whole, longer))
    assert one.read_bytes() == other.read_bytes()


def test_a_branch_that_was_stopped_goes_on_from_its_own_checkpoint(world: World, ranks: Ranks, trunk: Path) -> None:
    job = job_of(world, "stopped-branch", DOWN, 24, trunk)
    assert run_here(job, ranks, stop_step=19).code == 75
    shutil.copytree(trunk, job.output.with_name("moved"))
    resumed = run_here(dataclasses.replace(job, trunk=job.output.with_name("moved")), ranks)
    assert [line["step"] for line in resumed.metrics] == list(range(16, 24))
    resume = next(line for line in resumed.events if line["event"] == "resume")
    assert (resume["step"], resume["redone_steps"], resume["metrics_lost"]) == (20, 0, 0)
    assert resumed.weights == run_here(job_of(world, "unstopped", DOWN, 24, trunk), ranks).weights


def test_the_ledger_accounts_for_trunk_and_branch_together(world: World, ranks: Ranks, trunk: Path) -> None:
    job = job_of(world, "ledger-branch", DOWN, 24, trunk)
    done = json.loads((run_here(job, ranks).output / "done.json").read_text())
    accounting = Ledger(load_mixture(job.mixture), world.directories, untrained_steps(job.output)).accounting()
    assert sum(corpus.trained_tokens for corpus in accounting.corpora) == done["tokens"] == 24 * BATCH
    assert (done["trunk_tokens"], done["steps"]) == (16 * BATCH, 24)


@pytest.mark.parametrize(
    ("schedule", "steps", "change", "says"),
    [
        (
            dataclasses.replace(DOWN, decay_tokens=12 * BATCH),
            24,
            {},
            r"the trunk's rate at step 12 was 0\.01, and this",
        ),
        (dataclasses.replace(DOWN, warmup_tokens=BATCH), 24, {}, "rate at step 0 was .* give warmup_tokens in both"),
        (DOWN, 16, {}, r"has 16 steps, and the token budget only 16: raise token_budget above 4,096"),
        (DOWN, 24, {"seed": 1}, r"is of another run: config\.seed was 0 and is 1\. Only token_budget and schedule may"),
    ],
)
def test_a_run_that_would_not_have_come_to_the_trunk_is_refused(
    world: World, ranks: Ranks, trunk: Path, schedule: ScheduleConfig, steps: int, change: dict[str, int], says: str
) -> None:
    job = job_of(world, "refused", schedule, steps, trunk)
    config: TrainConfig = dataclasses.replace(job.config, **change)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=says):
        assemble(dataclasses.replace(job, config=config), ranks)


def test_a_flipped_bit_in_a_trunk_is_found_and_the_trunk_left_as_it_is(
    world: World, ranks: Ranks, trunk: Path, tmp_path: Path
) -> None:
    shutil.copytree(trunk, tmp_path / "state")
    file = next((tmp_path / "state").glob("*/rank-00000.safetensors"))
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    job = job_of(world, "flipped", DOWN, 24, tmp_path / "state")
    with pytest.raises(ValueError, match=r"is damaged \(rank-00000\.safetensors has another sha256\); build the stage"):
        Run(job, ranks, assemble(job, ranks)).train()
    assert file.exists()


def test_a_branch_makes_no_weights_that_its_trunk_replaces(world: World, ranks: Ranks, trunk: Path) -> None:
    assert not assemble(job_of(world, "parts", DOWN, 24, trunk), ranks).has_initial


def test_a_directory_without_a_state_is_no_trunk(world: World, ranks: Ranks) -> None:
    with pytest.raises(FileNotFoundError, match=r"no state lies there; give the `state` directory of a finished run"):
        assemble(job_of(world, "none", DOWN, 24, world.root), ranks)
