"""Parquet: one row a record, one batch of a row group in memory. A row group that cannot be read loses its own rows."""

from collections.abc import Iterator
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from domainlm.tasks.documents import DeadLetter
from domainlm.tasks.readers.record import Fields, Record, dead, from_fields

BATCH_ROWS = 256


def read(path: Path, name: str, fields: Fields) -> Iterator[Record | DeadLetter]:
    """Records in the order of the file; offsets are row numbers from 0."""
    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as error:
        yield dead(name, 0, f"not a readable Parquet file: {_first_line(error)}")
        return
    with file:
        _check_columns(file.schema_arrow, fields, name)
        row = 0
        for group in range(file.num_row_groups):
            end = row + file.metadata.row_group(group).num_rows
            try:
                for batch in file.iter_batches(BATCH_ROWS, row_groups=[group]):
                    for i in range(batch.num_rows):
                        yield _record(batch, i, fields, name, row)
                        row += 1
            except (pa.ArrowException, OSError) as error:
                for lost in range(row, end):
                    yield dead(name, lost, f"row group {group} is damaged: {_first_line(error)}")
            row = end


def _record(batch: pa.RecordBatch, i: int, fields: Fields, name: str, row: int) -> Record | DeadLetter:
    values: dict[str, object] = {}
    for column in batch.schema.names:
        try:
            values[column] = batch.column(column)[i].as_py()
        except UnicodeDecodeError as bad:  # Arrow does not check what a writer called text
            return dead(name, row, f"invalid UTF-8 in {column!r} at byte {bad.start}", bytes(bad.object))
    raw = orjson.dumps(values, default=str, option=orjson.OPT_NON_STR_KEYS)
    return from_fields(values, fields, name, row, raw)


def _check_columns(schema: pa.Schema, fields: Fields, name: str) -> None:
    missing = [column for column in (fields.text, fields.id) if column and column not in schema.names]
    if missing:
        raise ValueError(f"{name} has no column {missing[0]!r}; it has {schema.names}. Name the right one in `fields`.")


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:200]
