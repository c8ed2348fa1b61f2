"""PubMed XML (plain or gzip), of the baseline and its updates: titles, abstracts and deletions.

Each `PubmedArticle` is cut out of the stream and parsed alone: a streaming parser loses the rest of the file at its
first error, this loses one article. Deletions (`DeleteCitation`) and versions are yielded as they come; who wins is
decided over all files of the source.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from lxml import etree

from domainlm.tasks.documents import UNKNOWN_LICENSE, DeadLetter
from domainlm.tasks.licenses import License, from_prose
from domainlm.tasks.readers.record import MAX_RECORD_BYTES, Deletion, Fields, Record, dead, text_fault
from domainlm.tasks.readers.streams import BrokenStream, chunks
from domainlm.tasks.readers.xml import RefusedXml, flat_text, parse

_OPENING = re.compile(rb"<(PubmedArticle|PubmedBookArticle|DeleteCitation)(?=[\s>])")
_TAG_BYTES = 32  # of a chunk's end that may hold the beginning of a tag


def read(path: Path, name: str, fields: Fields) -> Iterator[Record | DeadLetter | Deletion]:
    """Records and deletions in the order of the file; offsets are byte offsets in the uncompressed XML."""
    found = False
    for offset, raw, fault in _elements(path):
        found = True
        if fault:
            yield dead(name, offset, fault, raw)
            continue
        try:
            root = parse(raw)
        except RefusedXml as error:
            yield dead(name, offset, str(error), raw)
            continue
        if root.tag == "DeleteCitation":
            yield from (Deletion(*_pmid(pmid)) for pmid in root.iter("PMID"))
        else:
            yield _record(root, name, offset, raw)
    if not found:
        yield dead(name, 0, "no PubMed article in the file")


def _elements(path: Path) -> Iterator[tuple[int, bytes, str]]:
    """(offset, bytes, fault) of each article and list of deletions, one in memory."""
    buffer, offset = b"", 0
    try:
        for chunk in chunks(path):
            buffer += chunk
            while match := _OPENING.search(buffer):
                end = buffer.find(b"</" + match[1] + b">", match.end())
                if end < 0:
                    break
                end += len(match[1]) + 3
                yield offset + match.start(), buffer[match.start() : end], ""
                buffer, offset = buffer[end:], offset + end
            drop = match.start() if match else max(0, len(buffer) - _TAG_BYTES)
            buffer, offset = buffer[drop:], offset + drop
            if len(buffer) > MAX_RECORD_BYTES:
                yield offset, buffer, f"an element of more than {MAX_RECORD_BYTES:,} bytes"
                buffer, offset = b"", offset + len(buffer)
    except BrokenStream as error:
        yield offset, buffer, str(error)
        return
    if _OPENING.search(buffer):
        yield offset, buffer, "the file ends inside an article"


def _record(article: etree._Element, name: str, offset: int, raw: bytes) -> Record | DeadLetter:
    pmid = article.find(".//PMID")
    if pmid is None or not (pmid.text or "").strip():
        return dead(name, offset, "an article without a PMID", raw)
    native_id, version = _pmid(pmid)
    title = flat_text(_first(article, ".//Article/ArticleTitle", ".//BookDocument/ArticleTitle", ".//BookTitle"))
    abstract = _first(article, ".//Article/Abstract", ".//BookDocument/Abstract")
    text = "\n\n".join(block for block in (title, _abstract(abstract)) if block)
    if fault := text_fault(text):
        return dead(name, offset, fault, raw)
    copyright_ = flat_text(abstract.find("CopyrightInformation")) if abstract is not None else ""
    named = from_prose(copyright_)
    return Record(
        native_id=native_id,
        text=text,
        offset=offset,
        license=License(named, f"CopyrightInformation: {copyright_}") if named != UNKNOWN_LICENSE else None,
        url=f"https://pubmed.ncbi.nlm.nih.gov/{native_id}/",
        version=version,
        metadata=_metadata(article, native_id, version, title, copyright_),
    )


def _abstract(abstract: etree._Element | None) -> str:
    """Paragraphs of an abstract, each after its label if it has one."""
    if abstract is None:
        return ""
    paragraphs = []
    for part in abstract.iterfind("AbstractText"):
        label, text = str(part.get("Label") or ""), flat_text(part)
        if text:
            paragraphs.append(f"{label}: {text}" if label and label != "UNLABELLED" else text)
    return "\n".join(paragraphs)


def _metadata(article: etree._Element, pmid: str, version: int, title: str, copyright_: str) -> dict[str, object]:
    types = [flat_text(element) for element in article.iterfind(".//PublicationTypeList/PublicationType")]
    ids = {
        str(element.get("IdType")): flat_text(element) for element in article.iterfind("./PubmedData/ArticleIdList/*")
    }
    year = flat_text(_first(article, ".//JournalIssue/PubDate/Year", ".//JournalIssue/PubDate/MedlineDate"))[:4]
    metadata: dict[str, object] = {
        "pmid": pmid,
        "pmid_version": version,
        "doi": ids.get("doi", ""),
        "pmc": ids.get("pmc", ""),
        "title": title,
        "journal": flat_text(article.find(".//Journal/Title")),
        "year": int(year) if year.isdecimal() else None,
        "language": flat_text(article.find(".//Article/Language")),
        "publication_types": types,
        "mesh": [flat_text(element) for element in article.iterfind(".//MeshHeading/DescriptorName")],
        "copyright": copyright_,
        "retracted": "Retracted Publication" in types,
        "retraction_notice": "Retraction of Publication" in types,
    }
    return {key: value for key, value in metadata.items() if value not in ("", None, False, [])}


def _pmid(element: etree._Element) -> tuple[str, int]:
    version = str(element.get("Version") or "1")
    return (element.text or "").strip(), int(version) if version.isdecimal() else 1


def _first(article: etree._Element, *paths: str) -> etree._Element | None:
    return next((found for path in paths if (found := article.find(path)) is not None), None)
