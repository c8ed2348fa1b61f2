"""Likely near-duplicates: signatures of documents, and the pairs that share a band of theirs.

In: text. Out: a sketch (one row of `SKETCH`): digest of the text with its blanks evened out, digest of its quantities,
and the minhash signature of its word 5-grams, lower-cased, numbers left as they are. `candidate_pairs` then proposes;
what is a duplicate is decided by an exact check elsewhere.

Signatures are those of rensa's R-MinHash, algorithm version 2; other versions give others, so the version is part of
the stage's identity and checked here.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from rensa import RMinHash
from xxhash import xxh3_128_digest

from domainlm.tasks.comparison import quantities_digest, shingles
from domainlm.tasks.ngrams import Hashes, mix

SIGNATURE_VERSION = 2
SIGNATURE_SEED = 1
NEIGHBOURS = 16  # in a band that very many documents share, each is paired with the next so many


def sketch_type(num_hashes: int) -> np.dtype[np.void]:
    """One row a document: what deduplication knows of it without its text."""
    return np.dtype([("exact", "V16"), ("quantities", "<u8"), ("chars", "<i8"), ("signature", "<u4", (num_hashes,))])


def sketch(texts: Iterable[str], num_hashes: int) -> NDArray[np.void]:
    """The sketches of some documents, in order."""
    check_signature_version()
    even = (" ".join(text.split()) for text in texts)
    rows = [
        (
            xxh3_128_digest(text.encode("utf-8", "surrogatepass")),
            quantities_digest(text),
            len(text),
            signature(text, num_hashes),
        )
        for text in even
    ]
    return np.array(rows, dtype=sketch_type(num_hashes))


def check_signature_version() -> None:
    """Raise ValueError if the installed rensa makes other signatures than this stage's version stands for."""
    if RMinHash.ALGORITHM_VERSION != SIGNATURE_VERSION:
        raise ValueError(
            f"rensa makes R-MinHash signatures of version {RMinHash.ALGORITHM_VERSION}, this stage was written for "
            f"{SIGNATURE_VERSION}. Install the rensa that constraints.txt names."
        )


def signature(text: str, num_hashes: int) -> list[int]:
    """R-MinHash of the text's shingles."""
    hashes = shingles(text)
    offsets = np.array([0, len(hashes)], dtype=np.uint64)
    rows: list[list[int]] = RMinHash.digest_matrix_from_flat_token_hashes(
        hashes, offsets, num_hashes, SIGNATURE_SEED
    ).to_rows()
    return rows[0]


def candidate_pairs(signatures: NDArray[np.uint32], quantities: Hashes, bands: int) -> NDArray[np.int64]:
    """Pairs (a, b), a < b, of rows whose signatures agree in a whole band; sorted, each once.

    Within a band the rows are ordered by quantities, and each is paired with the next `NEIGHBOURS`: with all others
    in any but a crowd, and in a crowd first with those that may turn out to be duplicates.
    """
    pairs = np.empty((0, 2), dtype=np.int64)
    rows = signatures.shape[1] // bands
    for band in range(bands):
        keys = _hash_rows(signatures[:, band * rows : (band + 1) * rows])
        order = np.lexsort((quantities, keys))  # stable: then by row
        pairs = np.unique(np.concatenate([pairs, *_neighbours(order, keys[order])]), axis=0)
    return pairs


def _hash_rows(rows: NDArray[np.uint32]) -> Hashes:
    """One hash a row."""
    keys = np.zeros(len(rows), dtype=np.uint64)
    for column in range(rows.shape[1]):
        keys = mix(keys ^ (rows[:, column].astype(np.uint64) + np.uint64(column + 1)))
    return keys


def _neighbours(order: NDArray[np.int64], keys: Hashes) -> Iterable[NDArray[np.int64]]:
    for distance in range(1, NEIGHBOURS + 1):
        same = keys[distance:] == keys[:-distance]
        if not same.any():
            return
        pairs = np.stack([order[:-distance][same], order[distance:][same]], axis=1)
        yield np.sort(pairs, axis=1)
