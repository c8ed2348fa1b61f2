"""What the scenarios of `bench.faults` share: a world, the run to which nothing happens, how long an answer took."""

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from bench.faultworld import Running, World, read_lines, torchrun, wait_until
from trainer.job import TrainJob

EARLY = 80  # steps
CLOSE = 1e-3  # relative, where the order of additions is another; the table says what it was
FEW = 20  # steps before a fault


@dataclass(frozen=True)
class Found:
    """What a scenario showed."""

    survived: bool
    happened: str
    next_step_s: float | None
    same_bits: bool | None
    why_not_same: str = "-"


class Bench:
    """A world, the run to which nothing happens, and a choice of what keeps the others alive."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.plain = False
        """Under torchrun alone."""
        self._runs = 0

    def job(self, **place: object) -> TrainJob:
        """A job with an output directory of its own."""
        self._runs += 1
        return self.world.job(f"run-{self._runs}", **place)

    def running(self, job: TrainJob, **options: Any) -> AbstractContextManager[Running]:
        """The run in the background, under what is chosen."""
        if self.plain:
            options["command"] = torchrun(job.output.with_suffix(".json"))
            if "fault" in options:
                options["command"][options["command"].index("trainer")] = "bench.inject"
                options["command"].insert(options["command"].index("bench.inject") + 1, "trainer")
        return self.world.running(job, **options)

    @cached_property
    def untouched(self) -> TrainJob:
        """The run to which nothing happens: two ranks, always unattended."""
        job = self.world.job("untouched")
        with self.world.running(job) as run:
            if run.wait() != 0:
                raise RuntimeError(f"the run to which nothing happens failed: {job.output.with_suffix('.log')}")
        return job

    def deviation(self, run: Running) -> float:
        """How far the loss is from that of the untouched run, relatively, in the first `EARLY` steps.

        Infinite if a step is missing or has other sequences. Later, rounding is taken to have grown by itself.
        """
        ours, theirs = run.metrics, read_lines(self.untouched.output / "metrics.jsonl")
        if [line["digest"] for line in ours] != [line["digest"] for line in theirs]:
            return math.inf
        return max(abs(a["loss"] - b["loss"]) / b["loss"] for a, b in zip(ours[:EARLY], theirs[:EARLY], strict=True))


def next_step_s(run: Running, fault_s: float, events: Sequence[str] = ("resume",)) -> float | None:
    """Seconds from a fault to the end of the first step after the event that answers it."""
    answers = [
        seconds_of(line) for line in run.events if line["event"] in events and seconds_of(line) >= fault_s - 0.01
    ]
    ends = [line["ended_s"] for line in run.metrics if answers and line["ended_s"] >= answers[0]]
    return min(ends) - fault_s if ends else None


def seconds_of(event: dict[str, Any]) -> float:
    """When an event was, in seconds since 1970."""
    return datetime.fromisoformat(event["time"]).timestamp()


def halfway(run: Running) -> None:
    """Wait until some steps are done and a checkpoint is there."""
    wait_until(lambda: run.count("checkpoint") >= 2 and len(run.metrics) >= FEW)
