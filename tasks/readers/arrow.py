"""Arrow IPC, the file and the stream form: one row a record. `datasets`' `save_to_disk` writes the stream form."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from domainlm.tasks.documents import DeadLetter
from domainlm.tasks.readers.columns import BATCH_ROWS, records
from domainlm.tasks.readers.piece import Piece, Span, row_spans
from domainlm.tasks.readers.record import Record, Settings, dead
from domainlm.tasks.readers.streams import BROKEN

MAGIC = b"ARROW1"


def spans(path: Path) -> list[Span | None]:
    """Batches of the file form, several to a span; the stream form is read from its beginning."""
    if not _is_file_form(path):
        return [None]
    try:
        with pa.memory_map(str(path)) as source, pa.ipc.open_file(source) as file:
            batches = (file.get_batch(number) for number in range(file.num_record_batches))
            return row_spans((batch.nbytes, batch.num_rows) for batch in batches)
    except pa.ArrowException:
        return [None]


def read(piece: Piece, settings: Settings) -> Iterator[Record | DeadLetter]:
    """Records in the order of the file; offsets are row numbers from 0."""
    batches = _file_batches(piece) if _is_file_form(piece.path) else _stream_batches(piece)
    for row, batch in batches:
        if isinstance(batch, DeadLetter):
            yield batch
            continue
        for start in range(0, batch.num_rows, BATCH_ROWS):
            yield from records(batch.slice(start, BATCH_ROWS), row + start, piece.name, settings)


Batches = Iterator[tuple[int, pa.RecordBatch | DeadLetter]]


def _file_batches(piece: Piece) -> Batches:
    try:
        with pa.memory_map(str(piece.path)) as source, pa.ipc.open_file(source) as file:
            span = piece.span or Span(0, file.num_record_batches)
            row = span.first_row
            for number in range(span.start, span.end):
                try:
                    batch = _checked(file.get_batch(number))
                except (pa.ArrowException, OSError) as error:
                    yield row, dead(piece.name, row, f"{BROKEN}: batch {number} is damaged: {error}")
                    continue
                yield row, batch
                row += batch.num_rows
    except pa.ArrowException as error:
        yield 0, dead(piece.name, 0, f"not a readable Arrow file: {error}")


def _stream_batches(piece: Piece) -> Batches:
    row = 0
    try:
        with piece.path.open("rb") as source, pa.ipc.open_stream(source) as stream:
            for batch in stream:
                yield row, _checked(batch)
                row += batch.num_rows
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError) as error:
        yield row, dead(piece.name, row, f"{BROKEN} (Arrow): {error}")


def _checked(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch, if its offsets lie inside its buffers: Arrow itself trusts them, and would read foreign memory."""
    fields = [field.with_type(_without_encoding(field.type)) for field in batch.schema]
    bytes_alone = [column.view(field.type) for column, field in zip(batch.columns, fields, strict=True)]
    pa.RecordBatch.from_arrays(bytes_alone, schema=pa.schema(fields)).validate(full=True)
    return batch


def _without_encoding(kind: pa.DataType) -> pa.DataType:
    """Text as bytes: what is no UTF-8 costs one row and not the batch."""
    return {pa.string(): pa.binary(), pa.large_string(): pa.large_binary()}.get(kind, kind)


def _is_file_form(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC
