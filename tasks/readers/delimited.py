"""CSV and TSV: a header, then one record a line, or several lines where a quoted field holds line ends.

A record that cannot be read loses its first line only: the lines after it are read anew, so that one stray quote does
not swallow what follows. A line end may lie inside quotes and only reading from the beginning tells, so that one worker
reads a file.
"""

import csv
from collections import deque
from collections.abc import Iterator

from domainlm.tasks.documents import DeadLetter
from domainlm.tasks.readers.piece import Piece
from domainlm.tasks.readers.record import MAX_RECORD_BYTES, Record, Settings, Unreadable, dead, decoded, from_fields
from domainlm.tasks.readers.streams import BrokenStream, lines

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
Line = tuple[int, bytes]

csv.field_size_limit(MAX_RECORD_BYTES)


def read_csv(piece: Piece, settings: Settings) -> Iterator[Record | DeadLetter]:
    """Records between commas, in the order of the file; offsets are bytes of the uncompressed text."""
    return _read(piece, settings, ",")


def read_tsv(piece: Piece, settings: Settings) -> Iterator[Record | DeadLetter]:
    """Records between tabs, in the order of the file; offsets are bytes of the uncompressed text."""
    return _read(piece, settings, "\t")


def _read(piece: Piece, settings: Settings, delimiter: str) -> Iterator[Record | DeadLetter]:
    feed = _Feed(piece, settings.encoding)
    parser = csv.reader(feed, delimiter=delimiter, strict=True)
    header: list[str] | None = None
    while feed.more():
        try:
            values = _next_row(parser)
            if header is None:
                header = values
            else:
                yield from_fields(_named(values, header), settings, piece.name, feed.taken[0][0])
        except Unreadable as fault:
            offset, raw = feed.taken[0]
            feed.give_back()
            header = header or []  # without a header no row can be read, and each is a dead letter
            yield dead(piece.name, offset, str(fault), raw)
    if feed.broken is not None:
        yield feed.broken.letter(piece.name)


class _Feed:
    """The lines of a file for the CSV parser, which takes as many as a record has."""

    def __init__(self, piece: Piece, encoding: str) -> None:
        self.taken: list[Line] = []
        self.broken: BrokenStream | None = None
        self._encoding = encoding
        self._taken_bytes = 0
        self._waiting: deque[Line] = deque()
        self._source = self._lines(piece)

    def more(self) -> bool:
        """Whether another record begins; empty lines are no records."""
        self.taken, self._taken_bytes = [], 0
        while self._waiting or self._pull():
            if self._waiting[0][1].strip(b" \r\n"):
                return True
            self._waiting.popleft()
        return False

    def give_back(self) -> None:
        """Let all but the first of the record's lines be read anew."""
        self._waiting.extendleft(reversed(self.taken[1:]))

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if not self._waiting and not self._pull():
            raise StopIteration
        line = self._waiting.popleft()
        self.taken.append(line)
        self._taken_bytes += len(line[1])
        if self._taken_bytes > MAX_RECORD_BYTES:
            raise Unreadable(f"a record of more than {MAX_RECORD_BYTES:,} bytes, or a quote that nothing closes")
        return decoded(line[1], self._encoding)

    def _pull(self) -> bool:
        line = next(self._source, None)
        if line is not None:
            self._waiting.append(line)
        return line is not None

    def _lines(self, piece: Piece) -> Iterator[Line]:
        """Lines with their ends; a carriage return alone ends one too. The last may have none."""
        try:
            for offset, line in lines(piece):
                content = (line.removeprefix(BYTE_ORDER_MARK) if offset == 0 else line) + b"\n"
                for part in content.splitlines(keepends=True) if b"\r" in line else (content,):
                    yield offset, part
                    offset += len(part)
        except BrokenStream as error:
            self.broken = error


def _next_row(parser: Iterator[list[str]]) -> list[str]:
    try:
        return next(parser)
    except csv.Error as error:
        raise Unreadable(f"broken quotes: {error}") from None


def _named(values: list[str], header: list[str]) -> dict[str, object]:
    if len(set(header)) < len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise Unreadable(f"the header names {twice!r} twice")
    if len(values) != len(header):
        raise Unreadable(f"{len(values)} fields where the header has {len(header)}")
    return dict(zip(header, values, strict=True))
