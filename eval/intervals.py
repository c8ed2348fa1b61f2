"""Intervals: Wilson for proportions, a seeded bootstrap over questions or documents for everything else."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

CONFIDENCE_Z = 1.959964  # two-sided 95 %
NUM_RESAMPLES = 2000
ROWS_AT_ONCE = 200  # resamples held in memory together

Floats = NDArray[np.float64]


def wilson(num_correct: int, num_questions: int) -> tuple[float, float]:
    """95 % interval of a proportion (Wilson 1927), sensible at 0 and 1 too."""
    z2, n, p = CONFIDENCE_Z**2, num_questions, num_correct / num_questions
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = CONFIDENCE_Z / (1 + z2 / n) * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def resampled_ratios(numerators: Sequence[float], denominators: Sequence[float], seed: int) -> Floats:
    """Ratios of sums over `NUM_RESAMPLES` resamples of the items. With denominators of 1 they are means."""
    pairs = np.column_stack([np.asarray(numerators, float), np.asarray(denominators, float)])
    num_items, generator = len(pairs), np.random.default_rng(seed)
    even = np.full(num_items, 1 / num_items)
    sums = [
        generator.multinomial(num_items, even, size=ROWS_AT_ONCE) @ pairs for _ in range(NUM_RESAMPLES // ROWS_AT_ONCE)
    ]
    stacked = np.concatenate(sums)
    return np.asarray(stacked[:, 0] / stacked[:, 1], dtype=np.float64)


def percentiles(resamples: Floats) -> tuple[float, float]:
    """The 2.5th and the 97.5th percentile."""
    low, high = np.percentile(resamples, [2.5, 97.5])
    return float(low), float(high)
