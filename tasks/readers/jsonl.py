"""JSONL, plain, gzip or zstd: one JSON object a line. Each line stands alone, so a bad byte loses one line only."""

from collections.abc import Iterator
from pathlib import Path

import orjson

from domainlm.tasks.documents import DeadLetter
from domainlm.tasks.readers.record import MAX_RECORD_BYTES, Fields, Record, dead, from_fields
from domainlm.tasks.readers.streams import BrokenStream, chunks

BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def read(path: Path, name: str, fields: Fields) -> Iterator[Record | DeadLetter]:
    """Records in the order of the file; offsets are line numbers from 1. Empty lines are no records."""
    number, rest = 0, b""
    try:
        for chunk in chunks(path):
            if len(rest) > MAX_RECORD_BYTES and b"\n" not in chunk:
                continue  # the line is lost already; its beginning is enough for the dead letter
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                number += 1
                yield from _line(line, number, name, fields)
    except BrokenStream as error:
        yield dead(name, number + 1, str(error), rest)
        return
    yield from _line(rest, number + 1, name, fields)


def _line(line: bytes, number: int, name: str, fields: Fields) -> Iterator[Record | DeadLetter]:
    content = line.removeprefix(BYTE_ORDER_MARK).strip() if number == 1 else line.strip()
    if not content:
        return
    if len(content) > MAX_RECORD_BYTES:
        yield dead(name, number, f"a line of more than {MAX_RECORD_BYTES:,} bytes", content)
        return
    try:
        row = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        yield dead(name, number, _reason(content, error), line)
        return
    if not isinstance(row, dict):
        yield dead(name, number, f"a JSON {type(row).__name__}, not an object", line)
        return
    yield from_fields(row, fields, name, number, line)


def _reason(content: bytes, error: orjson.JSONDecodeError) -> str:
    try:
        content.decode()
    except UnicodeDecodeError as bad:
        return f"invalid UTF-8 at byte {bad.start}"
    return f"broken JSON: {error}"
