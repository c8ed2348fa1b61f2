"""HTML as the text that a reader sees, all of it: for filings, where every word counts and nothing is boilerplate."""

import re

from lxml import etree

from domainlm.tasks.readers.record import Unreadable

_UNSEEN = ("script", "style", "ix:header", "noscript", "title", "xbrl-header")
_BLOCKS = frozenset(
    ("p", "div", "table", "ul", "ol", "li", "pre", "blockquote", "center", "hr", "h1", "h2", "h3", "h4", "h5", "h6")
)
_CELLS = frozenset(("td", "th"))
_HIDDEN = re.compile(r"display\s*:\s*none", re.IGNORECASE)
_GAP = re.compile(r"\n{3,}")


def rendered(markup: str) -> str:
    """The visible text: paragraphs apart by empty lines, a table row or a break begins a line. Raises Unreadable."""
    parser = etree.HTMLParser(remove_comments=True, remove_pis=True, encoding="utf-8", huge_tree=False)
    try:
        root = etree.fromstring(markup.encode(), parser)
    except etree.XMLSyntaxError as error:
        raise Unreadable(f"broken HTML: {error}") from None
    if root is None:
        raise Unreadable("no text")
    for element in root.iterdescendants():
        if _HIDDEN.search(str(element.get("style") or "")):
            element.tag = "script"  # to be left out as scripts are, its tail kept
    etree.strip_elements(root, *_UNSEEN, with_tail=False)
    lines = (" ".join(line.split()) for line in "".join(_parts(root)).split("\n"))
    return _GAP.sub("\n\n", "\n".join(lines)).strip()


def _parts(root: etree._Element) -> list[str]:
    parts: list[str] = []
    in_cell = in_pre = 0
    for event, element in etree.iterwalk(root, events=("start", "end")):
        begins, tag = event == "start", str(element.tag)
        step = 1 if begins else -1
        in_cell += step * (tag in _CELLS)
        in_pre += step * (tag == "pre")
        if tag in _CELLS:
            parts.append(" ")
        elif tag in ("tr", "br") and (begins or tag == "tr"):
            parts.append("\n" if not in_cell or tag == "tr" else " ")
        elif tag in _BLOCKS:
            parts.append("\n\n" if not in_cell else " ")
        words = (element.text if begins else element.tail) or ""
        parts.append(words if in_pre else words.replace("\n", " "))
    return parts
