"""Personal identifiers: found in one document and replaced by typed placeholders.

In: the text of one document and the kinds to look for: those that a pattern can tell, and by `presidio` names, places
and the like, which have none. Out: the text with `<EMAIL>`, `<BIRTH_DATE>` and the like in place of what was found, and
where that was (offsets into the text as it came in, never what stood there). The result depends on the document alone.

To add a kind, add one entry to `PATTERNS`, and one to `CHECKS` if it has check digits; a group called `pii` narrows
what is replaced.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

from domainlm.tasks.checksums import IBAN_COUNTRIES, iban, luhn, npi
from domainlm.tasks.presidio import ModelKind, Presidio, find_names

PiiKind = Literal["email", "ip", "phone", "ssn", "mrn", "npi", "birth_date", "credit_card", "iban"]


def _is_ip(written: str) -> bool:
    try:
        ip_address(written)
    except ValueError:
        return False
    return True


def _iban_pattern() -> str:
    """An IBAN in one or in groups of four, as long as those of its country are."""
    each = []
    for length, countries in IBAN_COUNTRIES.items():
        fours, rest = divmod(length - 4, 4)
        last = rf"(?: ?[A-Z\d]{{{rest}}})" if rest else ""
        each.append(rf"(?:{countries})\d\d(?: ?[A-Z\d]{{4}}){{{fours}}}{last}")
    return rf"(?<![\w-])(?:{'|'.join(each)})(?![\w-])"


_OCTET = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]{0,6}\.?"
_DAY = r"(?:0?[1-9]|[12]\d|3[01])"
_DATE = (
    rf"(?:(?:18|19|20)\d\d[-/.](?:0?[1-9]|1[0-2])[-/.]{_DAY}|{_DAY}[-/. ]{{1,2}}(?:0?[1-9]|1[0-2]|{_DAY}|{_MONTH})"
    rf"[-/., ]{{1,2}}(?:(?:18|19|20)\d\d|\d\d)|{_MONTH} ?{_DAY}(?:st|nd|rd|th)?,? (?:18|19|20)\d\d"
    rf"|{_DAY}(?:st|nd|rd|th) (?:of )?{_MONTH},? (?:18|19|20)\d\d)"
)
PATTERNS: dict[PiiKind, re.Pattern[str]] = {
    "email": re.compile(r"(?<![\w.%+-])\w[\w.%+'-]{0,63}@(?:[A-Za-z0-9-]{1,63}\.)+[A-Za-z]{2,24}(?![\w-])"),
    # First number of 10 or more, another of two digits, last one not 0: else these are enzymes (EC 3.4.21.4), sections
    # (10.2.2.1), software versions.
    # Version 6 as it is written in practice: four digits first; other colons are times, ratios and hardware addresses.
    "ip": re.compile(
        rf"(?<![\w.])(?<![vV]ersion )(?=\d\d+\.[\d.]*\d\d){_OCTET}(?:\.{_OCTET}){{2}}\.(?!0\b){_OCTET}(?!\w|\.\d)"
        r"|(?<![\w:.])[23fF][\dA-Fa-f]{3}:[\dA-Fa-f:.]{0,40}[\dA-Fa-f](?![\w:])"
    ),
    # With a country code, or announced as a phone, or in the North American form of 3-3-4 digits.
    "phone": re.compile(
        r"(?<![\w+])\+[1-9]\d{0,2}(?:[ .-]?\(?\d{1,4}\)?){2,3}[ .-]?\d{3,4}(?:[ -]?\d{2,4})?(?![\w]|[.,]\d)"
        r"|(?i:\b(?:tel|telephone|phone|fax|mobile)\b\.?\s?:?\s?)"
        r"(?P<pii>\(?\d{2,5}\)?(?:[ .-]?\d{2,4}){2,4})(?![\w]|[.,]\d)"
        r"|(?<![\w.,/-])(?:\(\d{3}\) ?|\d{3}-)\d{3}-\d{4}(?![\w/-])"
    ),
    "ssn": re.compile(r"(?<![\w.,/-])(?!000|666|9)\d{3}-(?!00)\d{2}-(?!0000)\d{4}(?![\w/-])"),
    "mrn": re.compile(
        r"(?i:\b(?:MRN|(?:medical record|hospital|chart) (?:number|no\.?|id|#)))\s?(?:is\s)?[:#]?\s?"
        r"(?P<pii>(?=[A-Z-]{0,4}\d)[A-Z0-9-]{5,14})(?!\w)"
    ),
    "npi": re.compile(r"(?i:\bNPI)(?: (?i:number|no\.?|id))?\s?(?:is\s)?[:#]?\s?(?P<pii>[12]\d{9})(?!\w)"),
    "birth_date": re.compile(
        r"(?i)\b(?:dob\b|d\.o\.b\.|(?:date of birth|birth ?date|birthday)\b|born(?: on)?\b)(?: (?:is|was))?\s?[:=]?\s?"
        rf"(?P<pii>{_DATE})(?!\w|[-/.]\d)"
    ),
    # By the issuers' first digits and lengths; in fours, as American Express (4-6-5), or in one.
    "credit_card": re.compile(
        r"(?<![\w.,/+-])(?:(?:4\d{3}|5[1-5]\d\d|2[2-7]\d\d|35\d\d|6(?:011|4[4-9]\d|5\d\d))(?:[ -]?\d{4}){3}"
        r"|3[47]\d\d[ -]?\d{6}[ -]?\d{5})(?![\w/-]|[.,]\d)"
    ),
    "iban": re.compile(_iban_pattern()),
}
CHECKS: Mapping[PiiKind, Callable[[str], bool]] = {"ip": _is_ip, "npi": npi, "credit_card": luhn, "iban": iban}
FINDING_SCHEMA = pa.schema(
    [
        pa.field("doc_id", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("start", pa.int64(), nullable=False),
        pa.field("end", pa.int64(), nullable=False),
    ]
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One identifier: its kind, and where it stood in the document's text before it was replaced."""

    doc_id: str
    kind: PiiKind | ModelKind
    start: int
    end: int


def find_pii(doc_id: str, text: str, kinds: Sequence[PiiKind | Presidio]) -> list[Finding]:
    """Identifiers of these kinds in the order of the text; of two that overlap the earlier, then the longer.

    What a pattern tells goes before what a model thinks.
    """
    told = [
        Finding(doc_id, kind, *span)
        for kind in kinds
        if not isinstance(kind, Presidio)
        for span in map(_span, PATTERNS[kind].finditer(text))
        if kind not in CHECKS or CHECKS[kind](text[slice(*span)])
    ]
    asked = [kind for kind in kinds if isinstance(kind, Presidio)]
    thought = [Finding(doc_id, *named) for presidio in asked for named in find_names(text, presidio)]
    apart = _apart(told)
    taken = {place for finding in apart for place in range(finding.start, finding.end)}
    free = [finding for finding in _apart(thought) if taken.isdisjoint(range(finding.start, finding.end))]
    return sorted([*apart, *free], key=_order)


def redact(text: str, findings: Iterable[Finding]) -> str:
    """The text with each finding replaced by its placeholder."""
    pieces: list[str] = []
    position = 0
    for finding in findings:
        pieces += [text[position : finding.start], f"<{finding.kind.upper()}>"]
        position = finding.end
    return "".join(pieces) + text[position:]


def write_findings(path: Path, findings: Sequence[Finding]) -> None:
    """Write one row a finding; the file appears only when whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    table = pa.Table.from_pylist([asdict(finding) for finding in findings], schema=FINDING_SCHEMA)
    pq.write_table(table, temporary, compression="zstd", store_schema=False)
    temporary.replace(path)


def _apart(found: Iterable[Finding]) -> list[Finding]:
    apart: list[Finding] = []
    for finding in sorted(found, key=_order):
        if not apart or finding.start >= apart[-1].end:
            apart.append(finding)
    return apart


def _order(finding: Finding) -> tuple[int, int, str]:
    return finding.start, -finding.end, finding.kind


def _span(match: re.Match[str]) -> tuple[int, int]:
    return match.span("pii") if match.re.groups and match["pii"] is not None else match.span()
