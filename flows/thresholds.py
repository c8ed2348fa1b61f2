"""What each threshold of a recipe's filter would drop (`domainlm thresholds`), from the annotations alone.

No text is read: the numbers of the newest `annotate` of each source are compared with the recipe's thresholds, changed
with `--set` or not, so that one can be tried in a second and is built only when it is wanted.
"""

from collections import Counter
from collections.abc import Iterator

import numpy as np
import pyarrow.parquet as pq

from domainlm.flows.recipe import Recipe, Source
from domainlm.flows.tracing import Row
from domainlm.tasks.filter import KEPT, FilterConfig, opinions, select
from domainlm.tasks.stage import identity
from domainlm.tasks.store import Sealed, Store


def threshold_rows(recipe: Recipe, store: Store) -> list[Row]:
    """For each source, what is kept, and for each threshold how many it objects to, and how many nothing else does."""
    return [row for source in recipe.sources for row in _source_rows(source, source.filter or recipe.filter, store)]


def _source_rows(source: Source, config: FilterConfig, store: Store) -> Iterator[Row]:
    files = _annotations(source, config, store).part("annotated").paths()
    objects: Counter[tuple[str, str]] = Counter()
    alone: Counter[tuple[str, str]] = Counter()
    documents = kept = 0
    for file in files:
        table = pq.read_table(file)
        said = list(opinions(config, table))
        documents += len(table)
        kept += int((select(said, len(table)) == KEPT).sum())
        against = np.bincount(np.concatenate([opinion.objects for opinion in said]), minlength=len(table))
        for opinion in said:
            objects[opinion.rule, opinion.threshold] += len(opinion.objects)
            alone[opinion.rule, opinion.threshold] += int((against[opinion.objects] == 1).sum())
    yield _row(source.name, "", "", documents, documents - kept, documents - kept)
    for rule, threshold in objects:
        yield _row(source.name, rule, threshold, documents, objects[rule, threshold], alone[rule, threshold])


def _row(source: str, rule: str, threshold: str, documents: int, objects: int, alone: int) -> Row:
    return {
        "source": source,
        "rule": rule or "all",
        "threshold": threshold,
        "documents": documents,
        "drops": objects,
        "share": objects / max(1, documents),
        "drops_alone": alone,
    }


def _annotations(source: Source, config: FilterConfig, store: Store) -> Sealed:
    """The newest annotations of a source that hold what its rules ask about. Raises FileNotFoundError."""
    asked = identity(config.annotate_config())
    found = store.sealed("annotate", source.name)
    if fitting := [sealed for sealed in found if sealed.manifest.config == asked]:
        return fitting[-1]
    fault = "hold what these rules ask about" if found else "are in the store"
    raise FileNotFoundError(
        f"No annotations of source {source.name!r} {fault} ({store.root}). Build the recipe with these rules once "
        "(`domainlm build`); after that every threshold is a query."
    )
