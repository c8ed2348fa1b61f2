"""A corpus' token stream: its shards laid end to end, with document boundaries.

Reads by memory map, copies no more than the window that is asked for.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from .mixture import CorpusTokens
from .permutation import Integers
from .sampler import spans
from .shards import Shard


@dataclass(frozen=True)
class Piece:
    """`tokens` tokens of one document, from `start` of the corpus' stream."""

    doc_id: str
    source: str
    license: str
    start: int
    tokens: int


class CorpusStream:
    """The open shards of one corpus."""

    def __init__(self, corpus: CorpusTokens, directory: Path) -> None:
        self.corpus = corpus
        self.shards = tuple(Shard.open(directory / info.file) for info in corpus.shards)
        for shard, info in zip(self.shards, corpus.shards, strict=True):
            if len(shard.tokens) != info.tokens or shard.num_documents != info.documents:
                raise ValueError(
                    f"{shard.path} has {len(shard.tokens):,} tokens in {shard.num_documents:,} documents, but the "
                    f"mixture says {info.tokens:,} in {info.documents:,}; run mix again on this tokenize directory."
                )
        self._shard_starts = np.cumsum([0, *(info.tokens for info in corpus.shards)])

    def read(self, start: int, length: int) -> npt.NDArray[np.int64]:
        """Tokens [start, start + length) of the stream."""
        pieces = [
            self.shards[span.shard].tokens[span.start : span.start + span.length]
            for span in spans(self.corpus, start, length)
        ]
        return np.concatenate(pieces).astype(np.int64)

    def document_starts(self, start: int, length: int) -> Integers:
        """Where documents begin in [start, start + length), relative to `start`."""
        found, done = [], 0
        for span in spans(self.corpus, start, length):
            offsets = self.shards[span.shard].offsets
            first, last = np.searchsorted(offsets, [span.start, span.start + span.length])
            found.append(offsets[first:last].astype(np.int64) - span.start + done)
            done += span.length
        return np.concatenate(found)

    def pieces(self, start: int, length: int) -> Iterator[Piece]:
        """The documents, whole or cut, that [start, start + length) is made of."""
        for span in spans(self.corpus, start, length):
            shard, end = self.shards[span.shard], span.start + span.length
            row = int(np.searchsorted(shard.offsets, span.start, side="right")) - 1
            while row < shard.num_documents and shard.offsets[row] < end:
                begin = max(span.start, int(shard.offsets[row]))
                tokens = min(end, int(shard.offsets[row + 1])) - begin
                yield self._piece(span.shard, row, begin, tokens)
                row += 1

    def find(self, doc_id: str) -> list[Piece]:
        """The documents of that id, whole."""
        found = []
        for number, shard in enumerate(self.shards):
            rows = np.flatnonzero(pc.equal(shard.doc_ids, pa.scalar(doc_id)).to_numpy(zero_copy_only=False))
            for row in rows.tolist():
                begin, end = (int(offset) for offset in shard.offsets[row : row + 2])
                found.append(self._piece(number, row, begin, end - begin))
        return found

    def _piece(self, number: int, row: int, begin: int, tokens: int) -> Piece:
        shard = self.shards[number]
        names = shard.doc_ids[row].as_py(), shard.sources[row].as_py(), shard.licenses[row].as_py()
        return Piece(*names, int(self._shard_starts[number]) + begin, tokens)

    @cached_property
    def starts(self) -> Integers:
        """Where every document of the corpus begins in the stream."""
        shards = zip(self.shards, self._shard_starts[:-1], strict=True)
        return np.concatenate([shard.offsets[:-1].astype(np.int64) + offset for shard, offset in shards])
