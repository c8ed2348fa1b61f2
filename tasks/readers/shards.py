"""The two passes of a shard of source files: read them into a staged shard, then let only what stays into place.

.ranks/staged/00000.parquet            documents as they were read
.ranks/staged/00000.dead.parquet       dead letters
.ranks/staged/00000.index.parquet      ids and deletions
.ranks/staged/00000.passed.parquet     verdicts on what holds no text
.ranks/staged/00000.fates               a byte a document, if not all stay
.ranks/staged/00000.resolved.json      what remote files were
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path

import numpy as np
import orjson

from domainlm.eval.parquet import read_batches
from domainlm.tasks.documents import (
    DEAD_LETTER_SCHEMA,
    VERDICT_SCHEMA,
    DeadLetter,
    Document,
    Verdict,
    content_sha256,
    read_documents,
    read_verdicts,
    write_rows,
)
from domainlm.tasks.licenses import License
from domainlm.tasks.manifest import count_rows
from domainlm.tasks.readers import FORMATS
from domainlm.tasks.readers.index import SCHEMA, Entry, Fate, Fates, read_entries
from domainlm.tasks.readers.piece import Piece, Span
from domainlm.tasks.readers.record import Deletion, Item, PassedOver, Record, Settings, dead, metadata_json
from domainlm.tasks.readers.remote import Pinned, fetched
from domainlm.tasks.readers.spool import Spool
from domainlm.tasks.readers.streams import BROKEN


class ChangedSource(OSError):
    """A source's file is not the one whose digest stands for the source's content."""


@dataclass(frozen=True)
class Origin:
    """What is the same for all documents of a source. `license` is for the records that name none."""

    source: str
    format: str
    license: License
    retrieved_at: str | None
    settings: Settings


@dataclass(frozen=True)
class Stamp:
    """Of which size a file was and when it was changed, when it was digested."""

    bytes: int
    changed_ns: int

    @classmethod
    def of(cls, path: Path) -> "Stamp":
        """Of a file as it is now."""
        found = path.stat()
        return cls(found.st_size, found.st_mtime_ns)


@dataclass(frozen=True)
class SourceFile:
    """A file of a source, or a span of it: its name in ids and dead letters, and where it is, here or elsewhere."""

    name: str
    path: Path | None = None
    remote: Pinned | None = None
    span: Span | None = None
    stamp: Stamp | None = None


@dataclass(frozen=True)
class Staged:
    """The files that the first pass leaves for the second, by shard."""

    root: Path

    def documents(self, rank: int) -> Path:
        """Documents as they were read."""
        return self.root / f"{rank:05d}.parquet"

    def dead_letters(self, rank: int) -> Path:
        """What could not be read."""
        return self.root / f"{rank:05d}.dead.parquet"

    def index(self, rank: int) -> Path:
        """Ids and deletions."""
        return self.root / f"{rank:05d}.index.parquet"

    def passed_over(self, rank: int) -> Path:
        """Verdicts on what holds no text."""
        return self.root / f"{rank:05d}.passed.parquet"

    def write_fates(self, rank: int, fates: Fates) -> bool:
        """Note what becomes of the documents of a shard, unless all of them stay; returns whether it did."""
        rewritten = bool((fates != Fate.KEPT).any())
        if rewritten:
            self._fates(rank).write_bytes(fates.tobytes())
        return rewritten

    def read_fates(self, rank: int) -> Fates | None:
        """What becomes of the documents of a shard, in order; None if all of them stay."""
        path = self._fates(rank)
        return np.frombuffer(path.read_bytes(), np.int8) if path.exists() else None

    def resolved(self, rank: int) -> Path:
        """Digests of remote files."""
        return self.root / f"{rank:05d}.resolved.json"

    def _fates(self, rank: int) -> Path:
        return self.root / f"{rank:05d}.fates"


def read_shard(origin: Origin, shards: Sequence[Sequence[SourceFile]], staged: Staged, rank: int) -> dict[str, int]:
    """The first pass: everything of the shard's files, documents and dead letters apart."""
    resolved: list[dict[str, object]] = []
    broken_files = 0

    def documents() -> Iterator[Document]:
        nonlocal broken_files
        for file, item in _items(origin, shards[rank], staged.root, resolved):
            if isinstance(item, DeadLetter):
                letters.add(item)
                broken_files += item.reason.startswith(BROKEN)
            elif isinstance(item, PassedOver):
                passed.add(Verdict(f"{origin.source}/{item.native_id}", "format", item.what, "text", False))
            elif isinstance(item, Deletion):
                index.add(Entry(item.native_id, item.version, True, file.name, 0))
            else:
                index.add(Entry(item.native_id, item.version, False, file.name, item.offset))
                yield _document(origin, file, item)

    with (
        Spool[DeadLetter](staged.dead_letters(rank), DEAD_LETTER_SCHEMA) as letters,
        Spool[Entry](staged.index(rank), SCHEMA) as index,
        Spool[Verdict](staged.passed_over(rank), VERDICT_SCHEMA) as passed,
    ):
        read = write_rows(staged.documents(rank), Document, documents())
    staged.resolved(rank).write_text(json.dumps(resolved))
    return {"read": read + letters.count + passed.count, "passed_over": passed.count, "broken_files": broken_files}


def select_shard(origin: Origin, staged: Staged, out: Path, rank: int) -> dict[str, int]:
    """The second pass: documents that stay into `kept`, duplicates to the dead letters, verdicts for the withdrawn."""
    name = f"{rank:05d}.parquet"
    kept = out / "kept" / name
    fates = staged.read_fates(rank)
    if fates is not None:
        write_rows(kept, Document, _with_fate(staged, fates, rank, Fate.KEPT))
    elif staged.documents(rank).exists():  # else an earlier try has moved it already
        kept.parent.mkdir(exist_ok=True)
        staged.documents(rank).replace(kept)
    verdicts = chain(read_verdicts(staged.passed_over(rank)), _verdicts(origin, staged, fates, rank))
    letters = chain(_read_dead_letters(staged.dead_letters(rank)), _duplicates(staged, fates, rank))
    return {
        "kept": count_rows(kept) or 0,
        "dead_letters": _write_any(out / "dead_letters" / name, DeadLetter, letters),
        "deleted": 0 if fates is None else int((fates == Fate.DELETED).sum()),
        "superseded": 0 if fates is None else int((fates == Fate.SUPERSEDED).sum()),
        "verdicts": _write_any(out / "verdicts" / name, Verdict, verdicts),
    }


def _items(
    origin: Origin, files: Sequence[SourceFile], scratch: Path, resolved: list[dict[str, object]]
) -> Iterator[tuple[SourceFile, Item]]:
    read = FORMATS[origin.format].read
    for file in files:
        if file.path is not None:
            with _unchanged(file.path, file):
                yield from ((file, item) for item in read(Piece(file.path, file.name, file.span), origin.settings))
        if file.remote is not None:
            with fetched(file.remote, scratch) as (path, digest):
                now = datetime.now(UTC).isoformat(timespec="seconds")
                size = path.stat().st_size
                resolved.append({"url": file.remote.url, "sha256": digest, "bytes": size, "retrieved_at": now})
                yield from ((file, item) for item in read(Piece(path, file.name), origin.settings))


@contextmanager
def _unchanged(path: Path, file: SourceFile) -> Iterator[None]:
    """Raises ChangedSource if the file goes, or becomes another, while it is read."""
    try:
        yield
        if file.stamp is None or Stamp.of(path) == file.stamp:
            return
    except FileNotFoundError:
        raise ChangedSource(f"{file.name} has gone while its source was read. Put it back, and build again.") from None
    raise ChangedSource(
        f"{file.name} was changed while its source was read, so that its digest no longer stands for it. Build again "
        "when nothing writes to it."
    )


def _document(origin: Origin, file: SourceFile, record: Record) -> Document:
    license = record.license or origin.license
    return Document(
        doc_id=f"{origin.source}/{record.native_id}",
        text=record.text,
        source=origin.source,
        license=license.expression,
        license_evidence=license.evidence,
        uri=record.url or f"{file.name}#{record.offset}",
        retrieved_at=record.retrieved_at or origin.retrieved_at,
        content_sha256=content_sha256(record.text),
        parent_id=f"{origin.source}/{record.parent}" if record.parent else None,
        native_metadata=metadata_json(record.metadata),
    )


def _with_fate(staged: Staged, fates: Fates, rank: int, wanted: Fate) -> Iterator[Document]:
    documents = zip(read_documents(staged.documents(rank)), fates, strict=True)
    return (document for document, fate in documents if fate == wanted)


def _entries(staged: Staged, fates: Fates | None, rank: int, *wanted: Fate) -> Iterator[tuple[Entry, Fate]]:
    if fates is not None:
        for entry, fate in zip(read_entries(staged.index(rank)), fates, strict=True):
            if fate in wanted:
                yield entry, Fate(fate)


def _duplicates(staged: Staged, fates: Fates | None, rank: int) -> Iterator[DeadLetter]:
    if fates is not None:
        entries = _entries(staged, fates, rank, Fate.DUPLICATE)
        documents = _with_fate(staged, fates, rank, Fate.DUPLICATE)
        for (entry, _), document in zip(entries, documents, strict=True):
            yield dead(entry.file, entry.offset, f"duplicate id {entry.native_id!r}", orjson.dumps(asdict(document)))


def _verdicts(origin: Origin, staged: Staged, fates: Fates | None, rank: int) -> Iterator[Verdict]:
    for entry, fate in _entries(staged, fates, rank, Fate.DELETED, Fate.SUPERSEDED):
        value = f"version {entry.version} {fate.name.lower()}"
        yield Verdict(f"{origin.source}/{entry.native_id}", "origin", value, "the newest version, not deleted", False)


def _read_dead_letters(path: Path) -> Iterator[DeadLetter]:
    for batch in read_batches(path):
        yield from (DeadLetter(**row) for row in batch.to_pylist())


def _write_any(path: Path, kind: type[DeadLetter | Verdict], rows: Iterator[DeadLetter | Verdict]) -> int:
    """Write rows if there are any, so that an empty directory says that all is well."""
    first = next(rows, None)
    return 0 if first is None else write_rows(path, kind, chain([first], rows))
