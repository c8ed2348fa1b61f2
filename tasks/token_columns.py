"""Tokenised documents as columns: their ends, their joining, their shuffle, and their cut into shards.

Whole arrays throughout: a document costs no Python object but in `gather`, which copies one slice for each.
"""

from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from domainlm.tasks.encoder import Encoded
from domainlm.trainer.shards import Shard, ShardColumns, ShardHeader, Tokens

NAMES = ("doc_id", "source", "license")


def with_ends(batch: pa.RecordBatch, encoded: Encoded, header: ShardHeader) -> ShardColumns:
    """[bos] + tokens + [eos] of each document."""
    offsets = encoded.offsets + 2 * np.arange(len(encoded.offsets))
    tokens = np.empty(offsets[-1], header.token_dtype)
    inside = np.ones(offsets[-1], np.bool_)
    inside[offsets[:-1]] = inside[offsets[1:] - 1] = False
    tokens[inside] = encoded.ids
    tokens[offsets[:-1]], tokens[offsets[1:] - 1] = header.bos_id, header.eos_id
    return ShardColumns(batch["doc_id"], batch["source"], batch["license"], offsets, tokens)


def joined(parts: Sequence[ShardColumns]) -> ShardColumns:
    """The documents of all parts, in order."""
    lengths = np.concatenate([np.diff(part.offsets) for part in parts])
    return ShardColumns(
        doc_ids=pa.concat_arrays([part.doc_ids for part in parts]),
        sources=pa.concat_arrays([part.sources for part in parts]),
        licenses=pa.concat_arrays([part.licenses for part in parts]),
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        tokens=np.concatenate([part.tokens for part in parts]),
    )


def gather(paths: Sequence[Path], places: npt.NDArray[np.int32], header: ShardHeader) -> ShardColumns:
    """The documents at `places` (file, row, length), in that order; one file is open at a time."""
    offsets = np.concatenate([[0], np.cumsum(places[:, 2], dtype=np.int64)])
    tokens: Tokens = np.empty(offsets[-1], header.token_dtype)
    order = np.lexsort((places[:, 1], places[:, 0]))  # as they lie on disk
    files, starts = np.unique(places[order, 0], return_index=True)
    names = []
    for file, documents in zip(files, np.split(order, starts[1:]), strict=True):
        shard, rows = Shard.open(paths[file]), places[documents, 1]
        begins, ends = shard.offsets[rows], shard.offsets[rows + 1]
        for at, begin, end in zip(offsets[documents].tolist(), begins.tolist(), ends.tolist(), strict=True):
            tokens[at : at + end - begin] = shard.tokens[begin:end]
        names.append(pa.record_batch([shard.doc_ids, shard.sources, shard.licenses], NAMES).take(pa.array(rows)))
    shuffled = pa.array(np.argsort(order))
    ids, sources, licenses = (pa.concat_arrays([batch[name] for batch in names]).take(shuffled) for name in NAMES)
    return ShardColumns(ids, sources, licenses, offsets, tokens)


def hashes(doc_ids: pa.StringArray, seed: int) -> npt.NDArray[np.uint64]:
    """A hash of each id, keyed by `seed`."""
    key = seed.to_bytes(16, "little")
    digests = (blake2b(doc_id.encode(), digest_size=8, key=key).digest() for doc_id in doc_ids.to_pylist())
    return np.frombuffer(b"".join(digests), ">u8").astype(np.uint64)


def shuffle(encoded: Sequence[Path]) -> npt.NDArray[np.int32]:
    """File, row and length of every document, in the order of the hashes of their ids."""
    keys, places = [], []
    for number, path in enumerate(encoded):
        lengths = np.diff(Shard.open(path).offsets)
        keys.append(np.load(path.with_suffix(".npy")))
        places.append(np.stack([np.full_like(lengths, number), np.arange(len(lengths), dtype=np.int32), lengths], 1))
    return np.concatenate(places)[np.argsort(np.concatenate(keys), kind="stable")]


def shard_bounds(lengths: npt.NDArray[np.integer], shard_tokens: int) -> tuple[int, ...]:
    """Where to cut the shuffled documents into shards of even size, `shard_tokens` or a little less or more."""
    ends = lengths.cumsum(dtype=np.int64)
    num_shards = max(1, round(int(ends[-1]) / shard_tokens))
    targets = ends[-1] * np.arange(1, num_shards) // num_shards
    cuts = np.searchsorted(ends, targets, side="left") + 1
    return (0, *(int(cut) for cut in np.unique(cuts) if cut < len(lengths)), len(lengths))
