"""The shards of all sources in one order, and what deduplication writes for each: columns in, columns out.

In: input files, and the `Duplicates` in rows that count through all of them. Out: the files of kept documents,
verdicts and pairs; no document is ever an object.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from domainlm.tasks.documents import DOCUMENT_SCHEMA, VERDICT_SCHEMA
from domainlm.tasks.duplicates import DECISIONS, Duplicates
from domainlm.tasks.engine import MARKS
from domainlm.tasks.stage import Inputs
from domainlm.tasks.tables import bounded_batches, write_tables

PAIRS_AT_ONCE = 100_000
PAIR_SCHEMA = pa.schema(
    [
        pa.field("doc_id_a", pa.string(), nullable=False),
        pa.field("doc_id_b", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("jaccard", pa.float32(), nullable=False),
        pa.field("decision", pa.string(), nullable=False),
    ]
)


@dataclass(frozen=True)
class Shard:
    """One input file, the name of its outputs, and where its documents stand among those of all shards."""

    path: Path
    source: str
    name: str
    begin: int
    end: int


def list_shards(inputs: Inputs) -> list[Shard]:
    """All input files by source and number: the order of documents that everything here counts in."""
    shards: list[Shard] = []
    begin = 0
    for source in sorted(inputs):
        for number, path in enumerate(inputs[source].paths()):
            end = begin + int(pq.read_metadata(path).num_rows)
            shards.append(Shard(path, source, f"{number:05d}", begin, end))
            begin = end
    return shards


def read_column(shards: Sequence[Shard], name: str) -> pa.ChunkedArray:
    """One column of all documents; large strings, for together they may pass 2 GB."""
    chunks = [pq.read_table(shard.path, columns=[name])[name].cast(pa.large_string()) for shard in shards]
    return pa.chunked_array([chunk for column in chunks for chunk in column.chunks], pa.large_string())


def write_kept(shards: Sequence[Shard], out: Path, rank: int) -> dict[str, int]:
    """Write the documents of one shard that survive."""
    shard = shards[rank]
    survivor = np.load(out / MARKS / "survivor.npy", mmap_mode="r")[shard.begin : shard.end]
    kept = survivor == np.arange(shard.begin, shard.end)
    path = out / "kept" / shard.source / f"{shard.name}.parquet"
    return {shard.source: write_tables(path, DOCUMENT_SCHEMA, _filtered(shard, kept))}


def write_verdicts(
    out: Path, shards: Sequence[Shard], found: Duplicates, doc_ids: pa.ChunkedArray, *, threshold: str
) -> None:
    """Write, for each dropped document, the rule and the id of the document that is kept instead."""
    rules, thresholds = ("deduplicate.near", "deduplicate.exact"), (threshold, "equal but for blanks")
    for shard in shards:
        survivor = found.survivor[shard.begin : shard.end]
        rows = np.flatnonzero(survivor != np.arange(shard.begin, shard.end))
        exact = found.is_exact[shard.begin : shard.end][rows].astype(np.int8)
        table = pa.table(
            [
                _ids(doc_ids, rows + shard.begin),
                pa.array(rules).take(pa.array(exact)),
                _ids(doc_ids, survivor[rows]),
                pa.array(thresholds).take(pa.array(exact)),
                pa.array(np.zeros(len(rows), dtype=np.bool_)),
            ],
            schema=VERDICT_SCHEMA,
        )
        write_tables(out / "verdicts" / shard.source / f"{shard.name}.parquet", VERDICT_SCHEMA, [table])


def write_pairs(path: Path, pairs: NDArray[np.void], doc_ids: pa.ChunkedArray) -> dict[str, float]:
    """Write every pair that was compared, with its score and what was decided; returns how many of each decision."""
    write_tables(path, PAIR_SCHEMA, _pair_tables(pairs, doc_ids))
    tally = np.bincount(pairs["decision"], minlength=len(DECISIONS))
    return {f"pairs.{name.replace(' ', '_')}": float(n) for name, n in zip(DECISIONS, tally, strict=True)}


def _pair_tables(pairs: NDArray[np.void], doc_ids: pa.ChunkedArray) -> Iterator[pa.Table]:
    kinds, decisions = pa.array(["near", "exact"]), pa.array(DECISIONS)
    for begin in range(0, len(pairs), PAIRS_AT_ONCE):
        some = pairs[begin : begin + PAIRS_AT_ONCE]
        yield pa.table(
            [
                _ids(doc_ids, some["a"]),
                _ids(doc_ids, some["b"]),
                kinds.take(pa.array(some["exact"].astype(np.int8))),
                pa.array(np.ascontiguousarray(some["jaccard"])),
                decisions.take(pa.array(np.ascontiguousarray(some["decision"]))),
            ],
            schema=PAIR_SCHEMA,
        )


def _filtered(shard: Shard, kept: NDArray[np.bool_]) -> Iterator[pa.RecordBatch]:
    begin = 0
    for batch in bounded_batches(shard.path, DOCUMENT_SCHEMA.names):
        here = kept[begin : begin + len(batch)]
        begin += len(batch)
        yield batch.filter(pa.array(here)).cast(DOCUMENT_SCHEMA)


def _ids(doc_ids: pa.ChunkedArray, rows: NDArray[np.int64]) -> pa.ChunkedArray:
    return doc_ids.take(pa.array(np.ascontiguousarray(rows))).cast(pa.string())
