"""Filter one source: every rule says something of every document, then the first rule that said no decides.

In: `documents` (shards of Parquet). Out, one file an input shard:

    verdicts/00000.parquet      what each rule said of each document, in the order of the rules
    kept/00000.parquet          documents that no rule objected to, with identifiers replaced if `pii` asks for it
    quarantined/00000.parquet   documents whose licence nobody knows, for a person to decide (only if there are any)
    pii/00000.parquet           what was replaced, where (only with `pii`)

Fates: `kept`, `quarantined`, and the name of each rule that dropped something. The counts `no.<rule>` say how many
documents each rule objected to, whatever the others said: the table to set thresholds by.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from domainlm.tasks.document_shards import EmptyCorpus, run_shards
from domainlm.tasks.documents import (
    Document,
    Verdict,
    content_sha256,
    read_documents,
    read_verdicts,
    write_rows,
)
from domainlm.tasks.engine import clear_marks
from domainlm.tasks.licenses import LicensePolicy
from domainlm.tasks.manifest import Books, Part
from domainlm.tasks.pii import Finding, PiiKind, find_pii, redact, write_findings
from domainlm.tasks.quality_rules import GopherQualityRule, GopherRepetitionRule
from domainlm.tasks.rules import (
    RULES,
    BoilerplateRule,
    LanguageRule,
    LengthRule,
    LicenseRule,
    RetractedRule,
    Rule,
)
from domainlm.tasks.runtime import Runtime
from domainlm.tasks.stage import Inputs, stage

KEPT = "kept"
QUARANTINED = "quarantined"

Judge = Callable[[Document], Verdict]


class FilterConfig(BaseModel):
    """The rules a document must pass, in order, and what is done to those that do."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="Filter")

    licenses: LicensePolicy = Field(
        default_factory=LicensePolicy, title="Licences", description="What the rule `license` allows."
    )
    rules: tuple[Rule, ...] = Field(
        (
            LicenseRule(),
            RetractedRule(),
            LengthRule(),
            LanguageRule(),
            BoilerplateRule(),
            GopherQualityRule(),
            GopherRepetitionRule(),
        ),
        title="Rules",
        description="All are asked about every document; the first one that says no is its fate.",
        min_length=1,
    )
    pii: tuple[PiiKind, ...] = Field(
        (), title="Identifiers", description="Kinds of personal identifiers to replace by placeholders; empty for none."
    )

    @model_validator(mode="after")
    def _each_rule_once(self) -> Self:
        names = [settings.rule for settings in self.rules]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"the rule {twice[0]!r} stands {names.count(twice[0])} times in `rules`. Once is enough.")
        return self


@stage(version=1, disk_factor=2.0, resumes=True)
def filter(config: FilterConfig, inputs: Inputs, out: Path, runtime: Runtime) -> Books:
    """Annotate every document, then select; raises EmptyCorpus if nothing is left."""
    documents = inputs["documents"]
    work = partial(filter_shard, config=config, documents=documents, out=out)
    counts = run_shards(work, len(documents.files), out, runtime)
    fates = {name.removeprefix("fate."): count for name, count in counts.items() if name.startswith("fate.")}
    if not fates.get(KEPT):
        raise EmptyCorpus(_nothing_left(documents, fates))
    clear_marks(out)
    figures = {name: float(count) for name, count in counts.items() if not name.startswith("fate.")}
    return Books(entered={"documents": sum(fates.values())}, fates=fates, counts=figures)


def filter_shard(shard: int, *, config: FilterConfig, documents: Part, out: Path) -> Counter[str]:
    """Filter one file of documents; returns its fates, objections and replacements."""
    source, name = documents.paths()[shard], f"{shard:05d}.parquet"
    write_rows(out / "verdicts" / name, Verdict, annotate(read_documents(source), judges(config)))
    fates = list(select(read_verdicts(out / "verdicts" / name), len(config.rules)))
    findings: list[Finding] = []
    for fate in (KEPT, QUARANTINED):
        if fate == KEPT or fate in fates:
            chosen = (document for document, its in zip(read_documents(source), fates, strict=True) if its == fate)
            write_rows(out / fate / name, Document, (_redacted(document, config.pii, findings) for document in chosen))
    if config.pii:
        write_findings(out / "pii" / name, findings)
    counts = Counter(f"fate.{fate}" for fate in [KEPT, *fates])
    counts[f"fate.{KEPT}"] -= 1  # named even where it is 0
    counts.update(f"no.{verdict.rule}" for verdict in read_verdicts(out / "verdicts" / name) if not verdict.keep)
    counts.update(f"pii.{finding.kind}" for finding in findings)
    return counts


def judges(config: FilterConfig) -> list[Judge]:
    """One function document -> verdict for each rule, in order. The licence gate goes by the policy."""
    return [
        partial(_ask, settings.rule, config.licenses if isinstance(settings, LicenseRule) else settings)
        for settings in config.rules
    ]


def annotate(documents: Iterable[Document], judges: Sequence[Judge]) -> Iterator[Verdict]:
    """The verdicts of all rules on each document, in order."""
    for document in documents:
        for judge in judges:
            yield judge(document)


def select(verdicts: Iterable[Verdict], num_rules: int) -> Iterator[str]:
    """The fate of each document: the first rule that said no, `quarantined` if it was an unknown licence, or `kept`."""
    rest = iter(verdicts)
    while of_one := list(islice(rest, num_rules)):
        yield fate(of_one)


def fate(verdicts: Sequence[Verdict]) -> str:
    """The fate of one document, from what the rules said of it in order."""
    objection = next((verdict for verdict in verdicts if not verdict.keep), None)
    if objection is None:
        return KEPT
    return QUARANTINED if objection.value.startswith(f"{QUARANTINED}:") else objection.rule


def _ask(rule: str, settings: BaseModel, document: Document) -> Verdict:
    return RULES[rule](document, settings)


def _redacted(document: Document, kinds: Sequence[PiiKind], findings: list[Finding]) -> Document:
    """The document without its identifiers; what was found is added to `findings`."""
    found = find_pii(document.doc_id, document.text, kinds)
    if not found:
        return document
    findings += found
    text = redact(document.text, found)
    return replace(document, text=text, content_sha256=content_sha256(text))


def _nothing_left(documents: Part, fates: dict[str, int]) -> str:
    entered = sum(fates.values())
    if not entered:
        return f"{documents.origin} holds no documents: nothing to filter. Look at its dead letters, or at its files."
    dropped = sorted(((count, name) for name, count in fates.items() if name != KEPT), reverse=True)
    table = ", ".join(f"{name} {count:,}" for count, name in dropped)
    worst = dropped[0][1]
    move = {
        "license": "Allow the source's licence in `filter.licenses.allow`, if its terms let you train on it",
        QUARANTINED: "Give the source its `license` with evidence, or decide on the unknown ones in `filter.licenses`",
        "language": "Add the source's language to the rule's `languages`",
    }.get(worst, f"Loosen the thresholds of the rule {worst!r}, or leave it out of `filter.rules`")
    return f"The filter kept none of the {entered:,} documents of {documents.origin}. Fates: {table}. {move}."
