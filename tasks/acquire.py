"""Acquire: a source's files, in whatever format they come, become documents of one schema.

In:  local files (input `files`) or pinned remote ones (`urls`).
Out: kept/00000.parquet ...          documents, one shard a file (a thousand files where each holds one document)
     dead_letters/00000.parquet      what could not be read, or came under an id that was taken; only where there is any
     verdicts/00000.parquet          records that their origin deleted or superseded (PubMed); only where there is any
     resolved.json                   a record, not content: what each URL was when it was fetched

Two passes. The first reads every file once into a staged shard and an index of ids; the second, which knows all ids of
the source, moves a shard into place, or writes it anew without what is not to stay.
"""

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Literal, Self

import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from domainlm.tasks.document_shards import EmptyCorpus, run_shards
from domainlm.tasks.documents import UNKNOWN_LICENSE
from domainlm.tasks.engine import MARKS, clear_marks
from domainlm.tasks.licenses import License, from_words, spdx
from domainlm.tasks.manifest import Books, Part
from domainlm.tasks.readers import ONE_DOCUMENT_A_FILE
from domainlm.tasks.readers.index import decide
from domainlm.tasks.readers.record import Fields
from domainlm.tasks.readers.remote import RemoteFile
from domainlm.tasks.readers.shards import Origin, SourceFile, Staged, read_shard, select_shard
from domainlm.tasks.runtime import Runtime
from domainlm.tasks.stage import Inputs, stage
from domainlm.tasks.store import write_atomically

FILES_A_SHARD = 1_000  # of formats with one document a file
SHOWN_DEAD_LETTERS = 5
RESOLVED = "resolved.json"


class TooManyDeadLetters(ValueError):
    """More of a source could not be read than its budget allows."""


class UnsafePath(ValueError):
    """A source's file lies outside its directory, or is a link in a circle."""


class AcquireConfig(BaseModel):
    """A source: its format, its licence, and what may be wrong with it."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="Source")

    name: str = Field(title="Name", description="Begins every document id.", pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")
    format: Literal["jsonl", "parquet", "text", "pubmed_xml", "jats"] = Field(
        title="Format", description="How the files are written. jsonl and pubmed_xml may be .gz; jsonl also .zst."
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
    allow_floating: bool = Field(
        False, title="Allow floating", description="Accept URLs without a digest; what they were is recorded."
    )
    text_field: str = Field("text", title="Text field", description="Of a JSONL or Parquet record.", min_length=1)
    id_field: str = Field("id", title="Id field", description="Unique in the source; empty: the place in the file.")
    license_field: str = Field("license", title="Licence field", description="Empty: records name no licence.")
    license_url_field: str = Field("license_url", title="Licence URL field", description="A URL proves the version.")
    url_field: str = Field("url", title="URL field", description="The document's own address.")
    metadata_field: str = Field("metadata", title="Metadata field", description="An object of further fields.")
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
        if self.format not in ("jsonl", "parquet"):
            for name in (name for name in type(self).model_fields if name.endswith("_field")):
                if getattr(self, name) != type(self).model_fields[name].default:
                    raise ValueError(f"{name} has no effect: {self.format} files have no named fields.")
        return self

    def described(self) -> Origin:
        """What the passes over the files need to know of the source."""
        given = License(self.license, self.license_evidence) if self.license else None
        return Origin(
            source=self.name,
            format=self.format,
            license=given or License(UNKNOWN_LICENSE, "none given"),
            retrieved_at=self.retrieved_at,
            fields=Fields(
                text=self.text_field,
                id=self.id_field,
                license=self.license_field,
                license_url=self.license_url_field,
                url=self.url_field,
                metadata=self.metadata_field,
            ),
        )


@stage(version=1, resumes=True, disk_factor=2.0)
def acquire(config: AcquireConfig, inputs: Inputs, out: Path, runtime: Runtime) -> Books:
    """Read every file of the source; each record is kept, dead, deleted or superseded."""
    shards = _plan(config, inputs)
    staged = Staged(out / MARKS / "staged")
    origin = config.described()
    read = run_shards(partial(read_shard, origin, shards, staged), len(shards), out, runtime, name="read")
    indexes = [staged.index(rank) for rank in range(len(shards))]
    rewritten = 0
    for rank, fates in enumerate(decide(indexes, newest_wins=config.format == "pubmed_xml")):
        rewritten += staged.write_fates(rank, fates)
    workers = max(1, min(runtime.workers, rewritten))  # to move a file into place is not worth a process
    placed = runtime.model_copy(update={"workers": workers})
    counts = run_shards(partial(select_shard, origin, staged, out), len(shards), out, placed, name="select")
    _check_budget(config, out, counts["dead_letters"], read["read"])
    if not counts["kept"]:
        raise EmptyCorpus(f"source {config.name!r} has no document in {_where(config, inputs)}.")
    if config.urls:
        resolved = [entry for rank in range(len(shards)) for entry in json.loads(staged.resolved(rank).read_text())]
        write_atomically(out / RESOLVED, json.dumps(resolved, indent=1) + "\n")
    clear_marks(out)
    withdrawn = {fate: counts[fate] for fate in ("deleted", "superseded") if counts[fate]}
    return Books(
        entered={"files": read["read"]},
        fates={"kept": counts["kept"], "dead_letters": counts["dead_letters"], **withdrawn},
        counts={"files": sum(len(shard) for shard in shards), "broken_files": read["broken_files"]},
        records=(RESOLVED,) if config.urls else (),
    )


def find_files(root: Path, pattern: str) -> list[Path]:
    """The files below `root` that fit a glob pattern, by name. Raises FileNotFoundError if none does, UnsafePath for
    what leads out of `root`."""
    if Path(pattern).is_absolute() or ".." in Path(pattern).parts:
        raise UnsafePath(f"{pattern!r} leads out of {root}. Give a pattern relative to the data directory (`--data`).")
    files = sorted(path for path in root.glob(pattern) if path.is_file() or path.is_symlink())
    if not files:
        raise FileNotFoundError(f"{pattern!r} finds no file in {root.resolve()}. Is the data directory the right one?")
    for path in files:
        _check_path(root, path.relative_to(root).as_posix())
    return [path for path in files if path.is_file()]


def _plan(config: AcquireConfig, inputs: Inputs) -> list[tuple[SourceFile, ...]]:
    """Which files make up each shard; follows from the input alone."""
    part = inputs.get("files")
    if (part is None) == (not config.urls):
        raise ValueError(
            f"source {config.name!r} needs either local files or `urls`, and has {_where(config, inputs)}."
        )
    files = _local(part) if part else [SourceFile(remote.url, remote=remote) for remote in config.urls]
    if not files:
        raise EmptyCorpus(f"source {config.name!r} has no file in {_where(config, inputs)}.")
    size = FILES_A_SHARD if config.format in ONE_DOCUMENT_A_FILE else 1
    return [tuple(files[start : start + size]) for start in range(0, len(files), size)]


def _local(part: Part) -> list[SourceFile]:
    for name in part.files:
        _check_path(part.root, name)
    return [SourceFile(name, path=part.root / name) for name in sorted(part.files)]


def _check_path(root: Path, name: str) -> None:
    """Raises UnsafePath for a name, or a link, that leads out of `root` or in a circle."""
    try:
        inside = (root / name).resolve(strict=True).is_relative_to(root.resolve())
    except (OSError, RuntimeError) as error:  # RuntimeError: Python 3.11's word for a circle
        raise UnsafePath(f"{name!r} in {root} cannot be followed: {error}. Remove it from the source.") from None
    if not inside or ".." in Path(name).parts:
        raise UnsafePath(f"{name!r} leads out of {root}. Copy the file there, or make its directory the source's.")


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
    with pq.ParquetFile(path) as file:
        batch = next(file.iter_batches(SHOWN_DEAD_LETTERS, columns=["file", "offset", "reason"]))
        return [f"{row['file']}#{row['offset']} {row['reason']}" for row in batch.to_pylist()]


def _where(config: AcquireConfig, inputs: Inputs) -> str:
    part = inputs.get("files")
    places = [part.origin or f"{len(part.files)} files"] if part else []
    return " and ".join([*places, *([f"{len(config.urls)} URLs"] if config.urls else [])]) or "neither"
