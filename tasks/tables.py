"""Parquet in batches that are bounded in bytes, however long a document is, and out again; columns, never rows.

In: a file of documents. Out: record batches of at most `BATCH_BYTES` of the column `text`, but for one that a single
document fills. Written files have row groups of one batch each and appear under their name only when whole.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from domainlm.eval.parquet import read_batches

BATCH_BYTES = 8 << 20


def bounded_batches(path: Path, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
    """The rows of a file in order; `columns` must name `text`, or be None for all."""
    for batch in read_batches(path, columns):
        ends = np.cumsum(pc.binary_length(batch["text"]).to_numpy().astype(np.int64))
        start = 0
        while start < len(batch):
            before = ends[start - 1] if start else 0
            stop = max(start + 1, int(np.searchsorted(ends, before + BATCH_BYTES, side="right")))
            yield batch.slice(start, stop - start)
            start = stop


def write_tables(path: Path, schema: pa.Schema, tables: Iterable[pa.Table | pa.RecordBatch]) -> int:
    """Write tables as one file, a row group each, zstd; returns the rows. The file appears only when whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    rows = 0
    with pq.ParquetWriter(temporary, schema, compression="zstd", store_schema=False) as writer:
        for table in tables:
            if len(table):
                writer.write_table(pa.Table.from_batches([table]) if isinstance(table, pa.RecordBatch) else table)
                rows += len(table)
    temporary.replace(path)
    return rows
