"""Who stays when an id comes twice: decided over all files of a source, from a small index of each shard.

Without versions the first of an id stays and the later ones are duplicates. With versions (PubMed) the last event of an
id, by version and then by order, decides: an article stays and supersedes the others; a deletion deletes them all.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from domainlm.eval.parquet import read_batches

SCHEMA = pa.schema(
    [
        pa.field("native_id", pa.large_string()),
        pa.field("version", pa.int32()),
        pa.field("deletion", pa.bool_()),
        pa.field("file", pa.string()),
        pa.field("offset", pa.int64()),
    ]
)


Fates = npt.NDArray[np.int8]
"""A `Fate` a document, in the order of the shard."""


class Fate(IntEnum):
    """What becomes of a document that could be read."""

    KEPT = 0
    DUPLICATE = 1
    DELETED = 2
    SUPERSEDED = 3


@dataclass(frozen=True, slots=True)
class Entry:
    """One document, or one deletion, of a shard."""

    native_id: str
    version: int
    deletion: bool
    file: str
    offset: int


def read_entries(path: Path) -> Iterator[Entry]:
    """The entries of a shard that are documents, in order."""
    for batch in read_batches(path):
        yield from (Entry(**row) for row in batch.to_pylist() if not row["deletion"])


def decide(paths: Sequence[Path], *, newest_wins: bool) -> list[Fates]:
    """The fates (`Fate`) of the documents of each shard, in order."""
    tables = [pq.read_table(path, columns=["native_id", "version", "deletion"]) for path in paths]
    table = pa.concat_tables(tables)
    ids = table["native_id"].combine_chunks().dictionary_encode().indices.to_numpy()
    deletion = table["deletion"].to_numpy()
    fates = _newest(ids, table["version"].to_numpy(), deletion) if newest_wins else _first(ids)
    ends = np.cumsum([shard.num_rows for shard in tables])[:-1]
    shards = zip(np.split(fates, ends), np.split(deletion, ends), strict=True)
    return [fate[~is_deletion] for fate, is_deletion in shards]


def _first(ids: npt.NDArray[np.int32]) -> Fates:
    fates = np.full(len(ids), Fate.DUPLICATE, np.int8)
    fates[np.unique(ids, return_index=True)[1]] = Fate.KEPT
    return fates


def _newest(ids: npt.NDArray[np.int32], versions: npt.NDArray[np.int32], deletion: npt.NDArray[np.bool_]) -> Fates:
    order = np.lexsort((versions, ids))  # stable: the same version twice stays in the order of the files
    ends_group = np.append(np.diff(ids[order]) != 0, True)[: len(order)]
    last = order[ends_group]
    group = np.cumsum(ends_group) - ends_group
    fates = np.empty(len(ids), np.int8)
    fates[order] = np.where(deletion[last][group], Fate.DELETED, Fate.SUPERSEDED)
    fates[last[~deletion[last]]] = Fate.KEPT
    return fates
