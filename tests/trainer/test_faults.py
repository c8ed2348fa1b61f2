"""Faults, with real processes under torchrun: two gloo ranks, one thread each."""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from domainlm.trainer.assemble import assemble
from domainlm.trainer.config import TrainConfig
from domainlm.trainer.job import Place, TrainJob, outcome
from domainlm.trainer.loop import Run
from domainlm.trainer.ranks import Ranks
from domainlm.trainer.supervisor import descendants

from .conftest import TINY, Trained, World, command, environment, read_lines

OFTEN = Place(device="cpu", microbatch_sequences=2, checkpoint_every_s=0.01)


@contextmanager
def launched(job: TrainJob, *, max_restarts: int = 0) -> "Iterator[subprocess.Popen[bytes]]":
    """The trainer on two ranks, going on in the background."""
    arguments = command(job, 2)
    arguments.insert(arguments.index("--standalone"), f"--max-restarts={max_restarts}")
    with job.output.with_suffix(".log").open("wb") as log:
        process = subprocess.Popen(arguments, env=environment(), stdout=log, stderr=log)
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def wait_until(true: Callable[[], bool], *, seconds: float = 120) -> None:
    """Look every few milliseconds."""
    deadline_s = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline_s, "waited in vain"
        time.sleep(0.005)


def events(job: TrainJob) -> list[str]:
    """Names of the events so far."""
    path = job.output / "events.jsonl"
    return [json.loads(line)["event"] for line in path.read_text().splitlines()] if path.is_file() else []


def ranks_below(pid: int) -> list[int]:
    """Processes below `pid` that are ranks."""
    return [child for child in descendants(pid) if Path(f"/proc/{child}/comm").read_text().startswith("rank ")]


def resume_here(job: TrainJob, ranks: Ranks) -> Trained:
    """Go on in this process, as one rank."""
    return Trained(Run(job, ranks, assemble(job, ranks)).train(), "", job.output)


@pytest.fixture(scope="module")
def preempted(world: World) -> Path:
    """The output of two ranks that were asked to stop in the middle."""
    job = world.job("preempted", place=OFTEN)
    with launched(job) as process:
        wait_until(lambda: events(job).count("checkpoint") >= 2)
        for pid in ranks_below(process.pid)[:1]:  # one rank is told, all must agree
            os.kill(pid, signal.SIGTERM)
        process.wait(timeout=60)
    return job.output


def copied(preempted: Path, world: World, name: str, place: Place = OFTEN) -> TrainJob:
    """The preempted run in a directory of its own."""
    job = world.job(name, place=place)
    shutil.copytree(preempted, job.output)
    return job


def test_two_ranks_train_as_one_does(uninterrupted: Trained, world: World, ranks: Ranks) -> None:
    alone = resume_here(world.job("alone"), ranks)
    assert uninterrupted.code == alone.code == 0, uninterrupted.stderr
    assert alone.curve("digest") == uninterrupted.curve("digest")
    assert alone.curve() == pytest.approx(uninterrupted.curve(), rel=1e-5)


def test_kill_9_of_a_rank_ends_in_the_same_bits(uninterrupted: Trained, world: World) -> None:
    job = world.job("killed", place=OFTEN)
    with launched(job, max_restarts=1) as process:
        wait_until(lambda: events(job).count("checkpoint") >= 2)
        os.kill(ranks_below(process.pid)[1], signal.SIGKILL)
        assert process.wait(timeout=120) == 0
    killed = Trained(0, "", job.output)
    names = [line["event"] for line in killed.events]
    assert names[0] == "start"
    assert names.count("resume") == 1
    assert killed.weights == uninterrupted.weights
    for key in ("step", "digest", "loss", "grad_norm", "lr"):
        assert killed.curve(key) == uninterrupted.curve(key)


def test_sigterm_to_one_rank_leaves_a_checkpoint_and_exit_75(preempted: Path) -> None:
    assert outcome(preempted) == "preempted"
    log = preempted.with_suffix(".log").read_text()
    assert "exitcode  : 75" in log
    stopped_at = json.loads((preempted / "preempted.json").read_text())["step"]
    assert (preempted / "checkpoints/LATEST").read_text().strip() == f"step-{stopped_at:08d}"
    assert len(read_lines(preempted / "metrics.jsonl")) == stopped_at
    assert len(list((preempted / "checkpoints").glob("step-*/manifest.json"))) == 2


def test_a_checkpoint_of_two_ranks_goes_on_with_one(
    preempted: Path, uninterrupted: Trained, world: World, ranks: Ranks
) -> None:
    resumed = resume_here(copied(preempted, world, "fewer"), ranks)
    assert resumed.code == 0
    assert "resume" in [line["event"] for line in resumed.events]
    assert outcome(resumed.output) == "done"
    assert resumed.curve("digest") == uninterrupted.curve("digest")
    assert resumed.curve() == pytest.approx(uninterrupted.curve(), rel=1e-5)


@pytest.mark.parametrize("file", ["rank-00001.safetensors", "state.json"])
def test_a_flipped_bit_falls_back_to_the_checkpoint_before(
    file: str, preempted: Path, uninterrupted: Trained, world: World, ranks: Ranks
) -> None:
    job = copied(preempted, world, f"flipped-{file}")
    newest = job.output / "checkpoints" / (job.output / "checkpoints/LATEST").read_text().strip()
    data = bytearray((newest / file).read_bytes())
    data[len(data) // 2] ^= 1
    (newest / file).write_bytes(data)
    resumed = resume_here(job, ranks)
    damaged = [line for line in resumed.events if line["event"] == "damaged_checkpoint"]
    assert [(line["checkpoint"], line["problem"]) for line in damaged] == [(newest.name, f"{file} has another sha256")]
    assert (newest.with_name(f"damaged-{newest.name}") / file).is_file()
    resume = next(line for line in resumed.events if line["event"] == "resume")
    assert float(resume["step"] or 0) < float(damaged[0]["step"] or 0)
    assert resumed.curve("step") == list(range(24))
    assert resumed.curve() == pytest.approx(uninterrupted.curve(), rel=1e-5)


def test_a_checkpoint_of_another_config_is_refused(preempted: Path, world: World, ranks: Ranks) -> None:
    job = copied(preempted, world, "changed")
    other = TrainConfig(model=TINY, precision="fp32", export_precision="fp32", peak_lr=2e-2)
    changed = world.job("changed", config=other)
    with pytest.raises(ValueError, match=r"belongs to another run: config\.peak_lr was 0\.01 and is 0\.02"):
        resume_here(changed, ranks)
    assert len(read_lines(job.output / "metrics.jsonl")) < 24


def test_one_rank_resumes_from_its_own_checkpoint_to_the_same_bits(world: World, ranks: Ranks) -> None:
    whole = resume_here(world.job("whole"), ranks)
    job = world.job("parts", place=OFTEN)
    first = Run(job, ranks, assemble(job, ranks))
    first.stop_asked = True  # as SIGTERM would: stops after the first step
    assert first.train() == 75
    second = Run(job, ranks, assemble(job, ranks))
    for batch in second.parts.loader.batches(second.restore()):
        second._step(batch)
        if batch.step == 7:
            break  # lost without a checkpoint: steps 1 to 7 are trained again
    resumed = resume_here(job, ranks)
    assert resumed.curve() == whole.curve()
    assert resumed.weights == whole.weights


def test_a_restart_makes_no_initial_weights_unless_its_checkpoints_are_damaged(world: World, ranks: Ranks) -> None:
    whole = resume_here(world.job("calm"), ranks)
    job = world.job("again", place=OFTEN)
    first = Run(job, ranks, assemble(job, ranks))
    first.stop_asked = True
    assert first.train() == 75
    parts = assemble(job, ranks)
    assert first.parts.has_initial
    assert not parts.has_initial
    for tensors in (job.output / "checkpoints").glob("step-*/*.safetensors"):
        tensors.write_bytes(tensors.read_bytes()[:-1])
    assert Run(job, ranks, parts).train() == 0  # from the beginning, and with what the run began with
    assert Trained(0, "", job.output).weights == whole.weights
