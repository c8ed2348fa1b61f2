"""What two documents must share to say the same: word 5-grams, quantities, and what they are about.

In: a batch of texts. Out: `Contents`, sorted sets of 64-bit hashes for each, and the comparison of pairs of them.

Similar wording is not enough. Of 4,643 pairs of consumer health pages with a Jaccard similarity of 0.75 to 0.95 and
the same numbers, nearly all described two different rare diseases in the same template (a name exchanged throughout).
So a word that one document repeats and the other lacks makes them documents on two subjects.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from domainlm.tasks.ngrams import Hashes
from domainlm.tasks.quality.kernels import kernel
from domainlm.tasks.word_hashes import (
    SHINGLE_WORDS,
    Codes,
    Ends,
    hash_words,
    num_shingles,
    shingle_at,
)

REPEATED = 2  # times that a document says a word that it is about
# Said often, about nothing in particular. Negations and words of order (not, without, before, after) stay out.
_SAID_OFTEN = (
    "a about again all also although an and any are as at be because been being both but by can could did do does "
    "each either for from had has have having how however if in into is it its may might more most of on or other our "
    "s should since so some such than that the their them then there these they this those though through thus to "
    "upon us was we were what when whereas whether which while who will with would"
)
FUNCTION_WORDS = frozenset(_SAID_OFTEN.split())

Pairs = NDArray[np.int64]


@dataclass(frozen=True)
class Sets:
    """Sorted sets, one after the other; set i ends before `ends[i]`."""

    values: Hashes
    ends: Ends

    def __getitem__(self, number: int) -> Hashes:
        return self.values[self.ends[number - 1] if number else 0 : self.ends[number]]


@dataclass(frozen=True)
class Contents:
    """Documents as they are compared: their word 5-grams, their words, and those words that they repeat."""

    shingles: Sets
    words: Sets
    repeated: Sets


def contents(texts: pa.Array) -> Contents:
    """Hash some documents; words are lower-cased, numbers stay as they are; of a short text the whole is a shingle."""
    words = hash_words(Codes.of(texts))
    rows, total = len(words.ends), len(words.hashes)
    sets = [
        Sets(np.empty(size, np.uint64), np.empty(rows, np.int64)) for size in (total + rows, total, total // REPEATED)
    ]
    shingles, unique, repeated = (one.values for one in sets)
    _fill(words.hashes, words.ends, function_words(), shingles, unique, repeated, *(one.ends for one in sets))
    return Contents(*(Sets(one.values[: one.ends[-1] if rows else 0], one.ends) for one in sets))


def compare_texts(a: str, b: str) -> tuple[float, bool]:
    """Similarity of two texts, and whether they are on the same subject."""
    scores, same_subject = compare(np.array([[0, 1]]), contents(pa.array([a, b])))
    return float(scores[0]), bool(same_subject[0])


@cache
def function_words() -> Hashes:
    """The hashes of the function words, sorted."""
    return np.sort(hash_words(Codes.of(pa.array([" ".join(sorted(FUNCTION_WORDS))]))).hashes)


def compare(pairs: Pairs, found: Contents) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Jaccard similarity of the shingles of each pair, and whether neither repeats a word that the other lacks."""
    scores, same_subject = np.empty(len(pairs), np.float32), np.empty(len(pairs), np.bool_)
    shingles, words, repeated = found.shingles, found.words, found.repeated
    _compare(
        np.ascontiguousarray(pairs),
        shingles.values,
        shingles.ends,
        words.values,
        words.ends,
        repeated.values,
        repeated.ends,
        scores,
        same_subject,
    )
    return scores, same_subject


@kernel
def _fill(
    words: Hashes,
    word_ends: Ends,
    function_words: Hashes,
    shingles: Hashes,
    unique: Hashes,
    repeated: Hashes,
    shingle_ends: Ends,
    unique_ends: Ends,
    repeated_ends: Ends,
) -> None:
    begin = np.int64(0)
    num_shingle = num_unique = num_repeated = 0
    for i in range(len(word_ends)):
        end = word_ends[i]
        count = num_shingles(int(end - begin))
        length = min(SHINGLE_WORDS, int(end - begin))
        found = np.empty(count, np.uint64)
        for k in range(count):
            found[k] = shingle_at(words, int(begin + k), length)
        found.sort()
        for k in range(count):
            if k == 0 or found[k] != found[k - 1]:
                shingles[num_shingle] = found[k]
                num_shingle += 1
        said = np.sort(words[begin:end])
        k = 0
        while k < len(said):
            after = k + 1
            while after < len(said) and said[after] == said[k]:
                after += 1
            unique[num_unique] = said[k]
            num_unique += 1
            if after - k >= REPEATED and not holds(function_words, said[k]):
                repeated[num_repeated] = said[k]
                num_repeated += 1
            k = after
        shingle_ends[i], unique_ends[i], repeated_ends[i] = num_shingle, num_unique, num_repeated
        begin = end


@kernel
def _compare(
    pairs: Pairs,
    shingles: Hashes,
    shingle_ends: Ends,
    words: Hashes,
    word_ends: Ends,
    repeated: Hashes,
    repeated_ends: Ends,
    scores: NDArray[np.float32],
    same_subject: NDArray[np.bool_],
) -> None:
    for i in range(len(pairs)):
        a, b = pairs[i, 0], pairs[i, 1]
        one, other = slice_of(shingles, shingle_ends, a), slice_of(shingles, shingle_ends, b)
        common = num_common(one, other)
        scores[i] = common / (len(one) + len(other) - common)
        said_a, said_b = slice_of(repeated, repeated_ends, a), slice_of(repeated, repeated_ends, b)
        same_subject[i] = num_common(said_a, slice_of(words, word_ends, b)) == len(said_a) and num_common(
            said_b, slice_of(words, word_ends, a)
        ) == len(said_b)


@kernel
def slice_of(values: Hashes, ends: Ends, number: int) -> Hashes:
    """One of several sets."""
    return values[ends[number - 1] if number else 0 : ends[number]]


@kernel
def num_common(one: Hashes, other: Hashes) -> int:
    """How many members two sorted sets share."""
    i = j = common = 0
    while i < len(one) and j < len(other):
        if one[i] == other[j]:
            common += 1
            i += 1
            j += 1
        elif one[i] < other[j]:
            i += 1
        else:
            j += 1
    return common


@kernel
def holds(some: Hashes, one: np.uint64) -> bool:
    """Whether a sorted set holds a hash."""
    place = np.searchsorted(some, one)
    return bool(place < len(some) and some[place] == one)
