"""The datatrove step that every document stage is made of: do one shard, keep its counts, or say why it failed.

Out, until the stage ends, below `.ranks/<name>/`:

    books/00000.json    the counts of a rank
    errors/00000.txt    why a rank failed; a later success removes it
"""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from datatrove.data import DocumentsPipeline
from datatrove.pipeline.base import PipelineStep

ShardWork = Callable[[int], Mapping[str, int]]


class ShardStep(PipelineStep):  # type: ignore[misc]  # datatrove ships no types
    """Calls `work(rank)` and keeps the counts that it returns as the rank's books."""

    name = "shard"
    type = "documents"

    def __init__(self, work: ShardWork, marks: Path, directory: Path) -> None:
        """`marks` is the pass's own directory, `directory` what relative paths start from, on whichever machine."""
        super().__init__()
        self.work = work
        self.marks = marks
        self.directory = directory

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> DocumentsPipeline:
        """Do one shard; nothing is passed on."""
        os.chdir(self.directory)
        books, error = self.marks / "books" / f"{rank:05d}.json", self.marks / "errors" / f"{rank:05d}.txt"
        try:
            counts = self.work(rank)
        except Exception as failure:
            error.parent.mkdir(parents=True, exist_ok=True)
            error.write_text(f"{type(failure).__name__}: {failure}\n")
            raise
        error.unlink(missing_ok=True)
        books.parent.mkdir(parents=True, exist_ok=True)
        books.write_text(json.dumps(counts))
        yield from ()
