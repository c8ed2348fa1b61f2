"""Likely near-duplicates: minhash signatures of documents, and the pairs that share a band of theirs.

In: a batch of texts. Out: `Sketches`, arrays with one entry a document: digest of the text with its blanks evened out,
digest of its quantities, its length, and one key for each band of its signature. The signature is that of its word
5-grams, lower-cased, numbers left as they are. `candidate_pairs` then proposes; what is a duplicate is decided by an
exact check elsewhere.

Hash k of a signature is the least of (a_k x + b_k) mod 2^32, mixed, over the shingles' hashes x.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from xxhash import xxh3_128_digest

from domainlm.tasks.ngrams import Hashes
from domainlm.tasks.quality.characters import SPACE, Classes, Text, character_classes
from domainlm.tasks.quality.kernels import kernel
from domainlm.tasks.quantities import quantity_digests
from domainlm.tasks.word_hashes import SHINGLE_WORDS, Codes, Ends, hash_words, mixed, num_shingles, shingle_at

NEIGHBOURS = 16  # in a band that very many documents share, each is paired with the next so many

Signature = NDArray[np.uint32]


@dataclass(frozen=True)
class Sketches:
    """What deduplication knows of documents without their text; `digests` has two columns, `bands` a row a band."""

    digests: Hashes
    quantities: Hashes
    chars: NDArray[np.int64]
    bands: Hashes


def sketch(texts: pa.Array, *, bands: int, band_hashes: int) -> Sketches:
    """The sketches of some documents, in order."""
    codes, keys = Codes.of(texts), np.empty((bands, len(texts)), dtype=np.uint64)
    even = even_blanks(codes)
    words = hash_words(codes)
    _sign(words.hashes, words.ends, *_permutations(bands * band_hashes), band_hashes, keys)
    return Sketches(_digests(even), quantity_digests(codes), np.diff(even.ends, prepend=0), keys)


def join_sketches(some: Iterable[Sketches], *, bands: int) -> Sketches:
    """The sketches of several batches as one."""
    none = np.empty(0, dtype=np.uint64)
    parts = [Sketches(none.reshape(0, 2), none, none.astype(np.int64), none.reshape(0, 0).repeat(bands, axis=0)), *some]
    return Sketches(
        np.concatenate([part.digests for part in parts]),
        np.concatenate([part.quantities for part in parts]),
        np.concatenate([part.chars for part in parts]),
        np.concatenate([part.bands for part in parts if part.bands.size] or [np.empty((bands, 0), np.uint64)], axis=1),
    )


def even_blanks(codes: Codes) -> Codes:
    """The texts with one blank between their words, and none around them."""
    points, ends = np.empty(len(codes.points) + 1, np.uint32), np.empty(len(codes.ends), np.int64)
    total = _even(codes.points, codes.ends, character_classes(), points, ends)
    return Codes(points[:total], ends)


def candidate_pairs(bands: Iterable[Hashes], quantities: Hashes) -> NDArray[np.int64]:
    """Pairs (a, b), a < b, of rows whose keys of some band agree; sorted, each once.

    Within a band the rows are ordered by quantities, and each is paired with the next `NEIGHBOURS`: with all others
    in any but a crowd, and in a crowd first with those that may turn out to be duplicates.
    """
    rows, pairs = np.uint64(len(quantities)), np.empty(0, dtype=np.uint64)
    for keys in bands:
        chosen = shared(keys)
        chosen = chosen[np.lexsort((chosen, quantities[chosen], keys[chosen]))]
        found = [np.minimum(a, b) * rows + np.maximum(a, b) for a, b in _neighbours(chosen, keys[chosen])]
        pairs = each_once(np.concatenate([pairs, *found]))
    return np.stack(np.divmod(pairs, max(rows, np.uint64(1))), axis=1).astype(np.int64)


def each_once(numbers: Hashes) -> Hashes:
    """Sorted; `np.unique` makes a hash table, which takes ten times as long."""
    numbers = np.sort(numbers)
    once: Hashes = numbers[np.diff(numbers, prepend=~numbers[:1]) != 0]
    return once


def shared(keys: Hashes) -> NDArray[np.int64]:
    """The rows whose key another row has too."""
    order = np.argsort(keys)
    ordered = keys[order]
    same = ordered[1:] == ordered[:-1]
    return order[np.append(same, False) | np.append(False, same)] if len(keys) else order


def _neighbours(rows: NDArray[np.int64], keys: Hashes) -> Iterator[tuple[Hashes, Hashes]]:
    for distance in range(1, NEIGHBOURS + 1):
        same = keys[distance:] == keys[:-distance]
        if not same.any():
            return
        yield rows[:-distance][same].astype(np.uint64), rows[distance:][same].astype(np.uint64)


def _digests(codes: Codes) -> Hashes:
    """The 128-bit digest of each text, as two numbers."""
    begins = np.append(0, codes.ends[:-1])
    spans = zip(begins.tolist(), codes.ends.tolist(), strict=True)
    digests = b"".join(xxh3_128_digest(codes.points[begin:end].data) for begin, end in spans)
    return np.frombuffer(digests, dtype="<u8").reshape(-1, 2)


@cache
def _permutations(num_hashes: int) -> tuple[Signature, Signature]:
    """Odd factors and offsets, fixed: every signature of every run is made with them."""
    draw = np.random.Generator(np.random.PCG64(1))
    factors, offsets = draw.integers(0, 1 << 32, size=(2, num_hashes), dtype=np.uint32)
    return factors | np.uint32(1), offsets


@kernel
def _even(points: Text, ends: Ends, classes: Classes, even: Text, even_ends: Ends) -> int:
    total, at = 0, np.int64(0)
    for i in range(len(ends)):
        begin, blank = total, False
        while at < ends[i]:
            if classes[points[at]] & SPACE:
                blank = True
            else:
                if blank and total > begin:
                    even[total] = 32
                    total += 1
                even[total] = points[at]
                total += 1
                blank = False
            at += 1
        even_ends[i] = total
    return total


@kernel
def _sign(words: Hashes, ends: Ends, factors: Signature, offsets: Signature, band_hashes: int, keys: Hashes) -> None:
    least = np.empty(len(factors), np.uint32)
    begin = np.int64(0)
    for i in range(len(ends)):
        least[:] = np.uint32(0xFFFFFFFF)
        count = int(ends[i] - begin)
        length = min(SHINGLE_WORDS, count)
        for k in range(num_shingles(count)):
            lower_all(least, factors, offsets, np.uint32(shingle_at(words, int(begin + k), length) >> np.uint64(32)))
        for band in range(len(keys)):
            key = np.uint64(0)
            for k in range(band * band_hashes, (band + 1) * band_hashes):
                key = mixed(key + np.uint64(least[k]) + np.uint64(1))
            keys[band, i] = key
        begin = ends[i]


@kernel
def lower_all(least: Signature, factors: Signature, offsets: Signature, shingle: np.uint32) -> None:
    """Take one more shingle into a signature; the compiler makes vector instructions of this loop."""
    for k in range(len(least)):
        value = np.uint32(factors[k] * shingle + offsets[k])
        value = np.uint32(np.uint32(value ^ (value >> np.uint32(15))) * np.uint32(0x2C1B3C6D))
        least[k] = min(least[k], np.uint32(value ^ (value >> np.uint32(13))))
