"""A document, a verdict, a dead letter: the rows of the Parquet files between the corpus stages.

kept/00000.parquet            documents, strict schema
verdicts/00000.parquet        what each rule said of each document
dead_letters/00000.parquet    what could not be read, with file and offset and the raw bytes
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from domainlm.eval.parquet import read_batches

UNKNOWN_LICENSE = "unknown"
ROW_GROUP_ROWS = 1_000  # small enough that a reader holds a few MB, large enough for zstd

DOCUMENT_SCHEMA = pa.schema(
    [
        pa.field("doc_id", pa.string(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("license", pa.string(), nullable=False),
        pa.field("license_evidence", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("retrieved_at", pa.string()),
        pa.field("content_sha256", pa.string(), nullable=False),
        pa.field("parent_id", pa.string()),
        pa.field("native_metadata", pa.string(), nullable=False),
    ]
)
VERDICT_SCHEMA = pa.schema(
    [
        pa.field("doc_id", pa.string(), nullable=False),
        pa.field("rule", pa.string(), nullable=False),
        pa.field("value", pa.string(), nullable=False),
        pa.field("threshold", pa.string(), nullable=False),
        pa.field("keep", pa.bool_(), nullable=False),
    ]
)
DEAD_LETTER_SCHEMA = pa.schema(
    [
        pa.field("file", pa.string(), nullable=False),
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("raw", pa.binary(), nullable=False),
    ]
)


@dataclass(frozen=True, slots=True)
class Document:
    """One text with its id (`source/native id`), where it came from and under which licence (SPDX, with evidence)."""

    doc_id: str
    text: str
    source: str
    license: str
    license_evidence: str
    uri: str
    retrieved_at: str | None
    content_sha256: str
    parent_id: str | None
    native_metadata: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one rule said of one document. `value` and `threshold` are text, for rules measure different things."""

    doc_id: str
    rule: str
    value: str
    threshold: str
    keep: bool


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """Something that could not be read as a document: `offset` is a byte, line or row of `file`, as `reason` says."""

    file: str
    offset: int
    reason: str
    raw: bytes


Row = Document | Verdict | DeadLetter
SCHEMAS: dict[type, pa.Schema] = {Document: DOCUMENT_SCHEMA, Verdict: VERDICT_SCHEMA, DeadLetter: DEAD_LETTER_SCHEMA}


def content_sha256(text: str) -> str:
    """Digest of the UTF-8 text."""
    return hashlib.sha256(text.encode()).hexdigest()


def write_rows(path: Path, kind: type[Row], rows: Iterable[Row]) -> int:
    """Write rows of one kind in order, zstd, streaming; returns how many. The file appears only when whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    schema = SCHEMAS[kind]
    count = 0
    with pq.ParquetWriter(temporary, schema, compression="zstd", store_schema=False) as writer:
        for batch in _batches(rows):
            writer.write_table(_table(batch, schema))
            count += len(batch)
    temporary.replace(path)
    return count


def read_documents(path: Path) -> Iterator[Document]:
    """Documents of one Parquet file, in order, one row group in memory at a time."""
    for batch in read_batches(path):
        yield from (Document(**row) for row in batch.to_pylist())


def read_verdicts(path: Path) -> Iterator[Verdict]:
    """Verdicts of one Parquet file, in order."""
    for batch in read_batches(path):
        yield from (Verdict(**row) for row in batch.to_pylist())


def _batches(rows: Iterable[Row]) -> Iterator[list[Row]]:
    batch: list[Row] = []
    for row in rows:
        batch.append(row)
        if len(batch) == ROW_GROUP_ROWS:
            yield batch
            batch = []
    if batch:
        yield batch


def _table(rows: list[Row], schema: pa.Schema) -> pa.Table:
    names = [field.name for field in fields(rows[0])]
    return pa.table(
        {name: pa.array([getattr(row, name) for row in rows], schema.field(name).type) for name in names}, schema
    )
