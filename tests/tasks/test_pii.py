"""Personal identifiers: what is found, and what in biomedical text only looks like one."""

import gzip
import json
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from domainlm.tasks.pii import NPI_PREFIX, PATTERNS, PiiKind, find_pii, luhn, redact

KINDS = tuple(PATTERNS)


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("Write to jane.o'neil@uni-koeln.example.de.", "Write to jane.o'<EMAIL>."),
        ("E-mail: mdh@alm.au.dk\nDenmark", "E-mail: <EMAIL>\nDenmark"),
        ("logged in from 192.168.17.4.", "logged in from <IP>."),
        ("Call (301) 496-5248 or 888-346-3656.", "Call <PHONE> or <PHONE>."),
        ("Tel: +44 20 7946 0958, Fax: 7315545283", "Tel: <PHONE>, Fax: <PHONE>"),
        ("Phone: 55 12 3922-4069.", "Phone: <PHONE>."),
        ("SSN 219-09-9999 on file", "SSN <SSN> on file"),
        ("MRN: 12345678, seen on", "MRN: <MRN>, seen on"),
        ("Medical record number A-448812 was", "Medical record number <MRN> was"),
        ("NPI: 1234567893.", "NPI: <NPI>."),
        ("DOB 03/14/1962, date of birth: 14 March 1962", "DOB <DOB>, date of birth: <DOB>"),
        ("Date of birth was 1962-03-14; birth date March 4, 1962", "Date of birth was <DOB>; birth date <DOB>"),
        ("paid by 4111 1111 1111 1111 or 378282246310005", "paid by <CARD> or <CARD>"),
        ("to GB82 WEST 1234 5698 7654 32 and DE89370400440532013000", "to <IBAN> and <IBAN>"),
    ],
)
def test_an_identifier_is_replaced_by_its_kind(text: str, redacted: str) -> None:
    assert redact(text, find_pii("d/1", text, KINDS)) == redacted


@pytest.mark.parametrize(
    "text",
    [
        "Trial registration: NCT01234567, ISRCTN12345678, ACTRN12605000123456.",
        "PMID: 17581811; doi:10.1016/0895-4356(88)90110-2; PMC1913939",
        "amoxicillin 500-1000 mg, 2.5-10 mg/kg/day, 100-200-400 mg",
        "95% CI 1.02-1.35, p<0.001, t(123)=4.56, F(2,118)=3.14, n=1,234,567",
        "between 2007-03-12 and 12-05-2008, or 01/02/2003",
        "trypsin (EC 3.4.21.4), see section 2.3.1.1, MedCalc version 11.6.1.0 (12.3.0.0)",
        "CAS 50-78-2; ISBN 978-3-16-148410-0; grant R01-HL-123-45-6789",
        "Ca2+ 100 200 300, +10.5 (2.1), a change of +12 000 steps",
        "NPI: 1234567890 has a wrong check digit, and 1234567893 is no NPI where nobody says so",
        "4111 1111 1111 1112 and GB83 WEST 1234 5698 7654 32 fail their checksums",
        "born on 4 July 1826; enrolled on 03/14/1962",
        "patients @ 5 mg; MRN was not recorded; the phone survey of 1200 adults",
    ],
)
def test_doses_statistics_dates_and_registry_numbers_are_left_alone(text: str) -> None:
    assert redact(text, find_pii("d/1", text, KINDS)) == text


def test_only_the_kinds_that_were_asked_for_are_replaced() -> None:
    text = "jlt@dadlnet.dk from 10.20.30.40"
    assert redact(text, find_pii("d/1", text, ("ip",))) == "jlt@dadlnet.dk from <IP>"


def test_findings_say_where_the_identifier_stood() -> None:
    text = "a 10.20.30.40 b gustav@alumni.chalmers.se"
    found = find_pii("d/1", text, KINDS)
    assert [(f.kind, text[f.start : f.end]) for f in found] == [
        ("ip", "10.20.30.40"),
        ("email", "gustav@alumni.chalmers.se"),
    ]


def planted(rng: random.Random) -> dict[str, list[str]]:
    """Two hundred identifiers of each kind, as they stand in notes, with the checksums that they must have."""

    def digits(count: int) -> str:
        return "".join(rng.choices("0123456789", k=count))

    def checked(prefix: str, count: int, before: str = "") -> str:
        while not luhn(before + (number := prefix + digits(count))):
            pass
        return number

    def iban() -> str:
        account = digits(18)
        return f"DE{98 - int(account + '131400') % 97:02d}{account}"

    def date() -> str:
        day, month, year = rng.randint(1, 28), rng.randint(1, 12), rng.randint(1920, 2010)
        return rng.choice((f"{month:02d}/{day:02d}/{year}", f"{year}-{month:02d}-{day:02d}", f"{day} March {year}"))

    def card() -> str:
        number = checked(rng.choice("456"), 15)
        return rng.choice((number, " ".join(number[at : at + 4] for at in range(0, 16, 4))))

    makers: dict[str, Callable[[], str]] = {
        "email": lambda: f"{rng.choice(('jane.doe', 'j_roe', 'k-l'))}{digits(2)}@clinic-{digits(1)}.example.org",
        "ip": lambda: f"{rng.randint(10, 223)}.{rng.randint(0, 255)}.{rng.randint(0, 255)}.{rng.randint(1, 255)}",
        "phone": lambda: rng.choice((f"({digits(3)}) {digits(3)}-{digits(4)}", f"+49 30 {digits(4)} {digits(4)}")),
        "ssn": lambda: f"{rng.randint(100, 665)}-{rng.randint(10, 99)}-{rng.randint(1000, 9999)}",
        "mrn": lambda: f"MRN: {rng.randint(100000, 99999999)}",
        "npi": lambda: f"NPI {checked(rng.choice('12'), 9, NPI_PREFIX)}",
        "dob": lambda: f"DOB: {date()}",
        "card": card,
        "iban": iban,
    }
    return {kind: [make() for _ in range(200)] for kind, make in makers.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_every_planted_identifier_is_found_as_its_kind(kind: PiiKind) -> None:
    texts = [
        f"Seen on 3 May 2019 for 5 mg of velotrine; {one}, as noted (p < 0.05)."
        for one in planted(random.Random(0))[kind]
    ]
    missed = [text for text in texts if [found.kind for found in find_pii("d", text, KINDS)] != [kind]]
    assert missed == []


@pytest.mark.real
def test_of_real_trials_hardly_a_character_is_taken_for_an_identifier(realdata: Path) -> None:
    """1,357 full texts with thousands of doses, intervals, registry numbers and dates, and 5,487 pages for patients."""
    counts: dict[str, Counter[str]] = {}
    for name in ("pmc_rct", "medquad"):
        counts[name] = Counter()
        for path in sorted((realdata / "biomed").glob(f"{name}*.jsonl.gz")):
            with gzip.open(path, "rt") as lines:
                texts = [json.loads(line)["text"] for line in lines]
            counts[name].update(found.kind for text in texts for found in find_pii("d", text, KINDS))
    assert {kind for kind in counts["pmc_rct"] if kind not in ("email", "phone")} == set(), counts
    assert 1 <= counts["pmc_rct"].total() <= 60, counts
    assert {kind for kind in counts["medquad"] if kind not in ("email", "phone")} == set(), counts
