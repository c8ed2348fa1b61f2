"""Which documents are duplicates of which, from their sketches: pure, in rows of numpy arrays, no text.

In: the digests, quantities and band keys of all documents (`minhash.sketch`), each document's place in the order of
preference, and a way to get the contents of some of them. Out: the survivor of each document, and every pair that was
compared. Memory is some arrays with a number a document and some with a number a pair, never an object for either.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from domainlm.tasks.comparison import Contents, compare
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
    pairs: NDArray[np.void]

    @property
    def is_near(self) -> NDArray[np.bool_]:
        """Whether a document was dropped for one that is not its equal."""
        near: NDArray[np.bool_] = (self.survivor != np.arange(len(self.survivor))) & ~self.is_exact
        return near


def find_duplicates(
    leader: Rows,
    quantities: Hashes,
    bands: Iterable[Hashes],
    *,
    preference: Rows,
    min_jaccard: float,
    contents_of: Callable[[Rows], Contents],
) -> Duplicates:
    """Near-duplicates among the leaders: those that `first_of_equals` chose, one of each set of equal documents."""
    is_exact = leader != np.arange(len(leader))
    unique = np.flatnonzero(~is_exact)
    candidates = unique[candidate_pairs((keys[unique] for keys in bands), quantities[unique])]
    compared = np.unique(candidates)
    check = ExactCheck(compared, contents_of(compared), quantities, min_jaccard)
    near = check.pairs(candidates)
    survivor, more = survivors(near, check, preference)
    equal = np.flatnonzero(is_exact)
    exact = _pairs(leader[equal], equal, np.ones(len(equal), np.float32), np.full(len(equal), DUPLICATE), exact=True)
    return Duplicates(survivor[leader], is_exact, _each_once(np.concatenate([exact, near, more]), len(leader)))


@dataclass(frozen=True)
class ExactCheck:
    """Decides on pairs of the `compared` rows (sorted), whose contents are given in the same order."""

    compared: Rows
    contents: Contents
    quantities: Hashes
    min_jaccard: float

    def pairs(self, pairs: Rows) -> NDArray[np.void]:
        """Score and decision of each pair of rows."""
        scores, same_subject = compare(np.searchsorted(self.compared, pairs), self.contents)
        same_quantities = self.quantities[pairs[:, 0]] == self.quantities[pairs[:, 1]]
        decisions = np.select(
            [scores < np.float32(self.min_jaccard), ~same_quantities, ~same_subject],
            [BELOW, DIFFERENT_QUANTITIES, DIFFERENT_SUBJECTS],
            DUPLICATE,
        )
        return _pairs(pairs[:, 0], pairs[:, 1], scores, decisions, exact=False)


def first_of_equals(digests: Hashes, preference: Rows) -> Rows:
    """For each row the preferred one of those with its digest (two columns)."""
    order = np.lexsort((preference, digests[:, 1], digests[:, 0]))
    first = np.ones(len(order), dtype=np.bool_)
    for column in range(digests.shape[1]):
        ordered = digests[order, column]
        differs = ordered[1:] != ordered[:-1]
        first[1:] = differs if column == 0 else first[1:] | differs
    leader = np.empty(len(order), dtype=np.int64)
    leader[order] = order[np.maximum.accumulate(np.where(first, np.arange(len(order)), 0))]
    return leader


def survivors(pairs: NDArray[np.void], check: ExactCheck, preference: Rows) -> tuple[Rows, NDArray[np.void]]:
    """The survivor of each row, and the pairs that were compared to find it.

    In each connected group of duplicates the preferred row survives, with it go all that are its own duplicates; what
    is left, linked to it only through others, is asked again.
    """
    survivor = np.arange(len(preference))
    compared = []
    rows, groups = _groups(pairs[pairs["decision"] == DUPLICATE])
    order = np.lexsort((preference[rows], groups))
    rows, groups = rows[order], groups[order]
    while len(rows):
        starts = np.flatnonzero(np.diff(groups, prepend=-1))
        first = np.repeat(rows[starts], np.diff(np.append(starts, len(rows))))
        others = first != rows
        asked = check.pairs(np.sort(np.stack([first[others], rows[others]], axis=1), axis=1))
        compared.append(asked)
        its_own = asked["decision"] == DUPLICATE
        survivor[rows[others][its_own]] = first[others][its_own]
        rows, groups = rows[others][~its_own], groups[others][~its_own]
    return survivor, np.concatenate([np.empty(0, dtype=PAIR), *compared])


def _groups(duplicates: NDArray[np.void]) -> tuple[Rows, Rows]:
    """The rows that are linked, and the number of the group of each."""
    rows, ends = np.unique(np.concatenate([duplicates["a"], duplicates["b"]]), return_inverse=True)
    a, b = np.split(ends, 2)
    links = coo_array((np.ones(len(a), dtype=np.int8), (a, b)), shape=(len(rows), len(rows)))
    _, labels = connected_components(links, directed=False) if len(rows) else (0, np.empty(0, dtype=np.int64))
    return rows, labels.astype(np.int64)


def _pairs(a: Rows, b: Rows, scores: NDArray[np.float32], decisions: Rows, *, exact: bool) -> NDArray[np.void]:
    pairs = np.empty(len(a), dtype=PAIR)
    pairs["a"], pairs["b"] = np.minimum(a, b), np.maximum(a, b)
    pairs["exact"], pairs["jaccard"], pairs["decision"] = exact, scores, decisions
    return pairs


def _each_once(pairs: NDArray[np.void], num_rows: int) -> NDArray[np.void]:
    """The pairs in order; one that was asked for twice has the same answer twice."""
    _, places = np.unique(pairs["a"] * num_rows + pairs["b"], return_index=True)
    return pairs[places]
