"""Words of a batch of texts as 64-bit hashes, by kernels: what deduplication compares.

In: an Arrow array of text. Out: `Words`, the hashes of all words one after the other and where each text ends. A word
is one of `tasks.words.WORD` that begins with a letter or a digit, in lower case, numbers as they stand. Its hash is a
polynomial in its letters, mixed so that every bit counts; that of a shingle is a polynomial in its words'.
"""

import sys
from dataclasses import dataclass
from functools import cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from domainlm.tasks.ngrams import Hashes
from domainlm.tasks.quality.characters import ALNUM, WORD, Classes, Text, character_classes, code_points
from domainlm.tasks.quality.kernels import kernel
from domainlm.tasks.quality.words import word_end

Ends = NDArray[np.int64]

SHINGLE_WORDS = 5
BASE = np.uint64(0x9E3779B97F4A7C15)
POWERS = np.array([pow(int(BASE), k, 1 << 64) for k in range(SHINGLE_WORDS)], dtype=np.uint64)


@dataclass(frozen=True)
class Codes:
    """A batch of texts as code points; text i ends before `ends[i]`."""

    points: Text
    ends: Ends

    @classmethod
    def of(cls, texts: pa.Array) -> "Codes":
        """The code points of an Arrow array of text."""
        lengths = pc.utf8_length(texts).to_numpy(zero_copy_only=False)
        return cls(code_points("".join(texts.to_pylist())), np.cumsum(lengths, dtype=np.int64))


@dataclass(frozen=True)
class Words:
    """The hashes of the words of a batch of texts; those of text i end before `ends[i]`."""

    hashes: Hashes
    ends: Ends


def hash_words(codes: Codes) -> Words:
    """The words of each text."""
    hashes = np.empty(len(codes.points) + 1, dtype=np.uint64)
    ends = np.empty(len(codes.ends), dtype=np.int64)
    total = _hash_words(codes.points, codes.ends, character_classes(), lower_case(), hashes, ends)
    return Words(hashes[:total], ends)


@cache
def lower_case() -> Text:
    """The lower case of every code point, 4 MB; itself where that is more than one character."""
    lower = [chr(code).lower() for code in range(sys.maxunicode + 1)]
    return code_points("".join(it if len(it) == 1 else chr(code) for code, it in enumerate(lower)))


@kernel
def mixed(key: np.uint64) -> np.uint64:
    """`ngrams.mix` of one hash: the finalizer of splitmix64, every bit of the result depends on all."""
    key = (key ^ (key >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    key = (key ^ (key >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return key ^ (key >> np.uint64(31))


@kernel
def shingle_at(words: Hashes, at: int, num_words: int) -> np.uint64:
    """The hash of `num_words` words."""
    total = np.uint64(num_words)
    for k in range(num_words):
        total += words[at + k] * POWERS[k]
    return mixed(total)


@kernel
def num_shingles(num_words: int) -> int:
    """Shingles of a text with so many words: at least one, of all of them."""
    return max(num_words - SHINGLE_WORDS + 1, 1)


@kernel
def _hash_words(points: Text, ends: Ends, classes: Classes, lower: Text, hashes: Hashes, word_ends: Ends) -> int:
    total = 0
    at = np.int64(0)
    for i in range(len(ends)):
        text = points[at : ends[i]]
        at, here = ends[i], 0
        while here < len(text):
            first = classes[text[here]]
            if not first & WORD:
                here += 1
                continue
            end = word_end(text, classes, here)
            if first & ALNUM:
                key = np.uint64(end - here)
                for k in range(here, end):
                    key = key * BASE + np.uint64(lower[text[k]])
                hashes[total] = mixed(key)
                total += 1
            here = end
        word_ends[i] = total
    return total
