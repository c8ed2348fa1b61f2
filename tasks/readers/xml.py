"""XML from strangers: no network, no external files, no entity of the document's own, no huge trees."""

from lxml import etree

from domainlm.tasks.readers.record import Unreadable

_PARSER = etree.XMLParser(
    resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False, remove_comments=True, remove_pis=True
)


def parse(raw: bytes) -> etree._Element:
    """The root element, without comments and namespaces; raises Unreadable with the reason."""
    if b"<!ENTITY" in raw:  # before any parser sees it; in other encodings the reference below is refused
        raise Unreadable("the document declares entities of its own")
    try:
        root = etree.fromstring(raw, _PARSER)
    except etree.XMLSyntaxError as error:
        raise Unreadable(f"malformed XML: {error}") from None
    if (undefined := next(root.iter(etree.Entity), None)) is not None:
        raise Unreadable(f"undefined entity {undefined.text}")
    if b"xmlns" in raw:  # PubMed's articles have none, and this is half of their time
        for element in root.iter("{*}*"):
            if str(element.tag).startswith("{"):
                element.tag = etree.QName(element).localname
    return root


def text_of(element: etree._Element) -> str:
    """All text below an element, as it stands."""
    return "".join(map(str, element.itertext())) if len(element) else element.text or ""


def flat_text(element: etree._Element | None) -> str:
    """All text below an element, white space collapsed; empty for None."""
    return "" if element is None else " ".join(text_of(element).split())
