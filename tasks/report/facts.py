"""All facts of a release, computed from the sealed directories of its build. `report.json` is `Report`, as JSON.

stages by name, as the build calls them:
acquire.<source> filter.<source> deduplicate decontaminate.<source> [train_tokenizer] [extend_tokenizer]
tokenize.<source> mix train evaluate.model evaluate.base
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from domainlm.tasks.report.documents import Funnel, LicenceCount, Stages, funnels, licence_counts, sources
from domainlm.tasks.report.lineage import Link, lineage
from domainlm.tasks.report.training import (
    MixedCorpus,
    Model,
    Training,
    read_mixture,
    read_model,
    read_training,
)
from domainlm.tasks.report.verdict import ScorePair, Verdict, judge, score_pairs

REPORT_SCHEMA = 2
STAGES = (
    *("acquire", "learn_domain", "annotate", "filter", "deduplicate", "decontaminate", "train_tokenizer"),
    *("extend_tokenizer", "tokenize", "mix", "train", "evaluate"),
)
SETTINGS = (
    "learn_domain",
    "annotate",
    "filter",
    "deduplicate",
    "decontaminate",
    "train_tokenizer",
    "extend_tokenizer",
    "tokenize",
    "mix",
    "train",
)


@dataclass(frozen=True)
class SourceFacts:
    """Where a source came from, as its recipe says and its manifests count."""

    source: str
    origin: str
    revision: str
    retrieved_at: str
    format: str
    files: int
    text_bytes: int
    tokens: int
    pii_replaced: Mapping[str, int]


@dataclass(frozen=True)
class Made:
    """By what it was made: enough to make it again."""

    started: str
    seconds: float
    commits: tuple[str, ...]
    dirty: bool
    lock_digest: str | None
    python: str
    packages: Mapping[str, str]


@dataclass(frozen=True)
class Report:
    """A release, in facts."""

    schema: int
    name: str
    description: str
    model: Model
    verdict: Verdict
    scores: tuple[ScorePair, ...]
    training: Training
    documents: tuple[Funnel, ...]
    sources: tuple[SourceFacts, ...]
    licences: tuple[LicenceCount, ...]
    tokens_by_licence: Mapping[str, int]
    mixture: tuple[MixedCorpus, ...]
    settings: Mapping[str, Mapping[str, object]]
    """The configs of the stages that shape the corpus and the model, by `<stage>` or `<stage>.<source>`."""
    lineage: tuple[Link, ...]
    made: Made


def gather(stages: Stages, *, name: str, description: str) -> Report:
    """Read every fact. Raises ValueError where the directories do not belong together."""
    stages = {name: stages[name] for name in sorted(stages, key=_in_order_of_build)}
    train, mix = stages["train"], stages["mix"]
    return Report(
        schema=REPORT_SCHEMA,
        name=name,
        description=description,
        model=read_model(train, mix, stages.get("extend_tokenizer")),
        verdict=judge(stages["evaluate.model"], stages["evaluate.base"]),
        scores=score_pairs(stages["evaluate.model"], stages["evaluate.base"]),
        training=read_training(train),
        documents=funnels(stages),
        sources=tuple(_source(stages, source) for source in sources(stages)),
        licences=licence_counts(stages),
        tokens_by_licence=_tokens_by_licence(stages),
        mixture=read_mixture(mix, train),
        settings={name: sealed.manifest.config for name, sealed in stages.items() if sealed.manifest.stage in SETTINGS},
        lineage=lineage(stages),
        made=_made(stages),
    )


def _in_order_of_build(name: str) -> tuple[int, str]:
    """The place of `<stage>.<label>` in a build: the order in which inputs come is not in the key."""
    return STAGES.index(name.partition(".")[0]), name


def _source(stages: Stages, source: str) -> SourceFacts:
    acquired = stages[f"acquire.{source}"].manifest
    tokenized = stages.get(f"tokenize.{source}")
    pii = stages[f"filter.{source}"].manifest.counts
    return SourceFacts(
        source=source,
        origin=str(acquired.config.get("origin") or ""),
        revision=str(acquired.config.get("revision") or ""),
        retrieved_at=str(acquired.config.get("retrieved_at") or ""),
        format=str(acquired.config.get("format") or ""),
        files=int(acquired.counts.get("files", 0)),
        text_bytes=int(tokenized.manifest.counts["text_bytes"]) if tokenized else 0,
        tokens=int(tokenized.manifest.counts["tokens"]) if tokenized else 0,
        pii_replaced={name.removeprefix("pii."): int(n) for name, n in pii.items() if name.startswith("pii.") and n},
    )


def _tokens_by_licence(stages: Stages) -> dict[str, int]:
    tally: Counter[str] = Counter()
    for sealed in stages.values():
        if sealed.manifest.stage == "tokenize":
            for name, count in sealed.manifest.counts.items():
                if name.startswith("tokens."):
                    tally[name.removeprefix("tokens.")] += int(count)
    return dict(sorted(tally.items(), key=lambda item: (-item[1], item[0])))


def _made(stages: Stages) -> Made:
    records = [sealed.manifest.provenance for sealed in stages.values()]
    newest = max(records, key=lambda record: record.started)
    return Made(
        started=min(record.started for record in records),
        seconds=sum(record.seconds for record in records),
        commits=tuple(sorted({record.commit for record in records if record.commit})),
        dirty=any(record.dirty_digest for record in records),
        lock_digest=newest.lock_digest,
        python=newest.python,
        packages=newest.packages,
    )
