"""Personal identifiers that a pattern can tell: found in one document and replaced by typed placeholders.

In: the text of one document and the kinds to look for. Out: the text with `<EMAIL>`, `<IP>`, `<PHONE>` and so on in
place of what was found, and where that was (offsets into the text as it came in, never what stood there). The result
depends on the document alone. Names and addresses have no pattern and stay.

To add a kind, add one entry to `PATTERNS`; a group called `pii` narrows what is replaced. Where a kind has a checksum,
`CHECKS` must agree to it.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

PiiKind = Literal["email", "ip", "phone", "ssn", "mrn", "npi", "dob", "card", "iban"]

_OCTET = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_MONTH = r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]{0,6}\.?"
_DATE = (
    r"(?:\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.](?:\d{4}|\d{2})"
    rf"|{_MONTH} \d{{1,2}},? \d{{4}}|\d{{1,2}}\.? {_MONTH},? \d{{4}})"
)
PATTERNS: dict[PiiKind, re.Pattern[str]] = {
    "email": re.compile(r"(?<![\w.%+-])[\w.%+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.)+[A-Za-z]{2,24}(?![\w-])"),
    # First number of 10 or more, last one not 0: else these are enzymes (EC 3.4.21.4), sections, software versions.
    "ip": re.compile(rf"(?<![\w.])(?<![vV]ersion )(?=\d\d){_OCTET}(?:\.{_OCTET}){{2}}\.(?!0\b){_OCTET}(?!\w|\.\d)"),
    # With a country code, or announced as a phone, or in the North American form of 3-3-4 digits.
    "phone": re.compile(
        r"(?<![\w+])\+[1-9]\d{0,2}(?:[ .-]?\(?\d{1,4}\)?){2,3}[ .-]?\d{3,4}(?:[ -]?\d{2,4})?(?![\w]|[.,]\d)"
        r"|(?i:\b(?:tel|telephone|phone|fax|mobile)\b\.?\s?:?\s?)"
        r"(?P<pii>\(?\d{2,5}\)?(?:[ .-]?\d{2,4}){2,4})(?![\w]|[.,]\d)"
        r"|(?<![\w.,/-])(?:\(\d{3}\) ?|\d{3}-)\d{3}-\d{4}(?![\w/-])"
    ),
    "ssn": re.compile(r"(?<![\w.,/-])(?!000|666|9)\d{3}-(?!00)\d{2}-(?!0000)\d{4}(?![\w/-])"),
    "mrn": re.compile(
        r"(?i:\b(?:MRN|medical record (?:number|no\.?|#)))\s?(?:is\s)?[:#]?\s?"
        r"(?P<pii>(?=[A-Z-]{0,4}\d)[A-Z0-9-]{5,14})(?!\w)"
    ),
    # Only where announced: one in ten of all numbers of ten digits has the check digit.
    "npi": re.compile(
        r"(?i:\b(?:NPI|national provider identifier)\b)(?i:\s?(?:number|no\.?|#))?\s?(?:is\s)?[:#]?\s?"
        r"(?P<pii>[12]\d{9})(?!\w)"
    ),
    # Only where announced: other dates are those of trials and articles.
    "dob": re.compile(
        r"(?i:\b(?:DOB|D\.O\.B\.|date of birth|birth ?date)(?!\w))\s?(?:is\s|was\s)?:?\s?" rf"(?P<pii>{_DATE})(?!\w)"
    ),
    "card": re.compile(
        r"(?<![\w.,/-])(?:[3-6]\d{3}(?P<four>[ -]?)\d{4}(?P=four)\d{4}(?P=four)\d{4}"
        r"|3[47]\d{2}(?P<six>[ -]?)\d{6}(?P=six)\d{5})(?![\w/-]|[.,]\d)"
    ),
    "iban": re.compile(r"(?<!\w)[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?(?=[A-Z]{0,3}\d)[A-Z0-9]{1,4})?(?!\w)"),
}
NPI_PREFIX = "80840"  # of the United States' health cards, ISO 7812; the check digit counts it


def luhn(number: str) -> bool:
    """Whether the last digit checks the others (ISO 7812)."""
    digits = [int(digit) for digit in number if digit.isdecimal()]
    doubled = (sum(divmod(2 * digit, 10)) for digit in digits[-2::-2])
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def mod97(iban: str) -> bool:
    """Whether the two check digits fit (ISO 13616)."""
    plain = iban.replace(" ", "")
    return int("".join(str(int(letter, 36)) for letter in plain[4:] + plain[:4])) % 97 == 1


CHECKS: Mapping[PiiKind, Callable[[str], bool]] = {
    "npi": lambda found: luhn(NPI_PREFIX + found),
    "card": luhn,
    "iban": mod97,
}
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
    kind: PiiKind
    start: int
    end: int


def find_pii(doc_id: str, text: str, kinds: Sequence[PiiKind]) -> list[Finding]:
    """Identifiers of these kinds in the order of the text; of two that overlap the earlier, then the longer."""
    spans = ((kind, *_span(match)) for kind in kinds for match in PATTERNS[kind].finditer(text))
    found = [
        Finding(doc_id, kind, start, end)
        for kind, start, end in spans
        if kind not in CHECKS or CHECKS[kind](text[start:end])
    ]
    found.sort(key=lambda finding: (finding.start, -finding.end, finding.kind))
    apart: list[Finding] = []
    for finding in found:
        if not apart or finding.start >= apart[-1].end:
            apart.append(finding)
    return apart


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


def _span(match: re.Match[str]) -> tuple[int, int]:
    return match.span("pii") if "pii" in match.re.groupindex and match["pii"] is not None else match.span()
