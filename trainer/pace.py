"""Stragglers: every rank times the same small piece of work now and then; the slow one is named.

The step itself does not tell: sharded ranks wait for each other in every layer, so all of them take the slowest's time.
"""

import statistics
import time
from dataclasses import dataclass

import torch

SIZE = 384  # a matrix product of this size takes about a millisecond on a CPU core
SHARE = 1 / 500  # of the time at most
EVERY_S = 5.0  # at most, on a GPU: the work takes it no time, but waiting for it to be idle does
SLOW = 1.5  # times the median
IN_A_ROW = 3  # measurements


class Pace:
    """How long the piece of work takes on this rank."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.last_s = 0.0
        self.number = 0
        self._matrix = torch.ones(SIZE, SIZE, device=device)
        self._next_s = 0.0

    def measure(self) -> None:
        """Measure, if enough time has passed since."""
        if time.monotonic() < self._next_s:
            return
        self._work()  # the first brings clock and caches into shape
        began_s = time.monotonic()
        for _ in range(3):
            self._work()
        self.last_s = (time.monotonic() - began_s) / 3
        self.number += 1
        pause_s = EVERY_S if self.device.type == "cuda" else 0.0
        self._next_s = time.monotonic() + max(pause_s, 4 * self.last_s / SHARE)

    def _work(self) -> None:
        torch.mm(self._matrix, self._matrix)
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


@dataclass(frozen=True)
class Straggler:
    """A rank that takes `ratio` times as long as the median for the same work."""

    rank: int
    ratio: float


class Watch:
    """Tells a rank that is slow from one that was slow once."""

    def __init__(self) -> None:
        self._number = 0
        self._slow_in_a_row: dict[int, int] = {}

    def look(self, paces_s: list[float], number: int) -> list[Straggler]:
        """The ranks that have now been slow for the third measurement in a row; `number` counts measurements."""
        if number == self._number or min(paces_s) <= 0:
            return []
        self._number = number
        typical_s = statistics.median_low(paces_s)
        slow = {rank: pace_s / typical_s for rank, pace_s in enumerate(paces_s) if pace_s > SLOW * typical_s}
        self._slow_in_a_row = {rank: self._slow_in_a_row.get(rank, 0) + 1 for rank in slow}
        return [Straggler(rank, round(slow[rank], 2)) for rank, n in self._slow_in_a_row.items() if n == IN_A_ROW]
