"""PubMed XML (plain or gzip), of the baseline and its updates: titles, abstracts and deletions.

Each `PubmedArticle` is cut out of the stream and parsed alone: a streaming parser loses the rest of the file at its
first error, this loses one article. Deletions (`DeleteCitation`) and versions are yielded as they come; who wins is
decided over all files of the source.
"""

from collections.abc import Iterator

from lxml import etree

from domainlm.tasks.documents import UNKNOWN_LICENSE, DeadLetter
from domainlm.tasks.licenses import License, from_prose
from domainlm.tasks.readers.cut import elements
from domainlm.tasks.readers.piece import Piece
from domainlm.tasks.readers.record import Deletion, Record, Settings, Unreadable, check_text, dead
from domainlm.tasks.readers.xml import flat_text, parse

NAMES = ("PubmedArticle", "PubmedBookArticle", "DeleteCitation")


def read(piece: Piece, settings: Settings) -> Iterator[Record | DeadLetter | Deletion]:
    """Records and deletions in the order of the file; offsets are byte offsets in the uncompressed XML."""
    found = False
    for offset, raw, fault in elements(piece.path, NAMES):
        found = True
        try:
            if fault:
                raise Unreadable(fault)
            root = parse(raw)
            if root.tag == "DeleteCitation":
                yield from (Deletion(*_pmid(pmid)) for pmid in root.iter("PMID"))
            else:
                yield _record(root, offset)
        except Unreadable as error:
            yield dead(piece.name, offset, str(error), raw)
    if not found:
        yield dead(piece.name, 0, "no PubMed article in the file")


def _record(root: etree._Element, offset: int) -> Record:
    citation = _below(root, "MedlineCitation" if root.tag == "PubmedArticle" else "BookDocument")
    pmid = _below(citation, "PMID")
    if pmid is None or not (pmid.text or "").strip():
        raise Unreadable("an article without a PMID")
    native_id, version = _pmid(pmid)
    article = citation if root.tag == "PubmedBookArticle" else _below(citation, "Article")
    abstract = _below(article, "Abstract")
    title = flat_text(_below(article, "ArticleTitle")) or flat_text(_below(article, "Book", "BookTitle"))
    text = "\n\n".join(block for block in (title, _abstract(abstract)) if block)
    check_text(text)
    copyright_ = flat_text(_below(abstract, "CopyrightInformation"))
    named = from_prose(copyright_) if copyright_ else UNKNOWN_LICENSE
    metadata = {
        "pmid": native_id,
        "pmid_version": version,
        "title": title,
        "copyright": copyright_,
        **_ids(root),
        **_described(article, citation),
    }
    return Record(
        native_id=native_id,
        text=text,
        offset=offset,
        license=License(named, f"CopyrightInformation: {copyright_}") if named != UNKNOWN_LICENSE else None,
        url=f"https://pubmed.ncbi.nlm.nih.gov/{native_id}/",
        version=version,
        metadata={key: value for key, value in metadata.items() if value not in ("", None, False, [])},
    )


def _abstract(abstract: etree._Element | None) -> str:
    """Paragraphs of an abstract, each after its label if it has one."""
    paragraphs = []
    for part in _each(abstract, "AbstractText"):
        label, text = str(part.get("Label") or ""), flat_text(part)
        if text:
            paragraphs.append(f"{label}: {text}" if label and label != "UNLABELLED" else text)
    return "\n".join(paragraphs)


def _ids(root: etree._Element) -> dict[str, object]:
    data = _below(root, "PubmedData" if root.tag == "PubmedArticle" else "PubmedBookData")
    found = {str(element.get("IdType")): flat_text(element) for element in _each(_below(data, "ArticleIdList"))}
    return {"doi": found.get("doi", ""), "pmc": found.get("pmc", "")}


def _described(article: etree._Element | None, citation: etree._Element | None) -> dict[str, object]:
    types_ = _below(article, "PublicationTypeList")
    types = [flat_text(element) for element in (_each(article, "PublicationType") if types_ is None else types_)]
    links = {
        str(link.get("RefType")) for link in _each(_below(citation, "CommentsCorrectionsList"), "CommentsCorrections")
    }
    headings = _each(_below(citation, "MeshHeadingList"), "MeshHeading")
    date = _below(article, "Journal", "JournalIssue", "PubDate")
    date = _below(article, "Book", "PubDate") if date is None else date
    year = (flat_text(_below(date, "Year")) or flat_text(_below(date, "MedlineDate")))[:4]
    return {
        "journal": flat_text(_below(article, "Journal", "Title")),
        "year": int(year) if year.isdecimal() else None,
        "language": flat_text(_below(article, "Language")),
        "publication_types": types,
        "mesh": [flat_text(_below(heading, "DescriptorName")) for heading in headings],
        "retracted": "Retracted Publication" in types or "RetractionIn" in links,
        "retraction_notice": "Retraction of Publication" in types,
        "under_concern": "ExpressionOfConcernIn" in links,
        "concern_notice": "ExpressionOfConcernFor" in links,
    }


def _pmid(element: etree._Element) -> tuple[str, int]:
    version = str(element.get("Version") or "1")
    return (element.text or "").strip(), int(version) if version.isdecimal() else 1


def _below(element: etree._Element | None, *path: str) -> etree._Element | None:
    """The first child of a child ... by name: several times as fast as a search of the whole article."""
    for name in path:
        if element is None:
            return None
        element = next(element.iterchildren(name), None)
    return element


def _each(element: etree._Element | None, *names: str) -> Iterator[etree._Element]:
    return iter(()) if element is None else element.iterchildren(*names)
