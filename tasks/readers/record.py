"""What every reader yields: a record as its origin has it, or a dead letter. No reader ever loses one silently."""

import importlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import ModuleType

import orjson

from domainlm.tasks.documents import DeadLetter
from domainlm.tasks.licenses import License, identify
from domainlm.tasks.readers.piece import Piece

MAX_RECORD_BYTES = 64 << 20  # a longer line or article is no document; it bounds the memory of a reader
MAX_RAW_BYTES = 1 << 20  # of a dead letter; what is larger is kept up to here


class MissingExtra(ImportError):
    """A format or a place needs a package that an extra of domainlm brings."""


class Unreadable(ValueError):
    """A record is none; the message is the reason of its dead letter, `raw` what there is of it."""

    def __init__(self, reason: str, raw: bytes = b"") -> None:
        super().__init__(reason)
        self.raw = raw


@dataclass(frozen=True, slots=True)
class Record:
    """One text. `license` is None where the record itself says nothing; `offset` is its place in its file: a byte of
    the uncompressed text, or a row of a table. `parent` is the native id of what the text was cut from."""

    native_id: str
    text: str
    offset: int
    license: License | None = None
    url: str = ""
    version: int = 0
    metadata: Mapping[str, object] = field(default_factory=dict)
    parent: str = ""
    retrieved_at: str = ""


@dataclass(frozen=True, slots=True)
class Deletion:
    """The origin withdraws a record that it published before, up to a version."""

    native_id: str
    version: int


@dataclass(frozen=True, slots=True)
class PassedOver:
    """Something whole that holds no text: an image in a crawl, a spreadsheet in a filing."""

    native_id: str
    what: str


@dataclass(frozen=True, slots=True)
class Settings:
    """How the files of a source are read: names of the fields of a record (empty: there is none), and the like."""

    text: str = "text"
    id: str = "id"
    license: str = "license"
    license_url: str = "license_url"
    url: str = "url"
    metadata: str = "metadata"
    encoding: str = "utf-8"
    window_letters: int = 10_000


Item = Record | DeadLetter | Deletion | PassedOver
Reader = Callable[[Piece, Settings], Iterator[Item]]


def dead(name: str, offset: int, reason: str, raw: bytes = b"") -> DeadLetter:
    """A dead letter with as much of its raw bytes as is kept."""
    return DeadLetter(name, offset, reason, raw[:MAX_RAW_BYTES])


def from_fields(row: Mapping[str, object], settings: Settings, name: str, offset: int) -> Record:
    """A record from named fields; raises Unreadable. What has no part of its own becomes metadata, `metadata` spread
    out."""
    text, native_id = row.get(settings.text), row.get(settings.id)
    if text is None:
        raise Unreadable(f"no field {settings.text!r}; it has {', '.join(sorted(row))}"[:300])
    if not isinstance(text, str):
        raise Unreadable(f"field {settings.text!r} is {type(text).__name__}, not text")
    check_text(text)
    if not settings.id:
        native_id = f"{name}#{offset}"
    elif isinstance(native_id, bool) or not isinstance(native_id, str | int):
        raise Unreadable(f"field {settings.id!r} is {type(native_id).__name__}, not text or a number")
    elif not str(native_id).isprintable() or native_id == "":
        raise Unreadable(f"field {settings.id!r} is empty or not printable")
    words, license_url = _text(row, settings.license), _text(row, settings.license_url)
    return Record(
        native_id=str(native_id),
        text=text,
        offset=offset,
        license=_identify(words, license_url) if words or license_url else None,
        url=_text(row, settings.url),
        metadata=_metadata(row, settings),
    )


def check_text(text: str) -> None:
    """Raises Unreadable for a text that is no document."""
    if not text or text.isspace():
        raise Unreadable("no text")
    if "\x00" in text:
        raise Unreadable("null character in the text")
    try:
        text.encode()
    except UnicodeEncodeError as bad:
        raise Unreadable(f"lone surrogate at character {bad.start}") from None


def decoded(raw: bytes, encoding: str) -> str:
    """The text of some bytes; raises Unreadable with the place of the first wrong one."""
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError as bad:
        raise Unreadable(f"invalid {encoding.upper()} at byte {bad.start}") from None


def metadata_json(metadata: Mapping[str, object]) -> str:
    """Metadata as JSON with one form per value; dates and the like as text."""
    return orjson.dumps(metadata, default=str, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS).decode()


def optional_package(package: str, extra: str) -> ModuleType:
    """A package that only some sources need; raises MissingExtra with the command that brings it."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise MissingExtra(f"{package} is not installed ({error}): pip install 'domainlm[{extra}]'") from None


@lru_cache(4096)
def _identify(words: str, url: str) -> License:
    return identify(words, url)  # most records of a source say the same


def _text(row: Mapping[str, object], name: str) -> str:
    value = row.get(name) if name else None
    return value.strip() if isinstance(value, str) else ""


def _metadata(row: Mapping[str, object], settings: Settings) -> dict[str, object]:
    taken = {settings.text, settings.id, settings.license, settings.license_url, settings.url, settings.metadata}
    nested = row.get(settings.metadata) if settings.metadata else None
    spread = nested if isinstance(nested, Mapping) else {settings.metadata: nested} if nested is not None else {}
    return {**spread, **{name: value for name, value in row.items() if name not in taken}}
