"""Parquet a batch at a time: in the memory of one row group, however large the file, and on one core."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

BATCH_ROWS = 1_000


def open_parquet(path: Path) -> pq.ParquetFile:
    """A file to read in batches. pyarrow's default, `pre_buffer`, would hold the columns of all of it meanwhile."""
    return pq.ParquetFile(path, pre_buffer=False)


def read_batches(
    path: Path, columns: Sequence[str] | None = None, *, rows: int = BATCH_ROWS, row_groups: Sequence[int] | None = None
) -> Iterator[pa.RecordBatch]:
    """The rows of a file in order, at most so many at a time; of these columns and row groups, or of all.

    Without threads: a worker has one core, and what one thread allocates and another frees, Arrow's allocator is slow
    to use again (writing 100,000 documents by their fate took 171 MB and 2.1 s with threads, 145 MB and 1.9 s without).
    """
    with open_parquet(path) as file:
        yield from file.iter_batches(rows, row_groups=row_groups, columns=columns, use_threads=False)
