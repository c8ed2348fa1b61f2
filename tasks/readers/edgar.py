"""EDGAR full-text submissions (`ACCESSION.txt`): each document of a filing, with what the header says of the filing.

A submission is SGML: an `<SEC-HEADER>`, then `<DOCUMENT>`s, each with `<TYPE>`, `<SEQUENCE>`, `<FILENAME>` and a
`<TEXT>` that holds HTML (inline XBRL or not), plain text, XML or an encoded binary file. HTML becomes text, a table row
a line, without what a browser hides; XML and binary files are passed over.
"""

import re
from collections.abc import Iterator, Mapping

from domainlm.tasks.documents import DeadLetter
from domainlm.tasks.readers.cut import elements
from domainlm.tasks.readers.piece import Piece
from domainlm.tasks.readers.record import PassedOver, Record, Settings, Unreadable, check_text, dead, decoded
from domainlm.tasks.readers.rendered import rendered

HEADERS = ("SEC-HEADER", "IMS-HEADER")  # the latter until 2000
_TAGS = re.compile(r"^<(TYPE|SEQUENCE|FILENAME|DESCRIPTION)>([^\r\n]*)", re.MULTILINE)
_TEXT = re.compile(r"<TEXT>(.*)</TEXT>", re.DOTALL | re.IGNORECASE)
_FIELD = re.compile(r"^\s*([A-Z][A-Z0-9 ,&/-]+):[ \t]*(\S[^\r\n]*?)\s*$", re.MULTILINE)
_MARKUP = re.compile(r"<(?:html|body|div|p|table|font|pre|center|br|h\d)\b", re.IGNORECASE)
_BINARY = re.compile(r"^(?:<PDF>\s*)?begin \d{3} \S", re.MULTILINE)
_XML = re.compile(
    r"\s*(?:<XML>|<\?xml(?![^>]*\?>\s*(?:<!--.*?-->\s*)*<!?(?:DOCTYPE )?html))", re.IGNORECASE | re.DOTALL
)
_KEPT_FIELDS = {
    "ACCESSION NUMBER": "accession",
    "CONFORMED SUBMISSION TYPE": "form",
    "CONFORMED PERIOD OF REPORT": "period",
    "FILED AS OF DATE": "filed",
    "COMPANY CONFORMED NAME": "company",
    "CENTRAL INDEX KEY": "cik",
    "STANDARD INDUSTRIAL CLASSIFICATION": "industry",
    "FISCAL YEAR END": "fiscal_year_end",
}


def read(piece: Piece, settings: Settings) -> Iterator[Record | DeadLetter | PassedOver]:
    """The documents of the file's submissions, in order; offsets are bytes of the uncompressed text."""
    filing: Mapping[str, str] = {}
    found = False
    for offset, raw, fault in elements(piece.path, (*HEADERS, "DOCUMENT")):
        found = True
        try:
            if fault:
                raise Unreadable(fault)
            if raw.startswith(b"<DOCUMENT"):
                yield _document(decoded(raw, "utf-8"), filing, offset)
            else:
                filing = {}
                filing = _filing(decoded(raw, "utf-8"))
        except Unreadable as error:
            yield dead(piece.name, offset, str(error), raw)
    if not found:
        yield dead(piece.name, 0, "no EDGAR submission: neither <SEC-HEADER> nor <DOCUMENT> in the file")


def _filing(header: str) -> dict[str, str]:
    """What is kept of the header, under names of ours; of several filers the first."""
    found: dict[str, str] = {}
    for name, value in _FIELD.findall(header):
        if name in _KEPT_FIELDS:
            found.setdefault(_KEPT_FIELDS[name], value)
    if "accession" not in found:
        raise Unreadable("a header without an ACCESSION NUMBER")
    return found


def _document(raw: str, filing: Mapping[str, str], offset: int) -> Record | PassedOver:
    if not filing:
        raise Unreadable("a document without a readable header before it")
    tags = {name.lower(): value.strip() for name, value in _TAGS.findall(raw.partition("<TEXT>")[0])}
    if not tags.get("sequence"):
        raise Unreadable("a document without a <SEQUENCE>")
    native_id = f"{filing['accession']}/{tags['sequence']}"
    body = _TEXT.search(raw)
    if body is None:
        raise Unreadable("a document without a <TEXT>")
    what = _kind(body[1])
    if what not in ("html", "text"):
        return PassedOver(native_id, f"{what} ({tags.get('type', 'no type')})")
    text = rendered(body[1]) if what == "html" else body[1].replace("\r\n", "\n").strip("\n")
    check_text(text)
    name, cik = tags.get("filename", ""), filing.get("cik", "").lstrip("0")
    folder = f"https://www.sec.gov/Archives/edgar/data/{cik}/{filing['accession'].replace('-', '')}"
    document = {f"document_{key}": tags[key] for key in ("type", "description") if tags.get(key)}
    return Record(
        native_id=native_id,
        text=text,
        offset=offset,
        url=f"{folder}/{name}" if name and cik else "",
        metadata={**filing, **document},
    )


def _kind(body: str) -> str:
    if _BINARY.search(body, 0, 2_000):
        return "binary file"
    if _XML.match(body):
        return "xml"
    return "html" if _MARKUP.search(body) else "text"
