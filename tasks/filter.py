"""Filter one source: select by what `annotate` has measured; the first rule that objects decides a document's fate.

In: `documents` (shards of Parquet) and `annotations` (the same documents in the same order). Out, one file a shard:

    verdicts/00000.parquet      every objection to a document: rule, value and threshold, in the order of the rules
    kept/00000.parquet          documents that no rule objected to, with identifiers replaced if `pii` asks for it
    quarantined/00000.parquet   documents whose licence nobody knows, for a person to decide (only if there are any)
    pii/00000.parquet           what was replaced, where (only with `pii`)

Fates: `kept`, `quarantined`, and the name of each rule that dropped something. The counts `no.<rule>` say how many
documents each rule objected to, whatever the others said, and `no.<rule>.<setting>` each of its thresholds: the table
to set them by.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field, model_validator

from domainlm.eval.parquet import read_batches
from domainlm.tasks.annotate import AnnotateConfig
from domainlm.tasks.document_shards import EmptyCorpus, run_shards
from domainlm.tasks.documents import (
    DOCUMENT_SCHEMA,
    UNKNOWN_LICENSE,
    VERDICT_SCHEMA,
    Verdict,
    content_sha256,
)
from domainlm.tasks.engine import clear_marks
from domainlm.tasks.language import known_languages
from domainlm.tasks.learn_domain import LearnDomainConfig
from domainlm.tasks.licenses import KNOWN_BETTER, LicensePolicy
from domainlm.tasks.manifest import Books, Part
from domainlm.tasks.opinions import Opinion
from domainlm.tasks.pii import Finding, PiiKind, find_pii, redact, write_findings
from domainlm.tasks.presidio import Presidio, load_analyzer
from domainlm.tasks.profiles import PROFILES, Profile, changed, changed_by_name
from domainlm.tasks.quality_rules import GopherQualityRule, GopherRepetitionRule
from domainlm.tasks.rules import (
    QUARANTINED,
    BoilerplateRule,
    DatatroveRule,
    DomainRule,
    LanguageRule,
    LengthRule,
    LicenseRule,
    RetractedRule,
    Rule,
)
from domainlm.tasks.runtime import Runtime
from domainlm.tasks.stage import Inputs, stage
from domainlm.tasks.tables import bounded_batches, write_tables

KEPT = "kept"
LISTED_LICENSES = 3  # in an error
DEFAULT_RULES = (
    LicenseRule(),
    RetractedRule(),
    LengthRule(),
    LanguageRule(),
    BoilerplateRule(),
    GopherQualityRule(),
    GopherRepetitionRule(),
)


class FilterConfig(BaseModel):
    """The rules a document must pass, in order, and what is done to those that do."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="Filter")

    licenses: LicensePolicy = Field(
        default_factory=LicensePolicy, title="Licences", description="What the rule `license` allows."
    )
    profile: Profile | None = Field(
        None,
        title="Profile",
        description="Rules and thresholds of a domain; `rules` then changes them by name, or adds to them.",
    )
    rules: tuple[Rule, ...] = Field(
        DEFAULT_RULES,
        title="Rules",
        description="All are asked about every document; the first one that says no is its fate.",
        min_length=1,
    )
    pii: tuple[PiiKind | Presidio, ...] = Field(
        (),
        title="Identifiers",
        description="Personal identifiers to replace by placeholders: kinds that a pattern tells, and what a model of "
        "Presidio's finds. Empty for none.",
    )

    @model_validator(mode="before")
    @classmethod
    def _with_profile(cls, raw: object) -> object:
        if not isinstance(raw, dict):
            return raw
        given, profile = raw.get("rules", ()), raw.get("profile")
        known = next((rules for name, rules in PROFILES.items() if name == profile), None)
        if isinstance(given, Mapping):
            return {**raw, "rules": changed_by_name(known or DEFAULT_RULES, given)}
        if known and isinstance(given, list | tuple):
            return {**raw, "rules": changed(known, given)}
        return raw

    @model_validator(mode="after")
    def _each_rule_once(self) -> Self:
        names = [settings.name for settings in self.rules]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"the rule {twice[0]!r} stands {names.count(twice[0])} times in `rules`. Once is enough.")
        return self

    @model_validator(mode="after")
    def _licenses_have_effect(self) -> Self:
        if self.licenses != LicensePolicy() and not any(isinstance(one, LicenseRule) for one in self.rules):
            raise ValueError("`licenses` has no effect: no rule asks for them. Add `{rule: license}` to `rules`.")
        return self

    def annotate_config(self) -> AnnotateConfig:
        """What has to be measured for these rules, without their thresholds."""
        rules = {settings.name: settings for settings in self.rules}
        language, boilerplate = rules.get("language"), rules.get("boilerplate")
        return AnnotateConfig(
            quality=not rules.keys().isdisjoint(("length", "gopher_quality", "gopher_repetition", "c4", "fineweb")),
            languages=_told_apart(language) if isinstance(language, LanguageRule) else None,
            phrases=boilerplate.phrases if isinstance(boilerplate, BoilerplateRule) else (),
            datatrove=tuple(one.asked() for one in self.rules if isinstance(one, DatatroveRule)),
            domain="domain" in rules,
        )

    def domain_config(self) -> LearnDomainConfig | None:
        """What the domain's model is learned from, where a rule asks for one."""
        return next((settings.classifier for settings in self.rules if isinstance(settings, DomainRule)), None)


@stage(version=2, disk_factor=2.0, resumes=True)
def filter(config: FilterConfig, inputs: Inputs, out: Path, runtime: Runtime) -> Books:
    """Select by the annotations; raises EmptyCorpus if nothing is left."""
    documents, annotations = inputs["documents"], inputs["annotations"]
    _check_languages(config)
    for asked in config.pii:
        if isinstance(asked, Presidio):
            load_analyzer(asked)  # a package or a model that is not there stops the stage here
    work = partial(filter_shard, config=config, documents=documents, annotations=annotations, out=out)
    counts = run_shards(work, len(documents.files), out, runtime)
    fates = {name.removeprefix("fate."): count for name, count in counts.items() if name.startswith("fate.")}
    if not fates.get(KEPT):
        raise EmptyCorpus(_nothing_left(documents, fates))
    clear_marks(out)
    figures = {name: float(count) for name, count in counts.items() if not name.startswith("fate.")}
    return Books(entered={"documents": sum(fates.values())}, fates=fates, counts=figures)


def filter_shard(shard: int, *, config: FilterConfig, documents: Part, annotations: Part, out: Path) -> Counter[str]:
    """Filter one file of documents; returns its fates, objections and replacements."""
    source, name = documents.paths()[shard], f"{shard:05d}.parquet"
    table = pq.read_table(annotations.paths()[shard])
    said = list(opinions(config, table))
    fates = select(said, len(table))
    write_tables(out / "verdicts" / name, VERDICT_SCHEMA, [objections(said, table["doc_id"])])
    findings: list[Finding] = []
    for fate in (KEPT, QUARANTINED):
        if fate == KEPT or fate in fates:
            chosen = (_redacted(batch, config.pii, findings) for batch in _chosen(source, fates == fate))
            write_tables(out / fate / name, DOCUMENT_SCHEMA, chosen)
    if config.pii:
        write_findings(out / "pii" / name, findings)
    counts = Counter({f"fate.{KEPT}": 0})  # named even where it is 0
    counts.update(f"fate.{fate}" for fate in fates.tolist())
    counts.update(count_objections(said))
    counts.update(f"pii.{finding.kind}" for finding in findings)
    return counts


def opinions(config: FilterConfig, annotations: pa.Table) -> Iterator[Opinion]:
    """What every check of every rule says, in order. The licence gate goes by the policy."""
    for settings in config.rules:
        if isinstance(settings, LicenseRule):
            yield from settings.opinions(annotations, config.licenses)
        else:
            yield from settings.opinions(annotations)


def select(said: Sequence[Opinion], num_documents: int) -> np.ndarray[tuple[int], np.dtype[np.object_]]:
    """The fate of each document: that of the first objection, or `kept`."""
    fates = np.full(num_documents, KEPT, dtype=object)
    for opinion in reversed(said):
        fates[opinion.objects] = opinion.fate
    return fates


def objections(said: Sequence[Opinion], doc_ids: pa.ChunkedArray) -> pa.Table:
    """A verdict for each objection, by document, then in the order of the rules."""
    rows = np.concatenate([opinion.objects for opinion in said])
    order = np.argsort(rows, kind="stable")
    columns = {
        "doc_id": doc_ids.take(rows),
        "rule": [opinion.rule for opinion in said for _ in opinion.objects],
        "value": [value for opinion in said for value in opinion.found(opinion.objects)],
        "threshold": [opinion.threshold for opinion in said for _ in opinion.objects],
        "keep": np.zeros(len(rows), dtype=bool),
    }
    return pa.table(columns, schema=VERDICT_SCHEMA).take(order)


def verdicts(config: FilterConfig, annotations: pa.Table, row: int) -> list[Verdict]:
    """What every check says of one document, those that let it pass too; checks that say the same speak once."""
    keeps: dict[tuple[str, str, str], bool] = {}
    for one in opinions(config, annotations):
        said = (one.rule, one.found(np.array([row]))[0], one.threshold)
        keeps[said] = keeps.get(said, True) and row not in one.objects
    doc_id = annotations["doc_id"][row].as_py()
    return [Verdict(doc_id, *said, keep) for said, keep in keeps.items()]


def count_objections(said: Sequence[Opinion]) -> Counter[str]:
    """Documents that each rule, and each of its checks, objects to."""
    counts: Counter[str] = Counter()
    for rule in dict.fromkeys(opinion.rule for opinion in said):
        own = [opinion for opinion in said if opinion.rule == rule]
        counts[f"no.{rule}"] = len(np.unique(np.concatenate([opinion.objects for opinion in own])))
        if len(own) > 1:
            for opinion in own:
                counts[f"no.{rule}.{opinion.check}"] += len(opinion.objects)
    return +counts


def _told_apart(language: LanguageRule) -> tuple[str, ...]:
    return tuple(sorted({*language.among, *language.languages})) if language.among else ()


def _check_languages(config: FilterConfig) -> None:
    asked = {
        language for settings in config.rules if isinstance(settings, LanguageRule) for language in settings.languages
    }
    if unknown := sorted(asked.difference(known_languages())) if asked else []:
        raise ValueError(f"the rule `language` does not know {', '.join(unknown)}; it knows {known_languages()}.")


def _chosen(source: Path, wanted: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Iterator[pa.Table]:
    """The wanted documents of a file, in batches."""
    start = 0
    for batch in bounded_batches(source):
        stop = start + len(batch)
        yield pa.Table.from_batches([batch.filter(pa.array(wanted[start:stop]))])
        start = stop


def _redacted(documents: pa.Table, kinds: Sequence[PiiKind | Presidio], findings: list[Finding]) -> pa.Table:
    """The documents without their identifiers; what was found is added to `findings`."""
    if not kinds:
        return documents
    texts, digests = documents["text"].to_pylist(), documents["content_sha256"].to_pylist()
    for row, doc_id in enumerate(documents["doc_id"].to_pylist()):
        if found := find_pii(doc_id, texts[row], kinds):
            findings += found
            texts[row] = redact(texts[row], found)
            digests[row] = content_sha256(texts[row])
    for name, values in (("text", texts), ("content_sha256", digests)):
        place = documents.schema.get_field_index(name)
        documents = documents.set_column(place, documents.schema.field(name), pa.array(values, pa.string()))
    return documents


def _nothing_left(documents: Part, fates: dict[str, int]) -> str:
    entered = sum(fates.values())
    if not entered:
        return f"{documents.origin} holds no documents: nothing to filter. Look at its dead letters, or at its files."
    dropped = sorted(((count, name) for name, count in fates.items() if name != KEPT), reverse=True)
    table = ", ".join(f"{name} {count:,}" for count, name in dropped)
    worst = dropped[0][1]
    move = {
        "license": "Allow those in `filter.licenses.allow` whose terms let you train on them; for unknown ones, "
        f"{KNOWN_BETTER}",
        QUARANTINED: f"To let them in, {KNOWN_BETTER}",
        "language": "Add the source's language to the rule's `languages`",
    }.get(worst, f"Loosen the thresholds of the rule {worst!r}, or leave it out of `filter.rules`")
    said = f" Licences: {_licenses(documents)}." if worst in ("license", QUARANTINED) else ""
    return f"The filter kept none of the {entered:,} documents of {documents.origin}. Fates: {table}.{said} {move}."


def _licenses(documents: Part) -> str:
    """The licences that most documents have, the unknown ones by their evidence."""
    tally: Counter[str] = Counter()
    for path in documents.paths():
        for batch in read_batches(path, ["license", "license_evidence"]):
            pairs = zip(batch["license"].to_pylist(), batch["license_evidence"].to_pylist(), strict=True)
            tally.update(f"unknown ({said!r})" if one == UNKNOWN_LICENSE else one for one, said in pairs)
    return ", ".join(f"{name} {count:,}" for name, count in tally.most_common(LISTED_LICENSES))
