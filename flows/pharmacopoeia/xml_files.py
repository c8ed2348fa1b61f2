"""PubMed XML and JATS, as the archives publish them: enough of both for their readers to be tried on."""

from collections.abc import Sequence
from dataclasses import dataclass

from lxml import etree

from domainlm.flows.pharmacopoeia.abstracts import Abstract

XLINK = "http://www.w3.org/1999/xlink"


@dataclass(frozen=True)
class PubmedArticle:
    """An article of PubMed XML."""

    pmid: str
    abstract: Abstract
    year: int
    mesh: tuple[str, ...]


@dataclass(frozen=True)
class JatsArticle:
    """An article of PMC; no licence if the URL is empty."""

    pmc: str
    title: str
    body: str
    license_url: str
    year: int


def pubmed(articles: Sequence[PubmedArticle], *, deleted: Sequence[str]) -> bytes:
    """A PubmedArticleSet that may take earlier articles back at its end."""
    root = etree.Element("PubmedArticleSet")
    for article in articles:
        citation = _add(_add(root, "PubmedArticle"), "MedlineCitation", Status="MEDLINE")
        _add(citation, "PMID", article.pmid, Version="1")
        inner = _add(citation, "Article", PubModel="Print")
        _add(_add(_add(_add(inner, "Journal"), "JournalIssue"), "PubDate"), "Year", str(article.year))
        _add(inner, "ArticleTitle", article.abstract.title)
        abstract = _add(inner, "Abstract")
        for label, text in article.abstract.sections:
            _add(abstract, "AbstractText", text, Label=label.upper())
        _add(_add(inner, "PublicationTypeList"), "PublicationType", "Journal Article")
        headings = _add(citation, "MeshHeadingList")
        for name in article.mesh:
            _add(_add(headings, "MeshHeading"), "DescriptorName", name)
    if deleted:
        deletion = _add(root, "DeleteCitation")
        for pmid in deleted:
            _add(deletion, "PMID", pmid, Version="1")
    return _document(root)


def jats(article: JatsArticle) -> bytes:
    """An article with a title, a body and its permissions."""
    root = etree.Element("article", {"article-type": "case-report"}, nsmap={"xlink": XLINK})
    meta = _add(_add(root, "front"), "article-meta")
    _add(meta, "article-id", article.pmc.removeprefix("PMC"), **{"pub-id-type": "pmc"})
    _add(_add(meta, "title-group"), "article-title", article.title)
    _add(_add(meta, "pub-date"), "year", str(article.year))
    if article.license_url:
        license_ = _add(_add(meta, "permissions"), "license", **{f"{{{XLINK}}}href": article.license_url})
        _add(license_, "license-p", "The licence of this article is found at the address above.")
    section = _add(_add(root, "body"), "sec")
    _add(section, "title", "Case")
    for paragraph in article.body.split("\n"):
        _add(section, "p", paragraph)
    return _document(root)


def _add(parent: etree._Element, tag: str, text: str | None = None, **attributes: str) -> etree._Element:
    child = etree.SubElement(parent, tag, attributes)
    child.text = text
    return child


def _document(root: etree._Element) -> bytes:
    return etree.tostring(root, xml_declaration=True, encoding="UTF-8", pretty_print=True)
