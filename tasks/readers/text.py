"""Plain text: one file is one document, and its name without the suffix is its id."""

from collections.abc import Iterator
from pathlib import PurePosixPath

from domainlm.tasks.documents import DeadLetter
from domainlm.tasks.readers.piece import Piece
from domainlm.tasks.readers.record import Record, Settings, Unreadable, check_text, dead, decoded
from domainlm.tasks.readers.streams import BrokenStream, whole


def read(piece: Piece, settings: Settings) -> Iterator[Record | DeadLetter]:
    """The one record of the file."""
    raw = b""
    try:
        raw = whole(piece)
        text = decoded(raw, settings.encoding).removeprefix("\ufeff")
        check_text(text)
    except BrokenStream as error:
        yield error.letter(piece.name)
    except Unreadable as fault:
        yield dead(piece.name, 0, str(fault), raw or fault.raw)
    else:
        yield Record(file_id(piece.name), text, 0)


def file_id(name: str) -> str:
    """The id of a file that is one document: its name without the suffix of its format and of its compression."""
    path = PurePosixPath(name)
    return str((path.with_suffix("") if path.suffix in (".gz", ".zst") else path).with_suffix(""))
