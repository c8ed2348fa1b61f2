"""JSONL, plain, gzip or zstd: one JSON object a line. Each line stands alone, so a bad byte loses one line only."""

from collections.abc import Iterator

import orjson

from domainlm.tasks.documents import DeadLetter
from domainlm.tasks.readers.piece import Piece
from domainlm.tasks.readers.record import MAX_RECORD_BYTES, Record, Settings, Unreadable, dead, decoded, from_fields
from domainlm.tasks.readers.streams import BrokenStream, lines

BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def read(piece: Piece, settings: Settings) -> Iterator[Record | DeadLetter]:
    """Records in the order of the file; offsets are bytes of the uncompressed text. Empty lines are no records."""
    try:
        for offset, line in lines(piece):
            content = line.strip() if offset else line.removeprefix(BYTE_ORDER_MARK).strip()
            if content:
                yield from _records(content, line, offset, piece.name, settings)
    except BrokenStream as error:
        yield error.letter(piece.name)


def _records(content: bytes, line: bytes, offset: int, name: str, settings: Settings) -> Iterator[Record | DeadLetter]:
    """The record of a line, or those between its carriage returns, which JSON never holds inside a string."""
    try:
        row = _object(content)
    except Unreadable as fault:
        if b"\r" not in content or len(content) > MAX_RECORD_BYTES:
            yield dead(name, offset, str(fault), line)
            return
        for part in line.split(b"\r"):
            if part.strip():
                yield from _records(part.strip(), part, offset, name, settings)
            offset += len(part) + 1
        return
    try:
        yield from_fields(row, settings, name, offset)
    except Unreadable as fault:
        yield dead(name, offset, str(fault), line)


def _object(content: bytes) -> dict[str, object]:
    if len(content) > MAX_RECORD_BYTES:
        raise Unreadable(f"a line of more than {MAX_RECORD_BYTES:,} bytes")
    try:
        row: object = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        decoded(content, "utf-8")
        raise Unreadable(f"broken JSON: {error}") from None
    if not isinstance(row, dict):
        raise Unreadable(f"a JSON {type(row).__name__}, not an object")
    return row
