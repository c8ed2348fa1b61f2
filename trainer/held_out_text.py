"""Held-out text as the trainer reads it: token shards with the bytes of each text, and how they become rows.

A directory, written by the stage `tokenize_held_out`:

    held_out.json           `HeldOutText`: the tokenizer, and for each source its shard and the bytes of each text
    shards/<source>.arrow   a token shard (`shards.py`), documents in the order of the draw: any beginning is a sample

A document is read as evaluation reads it: its bos is given, every token of its text is predicted once, its eos is not.
One that is longer than the context is cut into windows; each but the first begins with a quarter of a context that was
predicted before, so no token is judged blind. Windows are packed into rows, in which none sees another.
Shape legend: B rows of a microbatch, T tokens of a sequence.
"""

from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from . import strict
from .loader import MASKED
from .mixture import Mixture, ShardInfo
from .shards import Shard, verify

SCHEMA = 1
INDEX = "held_out.json"
OVERLAP = 4  # the part of a window that was predicted before: a quarter costs a third more work, a half twice


@dataclass(frozen=True)
class HeldOutSource:
    """The held-out documents of one source."""

    name: str
    shard: ShardInfo
    text_bytes: tuple[int, ...]
    """UTF-8 bytes of each document's text."""

    def __post_init__(self) -> None:
        if len(self.text_bytes) != self.shard.documents:
            raise ValueError(
                f"held-out source `{self.name}` has {self.shard.documents} documents and the bytes of "
                f"{len(self.text_bytes)}; run tokenize_held_out again."
            )


@dataclass(frozen=True)
class HeldOutText:
    """What a directory of held-out text holds."""

    tokenizer_digest: str
    vocab_size: int
    sources: tuple[HeldOutSource, ...]
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        if self.schema != SCHEMA:
            raise ValueError(f"held-out schema {self.schema} is not {SCHEMA}; run tokenize_held_out again.")
        if not self.sources:
            raise ValueError("no source has held-out text; leave `held_out` out of train.json.")


@dataclass(frozen=True)
class Window:
    """Tokens [start, end) of a document, of which the last `num_scored` are predicted."""

    start: int
    end: int
    num_scored: int


@dataclass(frozen=True)
class Placed:
    """A window of document `row` in the shard, `place` tokens from the beginning of its packed row."""

    row: int
    window: Window
    place: int


Packed = tuple[Placed, ...]


@dataclass(frozen=True)
class Sample:
    """What is looked at of one source: its first documents, packed."""

    name: str
    shard: Shard
    documents: int
    text_bytes: int
    rows: tuple[Packed, ...]

    @property
    def num_tokens(self) -> int:
        """Tokens that are predicted."""
        return sum(placed.window.num_scored for row in self.rows for placed in row)

    def microbatch(self, first: int, size: int, length: int) -> tuple[Tensor, Tensor, Tensor]:
        """Input ids, position ids and targets [B, T] of rows first.. ; rows after the last are empty."""
        rows = [_fill(self.shard, row, length) for row in self.rows[first : first + size]]
        rows += [_fill(self.shard, (), length)] * (size - len(rows))
        ids, positions, targets = (torch.from_numpy(np.stack(column)) for column in zip(*rows, strict=True))
        return ids, positions, targets


def windows(num_tokens: int, context_tokens: int) -> Iterator[Window]:
    """Cut a document of `num_tokens`, its bos first, so that every later token is predicted exactly once.

    A window has one token more than the context: the last is only predicted, never read.
    """
    seen = max(1, context_tokens // OVERLAP)
    end = min(num_tokens, context_tokens + 1)
    yield Window(0, end, end - 1)
    while end < num_tokens:
        start, end = end - seen, min(num_tokens, end - seen + context_tokens + 1)
        yield Window(start, end, end - start - seen)


def load_held_out(directory: Path, mixture: Mixture) -> HeldOutText:
    """Read and check a directory.

    Raises:
        FileNotFoundError: there is none.
        ValueError: its bytes are not what was written, or it was made with another tokenizer than the mixture.
    """
    text = strict.load(HeldOutText, directory / INDEX)
    if (text.tokenizer_digest, text.vocab_size) != (mixture.tokenizer_digest, mixture.vocab_size):
        raise ValueError(
            f"held-out text {directory} was made with tokenizer {text.tokenizer_digest[:16]} ({text.vocab_size:,} "
            f"entries), but the mixture with {mixture.tokenizer_digest[:16]} ({mixture.vocab_size:,}); run "
            f"tokenize_held_out again."
        )
    for source in text.sources:
        verify(directory, source.shard)
    return text


def sample(directory: Path, source: HeldOutSource, *, context_tokens: int, max_tokens: int) -> Sample:
    """The first documents of a source until they are `max_tokens`, whole; one at least."""
    shard = Shard.open(directory / source.shard.file)
    starts = shard.offsets[:-1].tolist()
    documents = sum(start < max_tokens for start in starts) or 1
    lengths = np.diff(shard.offsets[: documents + 1]) - 1  # without the eos
    cut = [(row, w) for row, n in enumerate(lengths.tolist()) if n > 1 for w in windows(n, context_tokens)]
    return Sample(source.name, shard, documents, sum(source.text_bytes[:documents]), tuple(pack(cut, context_tokens)))


def pack(cut: Sequence[tuple[int, Window]], length: int) -> list[Packed]:
    """Windows into rows of `length` inputs: the longest first, each into the fullest row that has room."""
    rows: list[list[Placed]] = []
    room: list[tuple[int, int]] = []  # what is left of a row, sorted
    for row, window in sorted(cut, key=lambda item: (item[1].start - item[1].end, item[0], item[1].start)):
        inputs = window.end - window.start - 1
        at = bisect_left(room, (inputs, 0))
        left, number = room.pop(at) if at < len(room) else (length, len(rows))
        if number == len(rows):
            rows.append([])
        rows[number].append(Placed(row, window, length - left))
        insort(room, (left - inputs, number))
    return [tuple(row) for row in rows]


def _fill(shard: Shard, packed: Packed, length: int) -> tuple["np.typing.NDArray[np.int64]", ...]:
    """One row; what no window fills is a document of its own that predicts nothing."""
    ids, positions = np.zeros(length, np.int64), np.zeros(length, np.int64)
    targets = np.full(length, MASKED, np.int64)
    end = 0
    for placed in packed:
        window, begin = placed.window, placed.place
        tokens = shard.tokens[shard.offsets[placed.row] + window.start :][: window.end - window.start].astype(np.int64)
        end = begin + len(tokens) - 1
        ids[begin:end], positions[begin:end] = tokens[:-1], np.arange(end - begin)
        targets[end - window.num_scored : end] = tokens[len(tokens) - window.num_scored :]
    positions[end:] = np.arange(length - end)
    return ids, positions, targets
