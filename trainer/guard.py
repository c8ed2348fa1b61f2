"""The guard: tells a loss spike from noise by a robust window, which a checkpoint carries along.

Median and MAD, not mean and deviation: one NaN or one spike would poison those for the whole window (in OLMo-core 3.0.0
129 steps in a row were skipped for it). High and non-finite losses never enter.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from .config import GuardConfig

NORMAL = 1.4826  # MAD of a normal distribution times this is its standard deviation
LEAST_DEVIATION = 0.01  # of the median: a loss that stands still has no spread at all


@dataclass(frozen=True)
class Spike:
    """Losses of `first`..`last` were high. The step before them is suspected, too: its update came just before."""

    first: int
    last: int
    loss: float
    threshold: float

    @property
    def suspects(self) -> range:
        """Steps whose sequences may have caused it."""
        return range(max(0, self.first - 1), self.last + 1)


class Guard:
    """Watches the losses of a run, step by step."""

    def __init__(self, config: GuardConfig, losses: Sequence[float] = (), high_steps: Sequence[int] = ()) -> None:
        self.config = config
        self.losses = list(losses)
        """The window: the newest losses that were normal."""
        self.high_steps = list(high_steps)
        """Steps in a row, up to now, whose loss was high."""

    def watch(self, step: int, loss: float) -> Spike | None:
        """Take the loss of a step into account; the spike that it completes, if it does."""
        threshold = self.threshold()
        if not math.isfinite(loss):
            return None
        if loss <= threshold:
            self.losses = [*self.losses, loss][-self.config.window_steps :]
            self.high_steps = []
            return None
        self.high_steps.append(step)
        if len(self.high_steps) < self.config.patience_steps:
            return None
        return Spike(self.high_steps[0], step, loss, threshold)

    def threshold(self) -> float:
        """A loss above it is high; infinite while there are too few to judge by."""
        if len(self.losses) < max(2, self.config.window_steps // 4):
            return math.inf
        return high_above(self.losses, self.config.deviations)


def high_above(values: Sequence[float], deviations: float) -> float:
    """Median plus so many robust standard deviations."""
    middle = statistics.median(values)
    spread = NORMAL * statistics.median(abs(value - middle) for value in values)
    return middle + deviations * max(spread, LEAST_DEVIATION * middle)
