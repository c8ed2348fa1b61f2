"""Opinions: what one check of a rule says of every document of a table of annotations.

A check compares one measure with one threshold, which is a setting of its rule; the threshold is in no annotation, so
that another one is a query over numbers.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Opinion:
    """One check of a rule: the rows that it objects to, whose fate is `fate`, and what was found in any row."""

    rule: str
    check: str
    threshold: str
    objects: Rows
    found: Callable[[Rows], list[str]]
    fate: str


@dataclass(frozen=True)
class Check:
    """A measure must not be below `least`, nor above `most`: one of them is given, by the setting `setting`."""

    measure: str
    setting: str
    least: float | None = None
    most: float | None = None

    def opinion(self, rule: str, annotations: pa.Table) -> Opinion:
        """The rows beyond the threshold; one without a measure is within it."""
        measured = annotations[self.measure]
        beyond = pc.less(measured, self.least) if self.least is not None else pc.greater(measured, self.most)
        name = self.measure.removeprefix(f"{rule}.")

        def found(rows: Rows) -> list[str]:
            return [name if value is None else f"{name} {value:.6g}" for value in measured.take(rows).to_pylist()]

        threshold = self.least if self.least is not None else self.most
        return Opinion(rule, self.setting, f"{self.setting} {threshold:g}", rows_where(beyond), found, fate=rule)


def at_least(measure: str, setting: str, threshold: float) -> Check:
    """A check that objects to less."""
    return Check(measure, setting, least=threshold)


def at_most(measure: str, setting: str, threshold: float) -> Check:
    """A check that objects to more."""
    return Check(measure, setting, most=threshold)


def rows_where(condition: pa.ChunkedArray) -> Rows:
    """The rows where a condition is true; unknown is not true."""
    return np.flatnonzero(pc.fill_null(condition, False).to_numpy())
