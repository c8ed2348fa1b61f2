"""Plain text: one UTF-8 file is one document, and its name without the suffix is its id."""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from domainlm.tasks.documents import DeadLetter
from domainlm.tasks.readers.record import MAX_RECORD_BYTES, Fields, Record, dead, text_fault


def read(path: Path, name: str, fields: Fields) -> Iterator[Record | DeadLetter]:
    """The one record of the file."""
    with path.open("rb") as file:
        raw = file.read(MAX_RECORD_BYTES + 1)
    if len(raw) > MAX_RECORD_BYTES:
        yield dead(name, 0, f"a text of more than {MAX_RECORD_BYTES:,} bytes", raw)
        return
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as bad:
        yield dead(name, 0, f"invalid UTF-8 at byte {bad.start}", raw)
        return
    if fault := text_fault(text):
        yield dead(name, 0, fault, raw)
        return
    yield Record(str(PurePosixPath(name).with_suffix("")), text, 0)
