"""Personal identifiers: what is found, and what in biomedical text only looks like one."""

import gzip
import json
import os
from pathlib import Path

import pytest

from domainlm.tasks.pii import PATTERNS, find_pii, redact

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


@pytest.mark.real
def test_of_real_trials_hardly_a_character_is_taken_for_an_identifier() -> None:
    """452 full texts with thousands of doses, intervals, registry numbers and dates: 4 identifiers, all e-mails."""
    data = os.environ.get("REALDATA")
    assert data, "set REALDATA to the directory with the real text"
    with gzip.open(Path(data) / "biomed" / "pmc_rct-00.jsonl.gz", "rt") as lines:
        texts = [json.loads(line)["text"] for line in lines]
    found = [finding for text in texts for finding in find_pii("d", text, KINDS)]
    assert not [finding for finding in found if finding.kind in ("ip", "ssn", "mrn")]
    assert 1 <= len(found) <= 15
