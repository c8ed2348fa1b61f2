"""One rank a shard of documents: the datatrove step, the rank's own books, and their sum.

In: a picklable function of the rank, which reads one shard and writes its outputs with `write_rows`.
Out, until the stage ends: `.ranks/<name>/books/00000.json`, the counts of a rank, so that a resumed stage need not
read again what was finished before.
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

from datatrove.data import DocumentsPipeline
from datatrove.pipeline.base import PipelineStep

from domainlm.tasks.engine import MARKS, run_ranks
from domainlm.tasks.runtime import Runtime

ShardWork = Callable[[int], Mapping[str, int]]


class EmptyCorpus(ValueError):
    """A stage left no document for those after it."""


class ShardStep(PipelineStep):  # type: ignore[misc]  # datatrove ships no types
    """Calls `work(rank)` and keeps the counts that it returns as the rank's books."""

    name = "shard"
    type = "documents"

    def __init__(self, work: ShardWork, books: Path) -> None:
        super().__init__()
        self.work = work
        self.books = books

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> DocumentsPipeline:
        """Do one shard; nothing is passed on."""
        counts = self.work(rank)
        self.books.mkdir(parents=True, exist_ok=True)
        (self.books / f"{rank:05d}.json").write_text(json.dumps(counts))
        yield from ()


def run_shards(work: ShardWork, shards: int, out: Path, runtime: Runtime, *, name: str = "all") -> dict[str, int]:
    """Run `work` for every shard; returns the sum of their counts. `name` tells apart several passes of one stage."""
    books = out / MARKS / name / "books"
    run_ranks([ShardStep(work, books)], shards, out, runtime, name=name)
    total: Counter[str] = Counter()
    for rank in range(shards):
        total.update(json.loads((books / f"{rank:05d}.json").read_text()))
    return dict(sorted(total.items()))
