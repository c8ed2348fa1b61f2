"""Steps that a run does not train on: `skipped.json`, the decisions to leave the sequences of a spike out.

    {"rollbacks": [{"spike_step": 41, "steps": [39, 40, 41]}]}

It is on disk before the run goes on, and only grows; a checkpoint that has trained on a step which was then left out is
no longer one of this run. So the weights are those of a run that had left the steps out from its start.
"""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

from . import strict
from .files import write_json


@dataclass(frozen=True)
class Rollback:
    """One spike, and the steps that are left out since."""

    spike_step: int
    steps: tuple[int, ...]


@dataclass(frozen=True)
class Skips:
    """All rollbacks of a run, oldest first."""

    rollbacks: tuple[Rollback, ...] = ()

    @property
    def steps(self) -> frozenset[int]:
        """Steps that are not trained on."""
        return frozenset(step for rollback in self.rollbacks for step in rollback.steps)

    def near(self, step: int, window_steps: int) -> int:
        """How many rollbacks there were for spikes at most `window_steps` from `step`."""
        return sum(abs(rollback.spike_step - step) <= window_steps for rollback in self.rollbacks)

    def and_also(self, rollback: Rollback) -> "Skips":
        """These and one more."""
        return Skips((*self.rollbacks, rollback))


def load_skips(output: Path) -> Skips:
    """What the run in `output` leaves out."""
    path = output / "skipped.json"
    return strict.load(Skips, path) if path.is_file() else Skips()


def save_skips(skips: Skips, output: Path) -> None:
    """Make a decision last."""
    write_json(output / "skipped.json", dataclasses.asdict(skips))


def untrained_steps(output: Path) -> frozenset[int]:
    """The steps of a finished run that no weight has seen, by its `done.json`: left out, or not finite."""
    return frozenset(int(step) for step in json.loads((output / "done.json").read_text(encoding="utf-8"))["skipped"])
