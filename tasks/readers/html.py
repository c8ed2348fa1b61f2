"""HTML pages: the main text without navigation and boilerplate, as trafilatura finds it; one page a file.

datatrove's own trafilatura block drops what a cache of the process has seen before, so that its result depends on the
order of the pages; here each page is read for itself. A licence that the page links as its own (`rel="license"`) goes
before the source's.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from lxml import etree

from domainlm.tasks.documents import DeadLetter
from domainlm.tasks.licenses import License, from_url
from domainlm.tasks.readers.piece import Piece
from domainlm.tasks.readers.record import PassedOver, Record, Settings, Unreadable, check_text, dead, optional_package
from domainlm.tasks.readers.streams import BrokenStream, whole
from domainlm.tasks.readers.text import file_id
from domainlm.tasks.readers.xml import text_of

MAX_PAGE_BYTES = 8 << 20  # trafilatura takes seconds a megabyte; a larger page is a dump and no prose
NO_TEXT = "no main text in the page"
_META_CHARSET = re.compile(rb"<meta[^>]{0,200}charset\s*=\s*[\"']?\s*([\w:.-]+)", re.IGNORECASE)
_META_BYTES = 4096
_WEB_NAMES = {"iso-8859-1": "cp1252", "latin1": "cp1252", "us-ascii": "cp1252", "ascii": "cp1252", "utf8": "utf-8"}


@dataclass(frozen=True, slots=True)
class Page:
    """What a page says."""

    text: str
    license: License | None
    metadata: dict[str, object]


def read(piece: Piece, settings: Settings) -> Iterator[Record | DeadLetter | PassedOver]:
    """The one record of the file."""
    raw = b""
    try:
        raw = whole(piece)
        found = page(raw)
    except BrokenStream as error:
        yield error.letter(piece.name)
    except Unreadable as fault:
        yield dead(piece.name, 0, str(fault), raw or fault.raw)
    else:
        native_id = file_id(piece.name)
        if found is None:
            yield PassedOver(native_id, NO_TEXT)
        else:
            yield Record(native_id, found.text, 0, found.license, metadata=found.metadata)


def page(raw: bytes, charset: str = "") -> Page | None:
    """The text of a page in `charset`, or in the one that it states; None if it has none. Raises Unreadable."""
    trafilatura = optional_package("trafilatura", "html")
    if len(raw) > MAX_PAGE_BYTES:
        raise Unreadable(f"a page of more than {MAX_PAGE_BYTES:,} bytes")
    if not raw.strip():
        raise Unreadable("no text")
    markup = _decoded(raw, charset)
    if "\x00" in markup:
        raise Unreadable("null character in the page")
    tree = trafilatura.load_html(markup)
    if tree is None:
        raise Unreadable("no HTML")
    license, metadata = _license(tree), _metadata(tree)  # before the extraction, which changes the tree
    text = trafilatura.extract(tree, include_comments=False, deduplicate=False, output_format="txt")
    if not text:
        return None
    check_text(text)
    return Page(str(text), license, metadata)


def _decoded(raw: bytes, charset: str) -> str:
    if raw.startswith(b"\xef\xbb\xbf"):
        charset = "utf-8-sig"
    elif raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        charset = "utf-16"
    elif not charset and (stated := _META_CHARSET.search(raw, 0, _META_BYTES)):
        charset = stated[1].decode("ascii", "ignore")
    charset = _WEB_NAMES.get(charset.lower(), charset.lower()) or "utf-8"
    try:
        return raw.decode(charset)
    except UnicodeDecodeError as bad:
        raise Unreadable(f"invalid {charset.upper()} at byte {bad.start}") from None
    except LookupError:
        raise Unreadable(f"the page states an encoding {charset!r} that does not exist") from None


def _license(tree: etree._Element) -> License | None:
    """What the page links as its licence; unknown if it links one that nobody knows."""
    links = [str(link.get("href") or "") for link in tree.iter("a", "link") if "license" in _words(link.get("rel"))]
    stated = " ".join(dict.fromkeys(link for link in links if link))
    return License(from_url(stated), f"rel=license: {stated}"[:500]) if stated else None


def _metadata(tree: etree._Element) -> dict[str, object]:
    title = next(tree.iter("title"), None)
    found: dict[str, object] = {
        "title": " ".join(text_of(title).split()) if title is not None else "",
        "language": str(tree.get("lang") or ""),
    }
    return {name: value for name, value in found.items() if value}


def _words(value: object) -> list[str]:
    return str(value or "").lower().split()
