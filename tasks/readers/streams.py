"""Bytes and lines of plain, gzip or zstd files, up to the place where they break."""

import gzip
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

import pyarrow as pa

from domainlm.tasks.documents import DeadLetter
from domainlm.tasks.readers.piece import Piece, Span
from domainlm.tasks.readers.record import MAX_RAW_BYTES, MAX_RECORD_BYTES, Unreadable, dead

CHUNK_BYTES = 1 << 20
ZSTD_CHUNK_BYTES = 1 << 16  # Arrow's zstd stream drops the read that meets the break, so this much may be lost there
BROKEN = "broken stream"


class BrokenStream(ValueError):
    """A compressed file ends too early or is damaged. What came before has been read, up to the `rest` at `offset`."""

    def __init__(self, reason: str, offset: int = 0, rest: bytes = b"") -> None:
        super().__init__(reason)
        self.offset = offset
        self.rest = rest

    def letter(self, name: str) -> DeadLetter:
        """The dead letter for what the break has cut off."""
        return dead(name, self.offset, str(self), self.rest)


def chunks(path: Path, start: int = 0) -> Iterator[bytes]:
    """The uncompressed bytes from `start`; raises BrokenStream after the last good ones."""
    size = ZSTD_CHUNK_BYTES if path.suffix == ".zst" else CHUNK_BYTES
    try:
        with _opened(path) as stream:
            if start:
                stream.seek(start)
            while chunk := stream.read(size):
                yield chunk
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise BrokenStream(f"{BROKEN} (gzip): {error}") from None
    except OSError as error:
        if path.suffix != ".zst" or error.errno is not None:  # Arrow's codec errors carry no errno
            raise
        raise BrokenStream(f"{BROKEN} (zstd): {error}") from None


def whole(piece: Piece) -> bytes:
    """All bytes of a file that is one document; raises Unreadable for one that is too large, BrokenStream."""
    taken: list[bytes] = []
    size = 0
    try:
        for chunk in chunks(piece.path):
            taken.append(chunk)
            size += len(chunk)
            if size > MAX_RECORD_BYTES:
                raise Unreadable(f"a document of more than {MAX_RECORD_BYTES:,} bytes", b"".join(taken)[:MAX_RAW_BYTES])
    except BrokenStream as error:
        raise BrokenStream(str(error), 0, b"".join(taken)) from None
    return b"".join(taken)


def lines(piece: Piece) -> Iterator[tuple[int, bytes]]:
    """(offset, line without its line feed) of each line that begins in the piece.

    A line of more than MAX_RECORD_BYTES comes cut off, but longer than that. Raises BrokenStream with what is left.
    """
    span = piece.span or Span(0, sys.maxsize)
    offset = max(0, span.start - 1)  # the line feed before the span tells whether a line begins with it
    ours = span.start == 0
    held: list[bytes] = []
    held_bytes = 0
    try:
        for chunk in chunks(piece.path, offset):
            *complete, rest = chunk.split(b"\n")
            for end in complete:
                length = held_bytes + len(end)
                if ours:
                    yield offset, b"".join([*held, end]) if held else end
                ours, held, held_bytes = True, [], 0
                offset += length + 1
                if offset >= span.end:
                    return
            if held_bytes <= MAX_RECORD_BYTES:
                held.append(rest)
            held_bytes += len(rest)
    except BrokenStream as error:
        raise BrokenStream(str(error), offset, b"".join(held)) from None
    if held_bytes and ours:
        yield offset, b"".join(held)


class _Gzip:
    """A gzip file whose `read` hands out what it has before it meets the break."""

    def __init__(self, path: Path) -> None:
        self._file = gzip.open(path, "rb")  # noqa: SIM115 - closed in __exit__
        self._break: Exception | None = None
        self.seek = self._file.seek

    def __enter__(self) -> "_Gzip":
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()

    def read(self, size: int) -> bytes:
        if self._break:
            raise self._break
        taken = bytearray()
        try:
            while len(taken) < size and (part := self._file.read1(size - len(taken))):
                taken += part
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            self._break = error
            if not taken:
                raise
        return bytes(taken)


def _opened(path: Path) -> "_Gzip | BinaryIO":
    if path.suffix == ".gz":
        return _Gzip(path)
    if path.suffix == ".zst":
        return cast(BinaryIO, pa.input_stream(str(path), compression="zstd", buffer_size=None))
    return path.open("rb")
