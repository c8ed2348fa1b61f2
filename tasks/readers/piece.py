"""What a reader is given: a file, or the part of a large one that one worker reads.

How a file is cut follows from the file alone and never from the workers, so that they change nothing but the time.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

SPAN_BYTES = 256 << 20  # seconds of work for one worker; a larger file is read by several


@dataclass(frozen=True, slots=True)
class Span:
    """From `start` up to `end`: bytes, row groups or batches of a file. `first_row` counts the rows before it."""

    start: int
    end: int
    first_row: int = 0


@dataclass(frozen=True, slots=True)
class Piece:
    """A file, or a span of it. `name` is what the file is called in ids and dead letters, never a path of here."""

    path: Path
    name: str
    span: Span | None = None

    @property
    def is_first(self) -> bool:
        """Whether the file begins here."""
        return self.span is None or self.span.start == 0


def byte_spans(path: Path) -> list[Span | None]:
    """Equal spans of a plain file; a compressed one is read from its beginning, and so by one worker."""
    size = path.stat().st_size
    if path.suffix in (".gz", ".zst") or size <= SPAN_BYTES:
        return [None]
    return [Span(start, min(start + SPAN_BYTES, size)) for start in range(0, size, SPAN_BYTES)]


def row_spans(parts: Iterable[tuple[int, int]]) -> list[Span | None]:
    """Spans of the row groups or batches of a file, given the bytes and the rows of each."""
    spans: list[Span | None] = []
    start = first_row = rows = size = end = 0
    for part_bytes, part_rows in parts:
        if size and size + part_bytes > SPAN_BYTES:
            spans.append(Span(start, end, first_row))
            start, first_row, rows, size = end, first_row + rows, 0, 0
        end, rows, size = end + 1, rows + part_rows, size + part_bytes
    return [*spans, Span(start, end, first_row)] if spans else [None]
