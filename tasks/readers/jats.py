"""JATS, as PubMed Central publishes it: one article a file; title, abstract and body, with headings.

Tables, figures, formulas set as LaTeX, footnotes, references and the marks that cite them are left out.
"""

import re
from collections.abc import Iterator

from lxml import etree

from domainlm.tasks.documents import UNKNOWN_LICENSE, DeadLetter
from domainlm.tasks.licenses import License, from_prose, from_url
from domainlm.tasks.readers.piece import Piece
from domainlm.tasks.readers.record import Record, Settings, Unreadable, check_text, dead
from domainlm.tasks.readers.streams import BrokenStream, whole
from domainlm.tasks.readers.text import file_id
from domainlm.tasks.readers.xml import flat_text, parse, text_of

HREF = "{http://www.w3.org/1999/xlink}href"
_OUT = ("table-wrap", "fig", "fig-group", "tex-math", "fn", "fn-group", "ref-list", "supplementary-material", "media")
_BLOCKS = ("p", "title", "list", "list-item", "disp-quote", "boxed-text", "sec", "def-list", "def-item", "disp-formula")
_CONCERNED = "object-of-concern"  # what a notice names; the article's own link to the notice has several names
_EMPTY_BRACKETS = re.compile(r"\s*[\[(][\s,;\u2013-]*[\])]")  # what is left of "[3-5]" without its citations
_EVIDENCE_CHARACTERS = 500


def read(piece: Piece, settings: Settings) -> Iterator[Record | DeadLetter]:
    """The one record of the file."""
    raw = b""
    try:
        raw = whole(piece)
        root = parse(raw)
        article = next(root.iter("article"), None)
        meta = None if article is None else article.find("front/article-meta")
        if article is None or meta is None:
            raise Unreadable(f"no article with front matter, but <{root.tag}>")
        yield _record(article, meta, piece.name)
    except BrokenStream as error:
        yield error.letter(piece.name)
    except Unreadable as fault:
        yield dead(piece.name, 0, str(fault), raw or fault.raw)


def _record(article: etree._Element, meta: etree._Element, name: str) -> Record:
    license = _license(meta)
    ids = _ids(meta)
    metadata = _metadata(article, meta, ids)
    text = _text(article, meta)
    check_text(text)
    doi = ids.get("doi", "")
    return Record(
        native_id=ids.get("pmc") or ids.get("pmid") or doi or file_id(name),
        text=text,
        offset=0,
        license=license,
        url=f"https://doi.org/{doi}" if doi else "",
        metadata=metadata,
    )


def _ids(meta: etree._Element) -> dict[str, str]:
    """Identifiers by kind; a PMC id always with its letters."""
    ids = {str(element.get("pub-id-type")): flat_text(element) for element in meta.iterfind("article-id")}
    pmc = ids.get("pmc") or ids.get("pmcid") or ""
    if pmc:
        ids["pmc"] = pmc if pmc.startswith("PMC") else f"PMC{pmc}"
    return ids


def _license(meta: etree._Element) -> License | None:
    """What permissions name: a link of the licence element, else its words, else those of the copyright statement."""
    permissions = meta.find("permissions")
    if permissions is None:
        return None
    statements = []
    for element in permissions.iterfind("license"):
        links = [str(element.get(HREF) or ""), *(flat_text(link) for link in element.iterfind("license_ref"))]
        statements.append(("permissions/license/@xlink:href", " ".join(link for link in links if link)))
    for element in permissions.iterfind("license"):
        links = [str(link.get(HREF) or "") for link in element.iter("ext-link", "uri")]
        statements.append(("permissions/license", " ".join([flat_text(element), *links]).strip()))
    statements += [("permissions/license_ref", flat_text(link)) for link in permissions.iterfind("license_ref")]
    statements += [("permissions/copyright-statement", flat_text(permissions.find("copyright-statement")))]
    for place, words in statements:
        named = from_url(words) if place.endswith("href") else from_prose(words)
        if named != UNKNOWN_LICENSE:
            return License(named, f"{place}: {words}"[:_EVIDENCE_CHARACTERS])
    said = next(((place, words) for place, words in statements if words), None)
    return License(UNKNOWN_LICENSE, f"{said[0]}: {said[1]}"[:_EVIDENCE_CHARACTERS]) if said else None


def _metadata(article: etree._Element, meta: etree._Element, ids: dict[str, str]) -> dict[str, object]:
    kind = str(article.get("article-type") or "")
    years = [int(year) for element in meta.iterfind("pub-date/year") if (year := flat_text(element)).isdecimal()]
    related = [
        {"type": str(element.get("related-article-type") or ""), "target": str(element.get(HREF) or "")}
        for element in meta.iterfind("related-article")
    ]
    metadata: dict[str, object] = {
        "pmc": ids.get("pmc", ""),
        "pmid": ids.get("pmid", ""),
        "doi": ids.get("doi", ""),
        "title": flat_text(meta.find("title-group/article-title")),
        "journal": flat_text(next(article.iterfind("front/journal-meta//journal-title"), None)),
        "year": min(years, default=None),
        "article_type": kind,
        "language": str(article.get("{http://www.w3.org/XML/1998/namespace}lang") or ""),
        "subjects": [flat_text(element) for element in meta.iterfind("article-categories//subject")],
        "related_articles": related,
        "retracted": kind == "retracted-article" or any(entry["type"] == "retraction-forward" for entry in related),
        "retraction_notice": kind in ("retraction", "partial-retraction"),
        "under_concern": any("concern" in entry["type"] and entry["type"] != _CONCERNED for entry in related),
        "concern_notice": kind == "expression-of-concern",
    }
    return {key: value for key, value in metadata.items() if value not in ("", None, False, [])}


def _text(article: etree._Element, meta: etree._Element) -> str:
    """Title, abstracts, body: blocks apart by empty lines. Changes the tree."""
    for citation in article.iter("xref"):
        if citation.get("ref-type") == "bibr":
            citation.text = None
            del citation[:]
    etree.strip_elements(article, *_OUT, with_tail=False)
    blocks = [flat_text(meta.find("title-group/article-title"))]
    for abstract in meta.iterfind("abstract"):
        if abstract.get("abstract-type") in (None, "", "summary"):
            headed = abstract.find("title") is not None
            blocks += [*([] if headed else ["Abstract"]), *_blocks(abstract)]
    body = article.find("body")
    if body is not None:
        blocks += _blocks(body)
    return "\n\n".join(block for block in blocks if block)


def _blocks(element: etree._Element) -> list[str]:
    """The text below an element, cut at the elements that begin a line of their own."""
    blocks, current = [], [element.text or ""]
    for child in element:
        if child.tag in _BLOCKS or next(child.iter(*_BLOCKS), None) is not None:
            blocks += [_tidy("".join(current)), *_blocks(child)]
            current = []
        else:
            current.append(text_of(child))
        current.append(child.tail or "")
    return [block for block in [*blocks, _tidy("".join(current))] if block]


def _tidy(text: str) -> str:
    return _EMPTY_BRACKETS.sub("", " ".join(text.split()))
