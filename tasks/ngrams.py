"""Word n-grams as 64-bit hashes: what decontamination looks for.

In: words. Out: numpy arrays of uint64, one hash an n-gram, in the order of the text. A word's hash is xxh3_64 of its
UTF-8 bytes; that of an n-gram is a polynomial in its words' hashes, mixed so that every bit counts. Two different
n-grams of 10^9 share a hash with a probability of about 3%, and a false match needs one at the very place.
"""

from collections.abc import Collection, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest

Hashes = NDArray[np.uint64]

_BASE = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1
# About 5 MB, emptied when full: of 15 million real words 98% are found here. A million kept, 150 MB, is slower.
CACHED_WORDS = 1 << 15


class _WordHashes(dict[str, int]):
    """Hash of a word, computed once."""

    def __missing__(self, word: str) -> int:
        if len(self) >= CACHED_WORDS:
            self.clear()
        value = self[word] = xxh3_64_intdigest(word.encode("utf-8", "surrogatepass"))
        return value


word_hashes = _WordHashes()


def hash_words(words: Sequence[str]) -> Hashes:
    """One hash a word."""
    return np.fromiter(map(word_hashes.__getitem__, words), dtype=np.uint64, count=len(words))


def hash_ngrams(words: Hashes, num_words: int) -> Hashes:
    """One hash for each run of `num_words` words; none if there are fewer."""
    found = dict(ngrams_of_lengths(words, (num_words,)))
    return found.get(num_words, np.empty(0, dtype=np.uint64))


def ngrams_of_lengths(words: Hashes, lengths: Collection[int]) -> Iterator[tuple[int, Hashes]]:
    """(n, hashes of the n-grams) for each n of `lengths`, from the shortest, as far as the text is long enough."""
    sums = np.zeros(len(words), dtype=np.uint64)
    for n in range(1, min(max(lengths, default=0), len(words)) + 1):
        sums = sums[: len(words) - n + 1] + words[n - 1 :] * np.uint64(pow(_BASE, n - 1, 1 << 64))
        if n in lengths:
            yield n, mix(sums + np.uint64(n * _BASE & _MASK))


def mix(hashes: Hashes) -> Hashes:
    """The finalizer of splitmix64 (Steele et al. 2014): a bijection, every bit of the result depends on all."""
    hashes = (hashes ^ (hashes >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    hashes = (hashes ^ (hashes >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return hashes ^ (hashes >> np.uint64(31))
