"""FASTA, DNA or protein: a sequence is a document, a long one a document for each window of `window_letters`.

Windows do not overlap; each names the sequence as its parent and is called `ID:FIRST-LAST`, letters counted from 1. The
text is the letters as they are, upper and lower case (soft-masked repeats); the rest of the header is metadata.
"""

import string
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field

from domainlm.tasks.documents import DeadLetter
from domainlm.tasks.readers.piece import Piece, Span
from domainlm.tasks.readers.record import MAX_RECORD_BYTES, Record, Settings, dead
from domainlm.tasks.readers.streams import BrokenStream, lines

LETTERS = (string.ascii_letters + "*-.").encode()  # IUPAC codes of both kinds; stop, gap


@dataclass(slots=True)
class _Sequence:
    """What is read of a sequence and not passed on yet, behind the first `passed` letters. A fault is of all of it."""

    native_id: str
    description: str
    offset: int
    fault: str = ""
    letters: bytearray = field(default_factory=bytearray)
    passed: int = 0


def read(piece: Piece, settings: Settings) -> Iterator[Record | DeadLetter]:
    """Sequences whose header lies in the piece, in the order of the file; offsets are those of their headers."""
    span = piece.span or Span(0, sys.maxsize)
    sequence: _Sequence | None = None
    try:
        for offset, line in lines(Piece(piece.path, piece.name, Span(span.start, sys.maxsize))):
            if offset >= span.end and (sequence is None or line.startswith(b">")):
                break  # the next piece begins; a sequence goes on to its end
            if line.startswith(b">"):
                if sequence:
                    yield _last(sequence, piece.name)
                sequence = _begun(line, offset)
            elif sequence:
                _take(sequence, line)
                yield from _windows(sequence, piece.name, settings.window_letters)
            elif piece.is_first and line.strip() and not line.startswith(b";"):
                yield dead(piece.name, offset, "letters before the first header (`>`)", line)
    except BrokenStream as error:
        held = bytes(sequence.letters) if sequence else b""
        yield dead(piece.name, sequence.offset if sequence else error.offset, str(error), held + error.rest)
        return
    if sequence:
        yield _last(sequence, piece.name)


def _begun(line: bytes, offset: int) -> _Sequence:
    try:
        native_id, _, description = line[1:].decode().strip().partition(" ")
    except UnicodeDecodeError as bad:
        return _Sequence("", "", offset, f"invalid UTF-8 in the header at byte {bad.start + 1}")
    if not native_id or not native_id.isprintable():
        return _Sequence("", "", offset, "a header without a printable id")
    return _Sequence(native_id, description.strip(), offset)


def _take(sequence: _Sequence, line: bytes) -> None:
    if len(line) > MAX_RECORD_BYTES:  # it was cut off, and no later letter can be placed
        sequence.fault = sequence.fault or f"a line of more than {MAX_RECORD_BYTES:,} bytes"
    sequence.letters += b"".join(line.split())


def _windows(sequence: _Sequence, name: str, window: int) -> Iterator[Record | DeadLetter]:
    """Whole windows, as long as more letters follow them."""
    while len(sequence.letters) > window:
        letters = bytes(sequence.letters[:window])
        del sequence.letters[:window]
        sequence.passed += window
        yield _document(sequence, letters, sequence.passed - window, name)


def _last(sequence: _Sequence, name: str) -> Record | DeadLetter:
    return _document(sequence, bytes(sequence.letters), sequence.passed, name, last=True)


def _document(sequence: _Sequence, letters: bytes, start: int, name: str, *, last: bool = False) -> Record | DeadLetter:
    if not letters:
        return dead(name, sequence.offset, "a header without a sequence", sequence.native_id.encode())
    fault = sequence.fault
    if foreign := letters.translate(None, LETTERS):
        fault = fault or f"{foreign[:1]!r} is no letter of a sequence"
    if fault:
        return dead(name, sequence.offset, f"{fault}, in letters {start + 1}-{start + len(letters)}", letters)
    metadata: dict[str, object] = {"description": sequence.description} if sequence.description else {}
    if last and start == 0:
        return Record(sequence.native_id, letters.decode(), sequence.offset, metadata=metadata)
    end = start + len(letters)
    return Record(
        native_id=f"{sequence.native_id}:{start + 1}-{end}",
        text=letters.decode(),
        offset=sequence.offset,
        metadata={**metadata, "first": start + 1, "last": end},
        parent=sequence.native_id,
    )
