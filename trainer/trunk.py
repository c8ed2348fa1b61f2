"""A trunk: a run at a flat rate, from whose end others go on: to a longer trunk, or down to a model that is released.

    out/state/step-00000440/     of a run with schedule `constant`: its last checkpoint, as content
    train.json: {"trunk": "/path/out/state", ...}     of a run that goes on from there

WSD takes its rate down at the end only, so every length needs no more than a decay of its own (Hu et al. 2024, section
4; Hägele et al. 2024). A run that goes on from a trunk is the run that would have come to that state by
itself: same mixture but for its budget, same model, same rate at every step before. That is checked, so the ledger of
its mixture holds for trunk and branch together, and no step is anybody's guess.
"""

import json
from pathlib import Path

from . import strict
from .checkpoint import Checkpointer, Json, State, differences
from .config import ScheduleConfig, TrainConfig
from .job import STATE, TrainJob
from .mixture import Mixture
from .optimizer import ShardedOptimizer
from .ranks import Ranks
from .shards import file_sha256

FREE = ("mixture.token_budget", "config.schedule.", "trunk")  # what may be another in a run that goes on


def leave_state(job: TrainJob, ranks: Ranks, optimizer: ShardedOptimizer, state: State) -> None:
    """Write the end of a run at a flat rate for others to go on from; a disk without room is an OSError."""
    checkpoints = Checkpointer(job.output / STATE, ranks, keep=1)
    checkpoints.begin(state, optimizer)
    if not checkpoints.wait():
        raise OSError(
            f"{job.output / STATE} could not be written: {checkpoints.failure}; make room, and run this again."
        )
    checkpoints.complete()


def trunk_digest(trunk: Path | None) -> str | None:
    """What tells one trunk's state from another."""
    return None if trunk is None else file_sha256(_newest(trunk) / "manifest.json")


def first_step(trunk: Path | None) -> int:
    """The first step that a run trains by itself."""
    return 0 if trunk is None else int(_read_state(trunk)["step"])


def check_trunk(trunk: Path, identity: Json, mixture: Mixture, config: TrainConfig) -> None:
    """Raise ValueError unless this run would have come to the trunk's state by itself."""
    state = _read_state(trunk)
    found, step = state["identity"], int(state["step"])
    changed = [text for text in differences(found, identity) if not text.startswith(FREE)]
    if changed:
        raise ValueError(
            f"the trunk {trunk} is of another run: {'; '.join(changed)}. Only token_budget and schedule may differ; "
            f"give the trunk's settings, or leave `trunk` out."
        )
    if step >= mixture.num_steps:
        raise ValueError(
            f"the trunk {trunk} has {step:,} steps, and the token budget only {mixture.num_steps:,}: raise "
            f"token_budget above {step * mixture.batch_tokens:,}, for it counts the trunk's tokens, too."
        )
    before = strict.parse(ScheduleConfig, found["config"]["schedule"])
    budget = found["mixture"]["token_budget"]
    for number in range(step):
        middle = (number + 0.5) * mixture.batch_tokens
        was = before.learning_rate(middle, token_budget=budget, peak=config.peak_lr)
        now = config.schedule.learning_rate(middle, token_budget=mixture.token_budget, peak=config.peak_lr)
        if was != now:
            raise ValueError(
                f"the trunk's rate at step {number:,} was {was:g}, and this schedule says {now:g}: give "
                f"warmup_tokens in both recipes, and a decay that begins after the trunk's "
                f"{step * mixture.batch_tokens:,} tokens."
            )


def load_trunk(trunk: Path, ranks: Ranks, optimizer: ShardedOptimizer) -> State:
    """The trunk's weights, moments and position."""

    def refuse(path: Path, problem: str) -> None:
        raise ValueError(f"the trunk {path} is damaged ({problem}); build the stage that it comes from again.")

    state = Checkpointer(trunk, ranks, keep=1).load_latest(optimizer, None, on_damaged=refuse)
    assert state is not None  # `check_trunk` has read it
    return state


def _read_state(trunk: Path) -> Json:
    state: Json = json.loads((_newest(trunk) / "state.json").read_text(encoding="utf-8"))
    return state


def _newest(trunk: Path) -> Path:
    if not (trunk / "LATEST").is_file():
        raise FileNotFoundError(
            f"`trunk` is {trunk}, but no state lies there; give the `state` directory of a finished run with schedule "
            f"`constant`."
        )
    return trunk / (trunk / "LATEST").read_text(encoding="utf-8").strip()
