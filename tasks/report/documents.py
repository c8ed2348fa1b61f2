"""What became of the documents: per source, from what was read to what is trained on, and under which licences.

In: the sealed directories of a build by name (`filter.pubmed`, `deduplicate`). Everything is read from manifests,
but for the reasons by source of `deduplicate`, which works on all sources at once: those are in its verdicts.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from domainlm.tasks.store import Sealed

Stages = Mapping[str, Sealed]

KEPT, HELD_OUT = "kept", "held_out"
CURATION = ("acquire", "filter", "deduplicate", "decontaminate")


@dataclass(frozen=True)
class Fate:
    """Documents that left the chain: in which stage, why, how many. `held_out` left it for evaluation."""

    stage: str
    reason: str
    documents: int


@dataclass(frozen=True)
class Funnel:
    """One source from end to end: `entered` = `kept` + the documents of all fates."""

    source: str
    entered: int
    fates: tuple[Fate, ...]
    kept: int

    def left_in(self, stage: str) -> int:
        """Documents that a stage dropped; held-out ones are not dropped."""
        return sum(fate.documents for fate in self.fates if fate.stage == stage and fate.reason != HELD_OUT)

    @property
    def held_out(self) -> int:
        """Documents kept from training for evaluation."""
        return sum(fate.documents for fate in self.fates if fate.reason == HELD_OUT)


@dataclass(frozen=True)
class LicenceCount:
    """Kept documents of one source under one licence, and what says so."""

    license: str
    source: str
    evidence: str
    documents: int


def funnels(stages: Stages) -> tuple[Funnel, ...]:
    """One funnel a source, by name. Raises ValueError where a document is not accounted for."""
    found = []
    for source in sources(stages):
        fates = tuple(fate for stage in CURATION for fate in _fates(stages, stage, source))
        entered = sum(stages[f"acquire.{source}"].manifest.entered.values())
        kept = stages[f"decontaminate.{source}"].manifest.fates[KEPT]
        lost = entered - kept - sum(fate.documents for fate in fates)
        if lost:
            raise ValueError(
                f"source {source!r}: of {entered:,} documents {lost:,} have no fate between acquire and decontaminate. "
                "These sealed directories do not follow from each other; build the recipe again."
            )
        found.append(Funnel(source, entered, fates, kept))
    return tuple(found)


def sources(stages: Stages) -> list[str]:
    """Names of the sources of a build."""
    return sorted(name.removeprefix("acquire.") for name in stages if name.startswith("acquire."))


def dropped_by_reason(all_funnels: tuple[Funnel, ...]) -> list[Fate]:
    """Fates over all sources, the most frequent first."""
    tally: Counter[tuple[str, str]] = Counter()
    for funnel in all_funnels:
        for fate in funnel.fates:
            tally[fate.stage, fate.reason] += fate.documents
    rows = (Fate(stage, reason, documents) for (stage, reason), documents in tally.items())
    return sorted(rows, key=lambda fate: (-fate.documents, fate.stage, fate.reason))


def licence_counts(stages: Stages) -> tuple[LicenceCount, ...]:
    """Kept documents by licence, source and evidence, the most frequent first."""
    found = []
    for source in sources(stages):
        tables = list(_columns(stages[f"decontaminate.{source}"], f"{KEPT}/", ["license", "license_evidence"]))
        counted = pa.concat_tables(tables).group_by(["license", "license_evidence"]).aggregate([([], "count_all")])
        for row in counted.to_pylist():
            found.append(LicenceCount(row["license"], source, row["license_evidence"], row["count_all"]))
    return tuple(sorted(found, key=lambda row: (-row.documents, row.license, row.source, row.evidence)))


def _fates(stages: Stages, stage: str, source: str) -> Iterator[Fate]:
    if stage == "deduplicate":
        tally = _duplicate_reasons(stages[stage], source)
    else:
        fates = stages[f"{stage}.{source}"].manifest.fates
        tally = {reason: count for reason, count in fates.items() if reason != KEPT}
    for reason, documents in sorted(tally.items()):
        if documents:
            yield Fate(stage, reason, documents)


def _duplicate_reasons(sealed: Sealed, source: str) -> Mapping[str, int]:
    tally: Counter[str] = Counter()
    for table in _columns(sealed, f"verdicts/{source}/", ["rule"]):
        tally.update(rule.removeprefix("deduplicate.") + "_duplicate" for rule in table["rule"].to_pylist())
    return tally


def _columns(sealed: Sealed, prefix: str, columns: list[str]) -> Iterator[pa.Table]:
    for output in sealed.manifest.outputs:
        if output.path.startswith(prefix) and output.path.endswith(".parquet"):
            yield pq.read_table(sealed.path / output.path, columns=columns)
