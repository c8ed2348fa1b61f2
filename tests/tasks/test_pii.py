"""Personal identifiers: what is found, and what in biomedical text only looks like one."""

import gzip
import json
import random
import re
from collections.abc import Callable
from datetime import date, timedelta
from ipaddress import IPv6Address
from pathlib import Path

import pytest

from domainlm.tasks.checksums import iban, luhn, npi
from domainlm.tasks.pii import PATTERNS, PiiKind, find_pii, redact

KINDS = tuple(PATTERNS)


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("Write to jane.o'neil@uni-koeln.example.de.", "Write to <EMAIL>."),
        ("E-mail: mdh@alm.au.dk\nDenmark", "E-mail: <EMAIL>\nDenmark"),
        ("logged in from 192.168.17.4.", "logged in from <IP>."),
        ("Call (301) 496-5248 or 888-346-3656.", "Call <PHONE> or <PHONE>."),
        ("Tel: +44 20 7946 0958, Fax: 7315545283", "Tel: <PHONE>, Fax: <PHONE>"),
        ("Phone: 55 12 3922-4069.", "Phone: <PHONE>."),
        ("SSN 219-09-9999 on file", "SSN <SSN> on file"),
        ("MRN: 12345678, seen on", "MRN: <MRN>, seen on"),
        ("Medical record number A-448812 was", "Medical record number <MRN> was"),
        ("hospital no. 0045127, ward 3", "hospital no. <MRN>, ward 3"),
        ("from 2001:db8:85a3::8a2e:370:7334, then", "from <IP>, then"),
        ("host fe80::1ff:fe23:4567:890a.", "host <IP>."),
        ("NPI 1234567893 signed", "NPI <NPI> signed"),
        ("DOB: 03/12/1956, female", "DOB: <BIRTH_DATE>, female"),
        ("Date of birth 1956-03-12.", "Date of birth <BIRTH_DATE>."),
        ("was born on 12 March 1956 in Cork", "was born on <BIRTH_DATE> in Cork"),
        ("born March 12, 1956", "born <BIRTH_DATE>"),
        ("paid with 4111 1111 1111 1111.", "paid with <CREDIT_CARD>."),
        ("card 378282246310005 on file", "card <CREDIT_CARD> on file"),
        ("to IBAN DE89 3704 0044 0532 0130 00 BIC COBADEFF", "to IBAN <IBAN> BIC COBADEFF"),
        ("NO9386011117947", "<IBAN>"),
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
        "patients @ 5 mg; MRN was not recorded; the phone survey of 1200 adults",
        "clause 10.2.2.1; at 10:30:45; a ratio of 1:2:3; MAC 00:1b:44:11:3a:b7; std::vector, 2001::x",
        "born in 1956; infants born between 1 January 2005 and 31 December 2006; visited on 12 March 1956",
        "J Clin Oncol 2006;24(18):2903-2909; accession 4012001037141113; lot 4532 9921 0043 1187",
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


@pytest.mark.parametrize(
    ("kind", "written"),
    [
        ("npi", "NPI 1234567893"),
        ("credit_card", "4111 1111 1111 1111"),
        ("credit_card", "3782 822463 10005"),
        ("iban", "GB82 WEST 1234 5698 7654 32"),
        ("iban", "MT84MALT011000012345MTLCAST001S"),
    ],
)
def test_one_wrong_digit_and_it_is_no_identifier(kind: PiiKind, written: str) -> None:
    """Each of these checksums sees every single wrong digit."""
    assert [finding.kind for finding in find_pii("d/1", written, KINDS)] == [kind]
    for place in [place for place, character in enumerate(written) if character.isdigit()]:
        other = str((int(written[place]) + 1) % 10)
        assert find_pii("d/1", written[:place] + other + written[place + 1 :], (kind,)) == []


PLANTED: dict[PiiKind, Callable[[random.Random], str]] = {
    "email": lambda r: (
        f"{r.choice(('jane', 'k_o'))}.{r.randrange(99)}@{r.choice(('uni-koeln', 'mail.nhs'))}.example.org"
    ),
    "ip": lambda r: (
        f"{r.randrange(10, 223)}.{r.randrange(10, 255)}.{r.randrange(255)}.{r.randrange(1, 255)}"
        if r.random() < 0.5
        else str(IPv6Address((0x20010DB8 << 96) + r.getrandbits(64)))
    ),
    "phone": lambda r: r.choice(
        (
            f"+44 20 {r.randrange(1000, 9999)} {r.randrange(1000, 9999)}",
            f"({r.randrange(201, 989)}) 555-{r.randrange(1000, 9999)}",
        )
    ),
    "ssn": lambda r: f"{r.randrange(1, 665):03d}-{r.randrange(1, 99):02d}-{r.randrange(1, 9999):04d}",
    "mrn": lambda r: f"{r.choice(('MRN', 'Medical record number', 'Hospital no.'))} {r.randrange(10**6, 10**8)}",
    "npi": lambda r: f"NPI {_with_check_digit(f'1{r.randrange(10**8):08d}', npi)}",
    "birth_date": lambda r: (date(1920, 1, 1) + timedelta(days=r.randrange(36_000))).strftime(
        r.choice(("DOB %d/%m/%Y", "born on %d %B %Y", "Date of birth: %Y-%m-%d", "born %B %d, %Y", "DOB %m-%d-%y"))
    ),
    "credit_card": lambda r: _with_check_digit(f"4{r.randrange(10**14):014d}", luhn),
    "iban": lambda r: _iban(f"{r.randrange(10**18):018d}"),
}


def _iban(account: str) -> str:
    return next(one for digits in range(2, 99) if iban(one := f"DE{digits:02d}{account}"))


def _with_check_digit(written: str, check: Callable[[str], bool]) -> str:
    return next(one for digit in range(10) if check(one := f"{written}{digit}"))


@pytest.mark.parametrize("kind", KINDS)
def test_planted_identifiers_of_every_kind_are_found_and_called_so(kind: PiiKind) -> None:
    """200 of each between words and numbers of a report: the recall in docs/pii.md."""
    rng = random.Random(0)
    for _ in range(200):
        planted = PLANTED[kind](rng)
        text = f"On day {rng.randrange(90)} of 2.5 mg/kg the patient, {planted}, was seen (n={rng.randrange(999)})."
        found = find_pii("d/1", text, KINDS)
        assert [finding.kind for finding in found] == [kind], text
        assert planted.endswith(text[found[0].start : found[0].end])


@pytest.mark.real
def test_of_real_trials_hardly_a_character_is_taken_for_an_identifier(realdata: Path) -> None:
    """452 texts full of doses, intervals, registry numbers, DOIs and dates: only e-mails and phone numbers."""
    with gzip.open(realdata / "biomed" / "pmc_rct-00.jsonl.gz", "rt") as lines:
        texts = [json.loads(line)["text"] for line in lines]
    found = [finding for text in texts for finding in find_pii("d", text, KINDS)]
    assert {finding.kind for finding in found} == {"email", "phone"}
    assert 1 <= len(found) <= 15
    assert sum(len(re.findall(r"\b(?:NCT|ISRCTN)\d{8}\b", text)) for text in texts) > 100
