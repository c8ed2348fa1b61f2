"""Which documents are duplicates of which, from their sketches: pure, in rows of numpy arrays, no text.

In: the sketches of all documents (`minhash.sketch`), each document's place in the order of preference, and a way to
get the content of some of them. Out: the survivor of each document, and every pair that was compared.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from domainlm.tasks.comparison import Content, jaccard, same_subject
from domainlm.tasks.minhash import candidate_pairs
from domainlm.tasks.ngrams import Hashes

Rows = NDArray[np.int64]
DECISIONS = ("below threshold", "different quantities", "different subjects", "duplicate")
BELOW, DIFFERENT_QUANTITIES, DIFFERENT_SUBJECTS, DUPLICATE = range(len(DECISIONS))
PAIR = np.dtype([("a", "<i8"), ("b", "<i8"), ("exact", "?"), ("jaccard", "<f4"), ("decision", "i1")])


@dataclass(frozen=True)
class Duplicates:
    """`survivor[row]` is the row that is kept for it, itself if it is kept; `pairs` are rows of `PAIR`, a < b."""

    survivor: Rows
    is_exact: NDArray[np.bool_]
    is_near: NDArray[np.bool_]
    pairs: NDArray[np.void]


def find_duplicates(
    sketches: NDArray[np.void],
    *,
    preference: Rows,
    bands: int,
    min_jaccard: float,
    contents_of: Callable[[Rows], Sequence[Content]],
) -> Duplicates:
    """Equal documents first, then near-duplicates among those that are left."""
    rows = np.arange(len(sketches))
    leader = first_of_equals(sketches["exact"], preference)
    unique = rows[leader == rows]
    quantities = np.asarray(sketches["quantities"])
    candidates = unique[candidate_pairs(sketches["signature"][unique], quantities[unique], bands)].reshape(-1, 2)
    compared = np.unique(candidates)
    check = ExactCheck(compared, contents_of(compared), quantities, min_jaccard)
    pairs = check.pairs(candidates)
    survivor, more = survivors(pairs, check, preference)
    survivor = survivor[leader]
    equal = rows[leader != rows]
    exact = _pairs(leader[equal], equal, np.ones(len(equal), np.float32), np.full(len(equal), DUPLICATE), exact=True)
    is_exact = leader != rows
    return Duplicates(
        survivor=survivor,
        is_exact=is_exact,
        is_near=(survivor != rows) & ~is_exact,
        pairs=np.unique(np.concatenate([exact, pairs, check.pairs(more)])),
    )


@dataclass(frozen=True)
class ExactCheck:
    """Decides on pairs of the `compared` rows (sorted), whose contents are given in the same order."""

    compared: Rows
    contents: Sequence[Content]
    quantities: Hashes
    min_jaccard: float

    def pairs(self, pairs: Rows) -> NDArray[np.void]:
        """Score and decision of each pair of rows."""
        places = np.searchsorted(self.compared, pairs)
        same_quantities = self.quantities[pairs[:, 0]] == self.quantities[pairs[:, 1]]
        scored = [
            self._decide(self.contents[a], self.contents[b], same)
            for (a, b), same in zip(places.tolist(), same_quantities.tolist(), strict=True)
        ]
        scores = np.array([score for score, _ in scored], dtype=np.float32)
        decisions = np.array([decision for _, decision in scored], dtype=np.int64)
        return _pairs(pairs[:, 0], pairs[:, 1], scores, decisions, exact=False)

    def _decide(self, a: Content, b: Content, same_quantities: bool) -> tuple[float, int]:
        score = jaccard(a.shingles, b.shingles)
        if score < self.min_jaccard:
            return score, BELOW
        if not same_quantities:
            return score, DIFFERENT_QUANTITIES
        return score, DUPLICATE if same_subject(a, b) else DIFFERENT_SUBJECTS


def first_of_equals(digests: NDArray[np.void], preference: Rows) -> Rows:
    """For each row the preferred one of those with its digest."""
    keys = np.ascontiguousarray(digests).view([("low", "<u8"), ("high", "<u8")])
    _, group = np.unique(keys, return_inverse=True)
    best = np.full(int(group.max()) + 1, len(digests), dtype=np.int64)
    np.minimum.at(best, group, preference)
    return np.argsort(preference)[best[group]]


def survivors(pairs: NDArray[np.void], check: ExactCheck, preference: Rows) -> tuple[Rows, Rows]:
    """The survivor of each row, and the pairs that were compared to find it.

    In each connected group of duplicates the preferred row survives, with it go all that are its own duplicates; what
    is left, linked to it only through others, is asked again.
    """
    survivor = np.arange(len(preference))
    compared = [np.empty((0, 2), dtype=np.int64)]
    for group in _groups(pairs[pairs["decision"] == DUPLICATE], len(preference)):
        left = group[np.argsort(preference[group])]
        while len(left) > 1:
            first, others = left[0], left[1:]
            asked = np.sort(np.stack([np.full(len(others), first), others], axis=1), axis=1)
            its_own = check.pairs(asked)["decision"] == DUPLICATE
            survivor[others[its_own]] = first
            compared.append(asked)
            left = others[~its_own]
    return survivor, np.concatenate(compared)


def _groups(duplicates: NDArray[np.void], num_rows: int) -> Iterator[Rows]:
    """Rows that are linked, for each group of at least two, in order of their first row."""
    links = coo_array((np.ones(len(duplicates)), (duplicates["a"], duplicates["b"])), shape=(num_rows, num_rows))
    _, labels = connected_components(links, directed=False)
    linked = np.unique(np.concatenate([duplicates["a"], duplicates["b"]]))
    order = linked[np.argsort(labels[linked], kind="stable")]
    starts = np.flatnonzero(np.diff(labels[order])) + 1
    yield from (group for group in np.split(order, starts) if len(group))


def _pairs(a: Rows, b: Rows, scores: NDArray[np.float32], decisions: Rows, *, exact: bool) -> NDArray[np.void]:
    pairs = np.empty(len(a), dtype=PAIR)
    pairs["a"], pairs["b"] = np.minimum(a, b), np.maximum(a, b)
    pairs["exact"], pairs["jaccard"], pairs["decision"] = exact, scores, decisions
    return pairs
