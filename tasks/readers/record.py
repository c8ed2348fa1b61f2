"""What every reader yields: a record as its origin has it, or a dead letter. No reader ever loses one silently."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from domainlm.tasks.documents import DeadLetter
from domainlm.tasks.licenses import License, identify

MAX_RECORD_BYTES = 64 << 20  # a longer line or article is no document; it bounds the memory of a reader
MAX_RAW_BYTES = 1 << 20  # of a dead letter; what is larger is kept up to here


@dataclass(frozen=True, slots=True)
class Record:
    """One text. `license` is None where the record itself says nothing; `offset` is its place in its file."""

    native_id: str
    text: str
    offset: int
    license: License | None = None
    url: str = ""
    version: int = 0
    metadata: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Deletion:
    """The origin withdraws a record that it published before, up to a version."""

    native_id: str
    version: int


@dataclass(frozen=True, slots=True)
class Fields:
    """Names of the fields of a JSONL or Parquet record; an empty name means that there is none."""

    text: str = "text"
    id: str = "id"
    license: str = "license"
    license_url: str = "license_url"
    url: str = "url"
    metadata: str = "metadata"


Item = Record | DeadLetter | Deletion
Reader = Callable[[Path, str, Fields], Iterator[Item]]
"""`reader(path, name, fields)`: `name` is what the file is called in ids and dead letters, never a path of here."""


def dead(name: str, offset: int, reason: str, raw: bytes = b"") -> DeadLetter:
    """A dead letter with as much of its raw bytes as is kept."""
    return DeadLetter(name, offset, reason, raw[:MAX_RAW_BYTES])


def from_fields(row: Mapping[str, object], fields: Fields, name: str, offset: int, raw: bytes) -> Record | DeadLetter:
    """A record from named fields. The fields without a part of their own become metadata, `metadata` spread out."""
    text, native_id = row.get(fields.text), row.get(fields.id)
    if text is None:
        return dead(name, offset, f"no field {fields.text!r}; it has {', '.join(sorted(row))}"[:300], raw)
    if not isinstance(text, str):
        return dead(name, offset, f"field {fields.text!r} is {type(text).__name__}, not text", raw)
    if fault := text_fault(text):
        return dead(name, offset, fault, raw)
    if fields.id and (isinstance(native_id, bool) or not isinstance(native_id, str | int)):
        return dead(name, offset, f"field {fields.id!r} is {type(native_id).__name__}, not text or a number", raw)
    native_id = str(native_id) if fields.id else f"{name}#{offset}"
    if not native_id or not native_id.isprintable():
        return dead(name, offset, f"field {fields.id!r} is empty or not printable", raw)
    words, license_url = _text(row, fields.license), _text(row, fields.license_url)
    return Record(
        native_id=native_id,
        text=text,
        offset=offset,
        license=identify(words, license_url) if words or license_url else None,
        url=_text(row, fields.url),
        metadata=_metadata(row, fields),
    )


def text_fault(text: str) -> str:
    """Why a text is no document, or nothing."""
    if not text.strip():
        return "no text"
    if "\x00" in text:
        return "null character in the text"
    try:
        text.encode()
    except UnicodeEncodeError as bad:
        return f"lone surrogate at character {bad.start}"
    return ""


def metadata_json(metadata: Mapping[str, object]) -> str:
    """Metadata as JSON with one form per value; dates and the like as text."""
    return orjson.dumps(metadata, default=str, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS).decode()


def _text(row: Mapping[str, object], name: str) -> str:
    value = row.get(name) if name else None
    return value.strip() if isinstance(value, str) else ""


def _metadata(row: Mapping[str, object], fields: Fields) -> dict[str, object]:
    taken = {fields.text, fields.id, fields.license, fields.license_url, fields.url, fields.metadata}
    nested = row.get(fields.metadata) if fields.metadata else None
    spread = nested if isinstance(nested, Mapping) else {fields.metadata: nested} if nested is not None else {}
    return {**spread, **{name: value for name, value in row.items() if name not in taken}}
