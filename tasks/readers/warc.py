"""WARC, plain or compressed record by record (`.gz`): the pages of a crawl, and the texts of WET files.

A record that is broken loses itself: in a compressed file the next gzip member is looked for, in a plain one the next
`WARC/` line. Offsets are bytes of the file as it is, which is what CDX indexes call an offset. Pages that were not
served (status other than 200) and what is no text are passed over, by their kind; requests and other records about
the crawl are no documents.
"""

import http.client
import io
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import BinaryIO

from domainlm.tasks.documents import DeadLetter
from domainlm.tasks.readers.html import NO_TEXT, Page, page
from domainlm.tasks.readers.piece import Piece
from domainlm.tasks.readers.record import (
    MAX_RAW_BYTES,
    MAX_RECORD_BYTES,
    PassedOver,
    Record,
    Settings,
    Unreadable,
    check_text,
    dead,
    decoded,
)

HTML = frozenset({"text/html", "application/xhtml+xml"})
_BLOCK_BYTES = 1 << 15
_LINE_BYTES = 1 << 16
_MEMBER = b"\x1f\x8b\x08"
_START = re.compile(rb"WARC/\d")


@dataclass(frozen=True, slots=True)
class _Stored:
    """A record as it is stored, or why it is none."""

    offset: int
    raw: bytes
    headers: Message | None = None
    fault: str = ""


def read(piece: Piece, settings: Settings) -> Iterator[Record | DeadLetter | PassedOver]:
    """Pages and texts in the order of the file."""
    for stored in _in_members(piece.path) if piece.path.suffix == ".gz" else _in_file(piece.path):
        try:
            if stored.fault or stored.headers is None:
                raise Unreadable(stored.fault)
            yield from _items(stored.headers, stored)
        except Unreadable as fault:
            yield dead(piece.name, stored.offset, str(fault), stored.raw)


def _items(headers: Message, stored: _Stored) -> Iterator[Record | PassedOver]:
    kind = headers.get("WARC-Type", "").lower()
    if kind not in ("response", "resource", "conversion"):
        return
    native_id = headers.get("WARC-Record-ID", "").strip().strip("<>").removeprefix("urn:uuid:")
    if not native_id:
        raise Unreadable("a record without a WARC-Record-ID")
    body, about = _payload(stored.raw, kind, headers)
    what = about.get_content_type()
    if (status := about.get("Status", "200")) != "200":
        yield PassedOver(native_id, f"status {status}")
        return
    if what not in HTML and what != "text/plain":
        yield PassedOver(native_id, what)
        return
    charset = str(about.get_param("charset") or "")
    found = page(body, charset) if what in HTML else _plain(body, charset)
    if found is None:
        yield PassedOver(native_id, NO_TEXT)
        return
    yield Record(
        native_id=native_id,
        text=found.text,
        offset=stored.offset,
        license=found.license,
        url=headers.get("WARC-Target-URI", "").strip("<> "),
        retrieved_at=headers.get("WARC-Date", "").strip(),
        metadata=found.metadata,
    )


def _plain(body: bytes, charset: str) -> Page:
    text = decoded(body, charset if charset.lower() == "iso-8859-1" else "utf-8")
    check_text(text)
    return Page(text, None, {})


def _payload(raw: bytes, kind: str, headers: Message) -> tuple[bytes, Message]:
    """The body of a record and the headers that describe it, an HTTP status among them."""
    if kind != "response" or not raw.startswith(b"HTTP/"):
        return raw, headers
    response = http.client.HTTPResponse(_Socket(raw))  # type: ignore[arg-type]  # it asks a socket for its file alone
    try:
        response.begin()
        about = Message()
        for name, value in response.getheaders():
            about[name] = value
        about["Status"] = str(response.status)
        try:
            body = response.read()
        except http.client.IncompleteRead:  # crawlers keep the headers of a body that they have cut or unpacked
            body = raw.partition(b"\r\n\r\n")[2]
    except (http.client.HTTPException, ValueError) as error:
        raise Unreadable(f"broken HTTP response: {type(error).__name__} {error}") from None
    return _unpacked(body, about.get("Content-Encoding", "").strip().lower()), about


class _Socket:
    """What http.client needs to parse a response that is in memory."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw

    def makefile(self, mode: str) -> BinaryIO:
        return io.BytesIO(self._raw)


def _unpacked(body: bytes, encoding: str) -> bytes:
    if encoding in ("", "identity") or (encoding in ("gzip", "x-gzip") and not body.startswith(_MEMBER)):
        return body
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise Unreadable(f"the page is packed as {encoding!r}, which is not read")
    unzip = zlib.decompressobj(47 if encoding != "deflate" else 15)
    try:
        content = unzip.decompress(body, MAX_RECORD_BYTES + 1)
    except zlib.error as error:
        raise Unreadable(f"broken {encoding} in the page: {error}") from None
    if len(content) > MAX_RECORD_BYTES:
        raise Unreadable(f"a page of more than {MAX_RECORD_BYTES:,} bytes when unpacked")
    return content


def _in_members(path: Path) -> Iterator[_Stored]:
    """The records of a file that is compressed record by record."""
    with path.open("rb") as file:
        start: int | None = 0
        while start is not None and _peek(file, start):
            try:
                content, end = _member(file, start)
            except (zlib.error, EOFError) as error:
                after = _find(file, start + 1, _MEMBER)
                file.seek(start)
                raw = file.read(MAX_RAW_BYTES if after is None else min(MAX_RAW_BYTES, after - start))
                yield _Stored(start, raw, fault=f"broken gzip member: {error}")
                start = after
                continue
            if len(content) > MAX_RECORD_BYTES:
                fault = f"a gzip member of more than {MAX_RECORD_BYTES:,} bytes; compress record by record"
                yield _Stored(start, content[:MAX_RAW_BYTES], fault=fault)
            else:
                for stored in _stored(io.BytesIO(content)):
                    yield _Stored(start, stored.raw, stored.headers, stored.fault)
            start = end


def _in_file(path: Path) -> Iterator[_Stored]:
    with path.open("rb") as file:
        yield from _stored(file)


def _stored(file: BinaryIO) -> Iterator[_Stored]:
    """The records from where `file` stands to its end."""
    while line := file.readline(_LINE_BYTES):
        offset = file.tell() - len(line)
        if not line.strip():
            continue
        if not _START.match(line):
            skipped = [line]
            while (line := file.readline(_LINE_BYTES)) and not _START.match(line):
                if len(skipped) < 16:
                    skipped.append(line)
            file.seek(-len(line), io.SEEK_CUR)
            yield _Stored(offset, b"".join(skipped), fault="no WARC record begins here")
            continue
        yield _one(file, offset)


def _one(file: BinaryIO, offset: int) -> _Stored:
    try:
        headers = http.client.parse_headers(file)
    except http.client.HTTPException as error:
        return _Stored(offset, b"", fault=f"broken headers: {error}")
    length = headers.get("Content-Length", "").strip()
    if not length.isdecimal():
        return _Stored(offset, str(headers).encode("utf-8", "replace"), fault="a record without a Content-Length")
    if int(length) > MAX_RECORD_BYTES:
        raw = file.read(MAX_RAW_BYTES)
        file.seek(int(length) - len(raw), io.SEEK_CUR)
        return _Stored(offset, raw, fault=f"a record of more than {MAX_RECORD_BYTES:,} bytes")
    raw = file.read(int(length))
    if len(raw) < int(length):
        return _Stored(offset, raw, fault="the file ends inside a record")
    return _Stored(offset, raw, headers)


def _member(file: BinaryIO, start: int) -> tuple[bytes, int]:
    """The content of a gzip member, cut off behind MAX_RECORD_BYTES, and where the member ends."""
    file.seek(start)
    unzip, content, end = zlib.decompressobj(31), bytearray(), start
    while not unzip.eof:
        block = unzip.unconsumed_tail
        if not block:
            block = file.read(_BLOCK_BYTES)
            end += len(block)
            if not block:
                raise EOFError("the file ends inside it")
        part = unzip.decompress(block, _BLOCK_BYTES * 32)
        if len(content) <= MAX_RECORD_BYTES:
            content += part
    return bytes(content), end - len(unzip.unused_data)


def _peek(file: BinaryIO, start: int) -> bool:
    file.seek(start)
    return bool(file.read(1))


def _find(file: BinaryIO, start: int, wanted: bytes) -> int | None:
    """Where `wanted` is found from `start` on."""
    file.seek(start)
    before = b""
    while block := file.read(_BLOCK_BYTES):
        place = (before + block).find(wanted)
        if place >= 0:
            return start - len(before) + place
        start += len(block)
        before = (before + block)[-len(wanted) + 1 :]
    return None
