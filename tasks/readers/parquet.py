"""Parquet: one row a record, one batch of a row group in memory. A row group that cannot be read loses its own rows."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from domainlm.eval.parquet import open_parquet
from domainlm.tasks.documents import DeadLetter
from domainlm.tasks.readers.columns import BATCH_ROWS, records
from domainlm.tasks.readers.piece import Piece, Span, row_spans
from domainlm.tasks.readers.record import Record, Settings, dead

FAULTS = (pa.ArrowException, OSError)


def spans(path: Path) -> list[Span | None]:
    """Row groups, several to a span."""
    try:
        metadata = pq.read_metadata(path)
    except FAULTS:
        return [None]
    groups = (metadata.row_group(number) for number in range(metadata.num_row_groups))
    return row_spans((group.total_byte_size, group.num_rows) for group in groups)


def read(piece: Piece, settings: Settings) -> Iterator[Record | DeadLetter]:
    """Records in the order of the file; offsets are row numbers from 0."""
    try:
        file = open_parquet(piece.path)
    except FileNotFoundError:
        raise
    except FAULTS as error:
        yield dead(piece.name, 0, f"not a readable Parquet file: {_first_line(error)}")
        return
    with file:
        span = piece.span or Span(0, file.num_row_groups)
        row = span.first_row
        for group in range(span.start, span.end):
            end = row + file.metadata.row_group(group).num_rows
            try:
                for batch in file.iter_batches(BATCH_ROWS, row_groups=[group], use_threads=False):
                    for record in records(batch, row, piece.name, settings):
                        yield record
                        row += 1
            except FAULTS as error:
                for lost in range(row, end):
                    yield dead(piece.name, lost, f"row group {group} is damaged: {_first_line(error)}")
            row = end


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
