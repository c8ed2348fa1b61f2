"""Rows of Arrow batches as records: what Parquet and Arrow files have in common."""

from collections.abc import Iterator

import orjson
import pyarrow as pa

from domainlm.tasks.documents import DeadLetter
from domainlm.tasks.readers.record import Record, Settings, Unreadable, dead, from_fields

BATCH_ROWS = 256


def records(batch: pa.RecordBatch, first_row: int, name: str, settings: Settings) -> Iterator[Record | DeadLetter]:
    """The records of a batch; offsets are row numbers from 0."""
    for row, values in enumerate(_rows(batch), first_row):
        try:
            if isinstance(values, Unreadable):
                raise values
            yield from_fields(values, settings, name, row)
        except Unreadable as fault:
            yield dead(name, row, str(fault), fault.raw or _raw(values))


def _rows(batch: pa.RecordBatch) -> Iterator[dict[str, object] | Unreadable]:
    try:
        yield from batch.to_pylist()
    except UnicodeDecodeError:  # Arrow does not check what a writer called text; nothing was yielded yet
        yield from (_row(batch, i) for i in range(batch.num_rows))


def _row(batch: pa.RecordBatch, i: int) -> dict[str, object] | Unreadable:
    values: dict[str, object] = {}
    for column in batch.schema.names:
        try:
            values[column] = batch.column(column)[i].as_py()
        except UnicodeDecodeError as bad:
            return Unreadable(f"invalid UTF-8 in {column!r} at byte {bad.start}", bytes(bad.object))
    return values


def _raw(values: object) -> bytes:
    return orjson.dumps(values, default=str, option=orjson.OPT_NON_STR_KEYS)
