"""Runs a function of the rank for every shard of documents, wherever the runtime says, and sums their books.

In: a function of the rank, which reads one shard and writes its outputs with `write_rows`. It is a `partial` of a
module's function, or a dataclass that can be called, so that it can travel to another process and to another machine.
"""

import json
from collections import Counter
from pathlib import Path

from domainlm.tasks.engine import MARKS, run_ranks
from domainlm.tasks.runtime import Runtime
from domainlm.tasks.shard_step import ShardStep, ShardWork


class EmptyCorpus(ValueError):
    """A stage left no document for those after it."""


def run_shards(work: ShardWork, shards: int, out: Path, runtime: Runtime, *, name: str = "all") -> dict[str, int]:
    """Run `work` for every shard; returns the sum of their counts. `name` tells apart several passes of one stage."""
    marks = out / MARKS / name
    run_ranks(ShardStep(work, marks, Path.cwd()), shards, runtime)
    total: Counter[str] = Counter()
    for rank in range(shards):
        total.update(json.loads((marks / "books" / f"{rank:05d}.json").read_text()))
    return dict(sorted(total.items()))
