"""Acquire: a source's files, in whatever format they come, become documents of one schema.

In:  local files (input `files`), pinned remote ones (`urls`), or those of a Hugging Face data set (`hub`).
Out: kept/00000.parquet ...          documents, one shard a file or span of a large one (a thousand files where each
                                     holds one document)
     dead_letters/00000.parquet      what could not be read, or came under an id that was taken; only where there is any
     verdicts/00000.parquet          what was passed over, holding no text, and records that their origin deleted or
                                     superseded (PubMed); only where there is any
     resolved.json                   a record, not content: what each URL was, and when it was fetched

Two passes. The first reads every file once into a staged shard and an index of ids; the second, which knows all ids of
the source, moves a shard into place, or writes it anew without what is not to stay.
"""

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from domainlm.eval.parquet import read_batches
from domainlm.tasks.document_shards import EmptyCorpus, run_shards
from domainlm.tasks.documents import UNKNOWN_LICENSE
from domainlm.tasks.engine import MARKS, clear_marks
from domainlm.tasks.licenses import License, from_words, spdx
from domainlm.tasks.manifest import Books
from domainlm.tasks.readers import FORMATS, Settings
from domainlm.tasks.readers.index import decide
from domainlm.tasks.readers.record import optional_package
from domainlm.tasks.readers.remote import HubDataset, Pinned, RemoteFile
from domainlm.tasks.readers.shards import Origin, SourceFile, Staged, read_shard, select_shard
from domainlm.tasks.runtime import Runtime
from domainlm.tasks.source_files import dealt, local_files
from domainlm.tasks.stage import Inputs, stage
from domainlm.tasks.store import write_atomically

SHOWN_DEAD_LETTERS = 5
RESOLVED = "resolved.json"
FormatName = Literal[
    "jsonl", "parquet", "arrow", "csv", "tsv", "text", "pubmed_xml", "jats", "html", "warc", "fasta", "edgar"
]


class TooManyDeadLetters(ValueError):
    """More of a source could not be read than its budget allows."""


class AcquireConfig(BaseModel):
    """A source: its format, its licence, and what may be wrong with it."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="Source")

    name: str = Field(title="Name", description="Begins every document id.", pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")
    format: FormatName = Field(
        title="Format", description="How the files are written; those of text may be .gz or .zst, WARC .gz."
    )
    license: str | None = Field(
        None, title="Licence", description="SPDX expression for the documents that name no licence of their own."
    )
    license_evidence: str = Field(
        "stated by the recipe", title="Licence evidence", description="Where the source's licence is written."
    )
    retrieved_at: str | None = Field(
        None, title="Retrieved at", description="Date of the copy.", pattern=r"^\d{4}-\d{2}-\d{2}$"
    )
    origin: str = Field("", title="Origin", description="Where the source is published; documentation.")
    revision: str = Field("", title="Revision", description="Which state of the origin this is; documentation.")
    urls: tuple[RemoteFile, ...] = Field((), title="URLs", description="Remote files, instead of local ones.")
    hub: HubDataset | None = Field(
        None, title="Hub", description="Files of a Hugging Face data set, instead of local ones."
    )
    allow_floating: bool = Field(
        False, title="Allow floating", description="Accept URLs without a digest; what they were is recorded."
    )
    text_field: str = Field("text", title="Text field", description="Of a record with named fields.", min_length=1)
    id_field: str = Field("id", title="Id field", description="Unique in the source; empty: the place in the file.")
    license_field: str = Field("license", title="Licence field", description="Empty: records name no licence.")
    license_url_field: str = Field("license_url", title="Licence URL field", description="A URL proves the version.")
    url_field: str = Field("url", title="URL field", description="The document's own address.")
    metadata_field: str = Field("metadata", title="Metadata field", description="An object of further fields.")
    encoding: Literal["utf-8", "cp1252", "iso-8859-1"] = Field(
        "utf-8", title="Encoding", description="Of CSV, TSV and text files; the other formats fix or state theirs."
    )
    window_letters: int = Field(
        10_000, title="Window", description="Longest document that is cut from a FASTA sequence.", ge=100, le=10_000_000
    )
    dead_letter_budget: float = Field(
        0.01, title="Dead letter budget", description="Share of records that may be unreadable.", ge=0, le=1
    )

    @field_validator("license")
    @classmethod
    def _is_spdx(cls, license: str | None) -> str | None:
        if license is not None and spdx(license) != license:
            found = from_words(license)
            hint = f"did you mean {found}?" if found != UNKNOWN_LICENSE else "write LicenseRef-... for one of your own."
            raise ValueError(f"{license!r} is no SPDX expression; {hint}")
        return license

    @model_validator(mode="after")
    def _has_effect(self) -> Self:
        floating = [remote.url for remote in self.urls if remote.sha256 is None]
        if floating and not self.allow_floating:
            raise ValueError(f"{floating[0]} has no sha256. Pin it, or set allow_floating and have it recorded.")
        if self.allow_floating and not floating:
            raise ValueError("allow_floating has no effect: every URL is pinned, or there is none.")
        heard = FORMATS[self.format].heeds
        for name in sorted(frozenset().union(*(format.heeds for format in FORMATS.values())) - heard):
            if getattr(self, name) != type(self).model_fields[name].default:
                with_it = [other for other, format in FORMATS.items() if name in format.heeds]
                raise ValueError(f"{name} has no effect on {self.format} files, but on {', '.join(with_it)}.")
        return self

    def described(self) -> Origin:
        """What the passes over the files need to know of the source."""
        given = License(self.license, self.license_evidence) if self.license else None
        return Origin(
            source=self.name,
            format=self.format,
            license=given or License(UNKNOWN_LICENSE, "none given"),
            retrieved_at=self.retrieved_at,
            settings=Settings(
                text=self.text_field,
                id=self.id_field,
                license=self.license_field,
                license_url=self.license_url_field,
                url=self.url_field,
                metadata=self.metadata_field,
                encoding=self.encoding,
                window_letters=self.window_letters,
            ),
        )


@stage(version=3, resumes=True, disk_factor=2.0)
def acquire(config: AcquireConfig, inputs: Inputs, out: Path, runtime: Runtime) -> Books:
    """Read every file of the source; each record is kept, dead, passed over, deleted or superseded."""
    if needed := FORMATS[config.format].needs:
        optional_package(*needed)
    shards = dealt(_files(config, inputs), FORMATS[config.format])
    staged = Staged(out / MARKS / "staged")
    origin = config.described()
    read = run_shards(partial(read_shard, origin, shards, staged), len(shards), out, runtime, name="read")
    indexes = [staged.index(rank) for rank in range(len(shards))]
    rewritten = 0
    for rank, fates in enumerate(decide(indexes, newest_wins=FORMATS[config.format].versions)):
        rewritten += staged.write_fates(rank, fates)
    workers = max(1, min(runtime.workers, rewritten))  # to move a file into place is not worth a process
    placed = runtime.model_copy(update={"workers": workers})
    counts = run_shards(partial(select_shard, origin, staged, out), len(shards), out, placed, name="select")
    _check_budget(config, out, counts["dead_letters"], read["read"])
    if not counts["kept"]:
        raise EmptyCorpus(f"source {config.name!r} has no document in {_where(config, inputs)}.")
    remote = not inputs
    if remote:
        resolved = [entry for rank in range(len(shards)) for entry in json.loads(staged.resolved(rank).read_text())]
        write_atomically(out / RESOLVED, json.dumps(resolved, indent=1) + "\n")
    clear_marks(out)
    left_out = {"passed_over": read["passed_over"], "deleted": counts["deleted"], "superseded": counts["superseded"]}
    return Books(
        entered={"files": read["read"]},
        fates={
            "kept": counts["kept"],
            "dead_letters": counts["dead_letters"],
            **{fate: count for fate, count in left_out.items() if count},
        },
        counts={
            "files": len({file.name for shard in shards for file in shard}),
            "broken_files": read["broken_files"],
        },
        records=(RESOLVED,) if remote else (),
    )


def _files(config: AcquireConfig, inputs: Inputs) -> list[SourceFile]:
    """The source's files, from the one place that it has."""
    part = inputs.get("files")
    if [part is not None, bool(config.urls), config.hub is not None].count(True) != 1:
        raise ValueError(
            f"source {config.name!r} needs one place: local files, `urls` or `hub`. It has {_where(config, inputs)}."
        )
    if part is not None:
        files = local_files(part, config.format)
    elif config.hub is not None:
        files = [SourceFile(pinned.url, remote=pinned) for pinned in config.hub.listed()]
    else:
        files = [SourceFile(remote.url, remote=Pinned(remote.url, remote.sha256)) for remote in config.urls]
    if not files:
        raise EmptyCorpus(f"source {config.name!r} has no file in {_where(config, inputs)}.")
    return files


def _check_budget(config: AcquireConfig, out: Path, dead_letters: int, entered: int) -> None:
    if dead_letters <= config.dead_letter_budget * entered:
        return
    first = [letter for path in sorted((out / "dead_letters").iterdir()) for letter in _first_letters(path)]
    shown = "; ".join(first[:SHOWN_DEAD_LETTERS])
    raise TooManyDeadLetters(
        f"source {config.name!r}: {dead_letters:,} of {entered:,} records could not be read, and its "
        f"dead_letter_budget is {config.dead_letter_budget:.4%}. The first: {shown}. "
        f"All of them, with their raw bytes, are in {out / 'dead_letters'}. Mend the source, or raise the budget."
    )


def _first_letters(path: Path) -> Sequence[str]:
    batch = next(read_batches(path, ["file", "offset", "reason"], rows=SHOWN_DEAD_LETTERS))
    return [f"{row['file']}#{row['offset']} {row['reason']}" for row in batch.to_pylist()]


def _where(config: AcquireConfig, inputs: Inputs) -> str:
    part = inputs.get("files")
    places = [part.origin or f"{len(part.files)} files"] if part else []
    places += [f"{len(config.urls)} URLs"] if config.urls else []
    places += [f"{config.hub.files} of {config.hub.repository}"] if config.hub else []
    return " and ".join(places) or "none"
