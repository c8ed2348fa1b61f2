"""When a run saves, and what it does where it cannot: a disk without room costs a checkpoint, not the run."""

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from .checkpoint import Checkpointer, State
from .job import TrainJob
from .optimizer import ShardedOptimizer
from .ranks import Ranks
from .records import Records

log = logging.getLogger(__name__)

RETRY_AFTER_S = 60.0  # after a failure, unless checkpoints are due more often


@dataclass(frozen=True)
class Wishes:
    """What the ranks say of the checkpoint, each on its own or added up."""

    due: bool
    over: bool
    """All ranks have come to the end of their writing."""
    failed: bool
    """The disk did not take the part of one rank or more."""


class Saver:
    """The checkpoints of a run, in time. `stall_s` is how long training stood still for them since it was asked."""

    def __init__(self, job: TrainJob, ranks: Ranks, records: Records, optimizer: ShardedOptimizer) -> None:
        self.every_s = job.place.checkpoint_every_s
        self.ranks = ranks
        self.records = records
        self.optimizer = optimizer
        self.checkpoints = Checkpointer(
            job.output / "checkpoints", ranks, keep=job.place.keep_checkpoints, keep_every=job.place.keep_every_steps
        )
        self._next_s = math.inf
        self._stall_s = 0.0

    def start_clock(self) -> None:
        """Count the time to the next checkpoint from now."""
        self._next_s = time.monotonic() + self.every_s

    def wishes(self, *, may_begin: bool) -> list[float]:
        """This rank's numbers for the sum over the ranks."""
        busy = self.checkpoints.in_progress
        due = self.ranks.is_first and may_begin and not busy and time.monotonic() >= self._next_s
        return [float(due), float(busy and self.checkpoints.is_over), float(busy and self.checkpoints.has_failed)]

    def agreed(self, sums: list[float]) -> Wishes:
        """What the sums say."""
        due, num_over, num_failed = sums
        return Wishes(due > 0, num_over == self.ranks.num_ranks, num_failed > 0)

    def stall_s(self) -> float:
        """Seconds since the last question in which training stood still."""
        stall_s, self._stall_s = self._stall_s, 0.0
        return stall_s

    def after_step(self, wishes: Wishes, state: Callable[[], State]) -> None:
        """End the checkpoint that all ranks have written, and begin the one that is due."""
        began_s = time.monotonic()
        if wishes.over:
            self._end(failed=wishes.failed)
        if wishes.due:
            self._begin(state())
        self._stall_s += time.monotonic() - began_s

    def save_now(self, state: State) -> bool:
        """Save and wait for it; False if the disk did not take it."""
        self.settle()
        self._begin(state)
        return self.settle()

    def settle(self) -> bool:
        """Wait for the checkpoint that is being written, if one is."""
        if not self.checkpoints.in_progress:
            return True
        good = self.checkpoints.wait()
        return all(self.ranks.gather(self._end(failed=not good)))

    def _begin(self, state: State) -> None:
        dropped = self.checkpoints.make_room(self.optimizer)
        if dropped:
            log.warning("the disk is nearly full: checkpoints %s were deleted to make room.", ", ".join(dropped))
            self.records.event("pruned", state.step, checkpoints=dropped)
        problem: OSError | None = None
        try:
            self.records.sync()
        except OSError as error:
            problem = error
        self.checkpoints.begin(state, self.optimizer, problem)
        self.start_clock()

    def _end(self, *, failed: bool) -> bool:
        why = ""
        if not failed:
            try:
                path = self.checkpoints.complete()
            except OSError as error:
                why = str(error)
            else:
                self.records.event("checkpoint", int(path.name.removeprefix("step-")), checkpoint=path.name)
                return True
        step = self.checkpoints.step
        why = why or self.checkpoints.failure
        self.checkpoints.abandon()
        self._next_s = time.monotonic() + min(self.every_s, RETRY_AFTER_S)
        if self.ranks.is_first:
            log.error("CHECKPOINT FAILED at step %d: %s. Training goes on, and tries again; make room.", step, why)
        self.records.event("checkpoint_failed", step, problem=why)
        return False
