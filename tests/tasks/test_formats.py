"""HTML, WARC, FASTA and EDGAR: what is text comes out with what its origin says of it, the rest is accounted for."""

import gzip
import sys
from pathlib import Path

import pytest

from domainlm.tasks.documents import DeadLetter
from domainlm.tasks.readers import FORMATS, PassedOver, Piece, Record, Settings
from domainlm.tasks.readers.record import Item, MissingExtra

PROSE = "Sodium was low in most of the patients who took the drug for a year, and rose again when they stopped. " * 4


def items_of(kind: str, path: Path, settings: Settings = Settings(), name: str = "") -> list[Item]:  # noqa: B008
    return list(FORMATS[kind].read(Piece(path, name or path.name), settings))


def html(body: str = PROSE, head: str = "") -> str:
    return (
        f'<!DOCTYPE html><html lang="en"><head><title>A  page</title>{head}</head><body><nav><a href="/">Home</a> '
        f"<a>Contact us</a></nav><article><h1>Low sodium</h1><p>{body}</p></article>"
        "<footer>All rights</footer></body></html>"
    )


def test_a_page_gives_its_main_text_and_no_navigation(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(html())
    [record] = items_of("html", tmp_path / "a.html", name="sub/a.html")
    assert isinstance(record, Record)
    assert PROSE.strip() in record.text
    assert "Contact us" not in record.text
    assert (record.native_id, record.license) == ("sub/a", None)
    assert record.metadata == {"title": "A page", "language": "en"}


@pytest.mark.parametrize(
    ("href", "expected"),
    [("https://creativecommons.org/licenses/by-nc/4.0/", "CC-BY-NC-4.0"), ("/our-terms", "unknown")],
)
def test_the_licence_that_a_page_links_goes_before_the_sources(tmp_path: Path, href: str, expected: str) -> None:
    (tmp_path / "a.html").write_text(html(head=f'<link rel="license" href="{href}">'))
    [record] = items_of("html", tmp_path / "a.html")
    assert isinstance(record, Record)
    assert record.license is not None
    assert (record.license.expression, record.license.evidence) == (expected, f"rel=license: {href}")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "no text"),
        (html().encode().replace(b"Sodium", b"S\xffdium"), "invalid UTF-8 at byte"),
        (html(head='<meta charset="no-such">').encode(), "an encoding 'no-such' that does not exist"),
        (html().encode().replace(b"Sodium", b"S\0dium"), "null character"),
        (b"x" * (9 << 20), "a page of more than 8,388,608 bytes"),
    ],
)
def test_a_page_that_cannot_be_read_is_a_dead_letter(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "a.html").write_bytes(content)
    [letter] = items_of("html", tmp_path / "a.html")
    assert isinstance(letter, DeadLetter)
    assert reason in letter.reason


def test_a_page_is_read_in_the_encoding_that_it_states(tmp_path: Path) -> None:
    page = html(f"Ärzte sagen: {PROSE}", '<meta http-equiv="Content-Type" content="text/html; charset=ISO-8859-1">')
    (tmp_path / "a.html").write_bytes(page.encode("cp1252"))
    [record] = items_of("html", tmp_path / "a.html")
    assert isinstance(record, Record)
    assert "Ärzte sagen" in record.text


def test_a_page_without_prose_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text("<html><body><img src='x.png'></body></html>")
    assert items_of("html", tmp_path / "a.html") == [PassedOver("a", "no main text in the page")]


def test_a_format_without_its_extra_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.html").write_text(html())
    monkeypatch.setitem(sys.modules, "trafilatura", None)
    with pytest.raises(MissingExtra, match=r"pip install 'domainlm\[html\]'"):
        items_of("html", tmp_path / "a.html")


def warc(
    number: int, body: bytes, kind: str = "response", http: str = "200 OK", headers: str = "Content-Type: text/html"
) -> bytes:
    if kind == "response":
        body = f"HTTP/1.1 {http}\r\n{headers}\r\n\r\n".encode() + body
        headers = "Content-Type: application/http; msgtype=response"
    return (
        f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Record-ID: <urn:uuid:{number:08d}>\r\n"
        f"WARC-Date: 2026-01-0{number}T00:00:00Z\r\n"
        f"WARC-Target-URI: https://x.test/{number}\r\n{headers}\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body + b"\r\n\r\n"  # fmt: skip


def chunked(body: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:50], body[50:])) + b"0\r\n\r\n"


RECORDS = [
    warc(1, b"software: test\r\n", "warcinfo", headers="Content-Type: application/warc-fields"),
    warc(2, html().encode()),
    warc(3, b"GIF89a", headers="Content-Type: image/gif"),
    warc(4, chunked(html().encode()), headers="Content-Type: text/html\r\nTransfer-Encoding: chunked"),
    warc(5, b"gone", http="404 Not Found"),
    warc(6, gzip.compress(html().encode()), headers="Content-Type: text/html\r\nContent-Encoding: gzip"),
    warc(7, b"Words alone.", "conversion", headers="Content-Type: text/plain"),
    warc(8, html().encode()[:-20], headers="Content-Type: text/html\r\nContent-Length: 99999"),
    warc(9, html().encode(), headers="Content-Type: text/html\r\nContent-Encoding: br"),
]


@pytest.mark.parametrize("packed", [False, True])
def test_a_crawl_gives_its_pages_and_accounts_for_what_is_none(tmp_path: Path, packed: bool) -> None:
    path = tmp_path / ("a.warc.gz" if packed else "a.warc")
    path.write_bytes(b"".join(gzip.compress(record) if packed else record for record in RECORDS))
    items = items_of("warc", path)
    records = [item for item in items if isinstance(item, Record)]
    assert [record.native_id for record in records] == [f"{n:08d}" for n in (2, 4, 6, 7, 8)]
    assert all(record.text == records[0].text for record in records if record.native_id != "00000007")
    assert (records[0].url, records[0].retrieved_at) == ("https://x.test/2", "2026-01-02T00:00:00Z")
    assert records[3].text == "Words alone."
    assert [(item.native_id, item.what) for item in items if isinstance(item, PassedOver)] == [
        ("00000003", "image/gif"),
        ("00000005", "status 404"),
    ]
    [letter] = [item for item in items if isinstance(item, DeadLetter)]
    assert letter.reason == "the page is packed as 'br', which is not read"
    start = letter.offset
    content = path.read_bytes()
    assert (gzip.decompress(content[start:]) if packed else content[start:]) == RECORDS[-1]


def test_a_damaged_member_loses_itself_and_not_the_crawl(tmp_path: Path) -> None:
    members = [gzip.compress(record) for record in RECORDS]
    damaged = bytearray(members[3])
    damaged[40:60] = b"\xff" * 20
    (tmp_path / "a.warc.gz").write_bytes(b"".join([*members[:3], damaged, *members[4:7], members[7][:-30]]))
    items = items_of("warc", tmp_path / "a.warc.gz")
    assert [item.native_id for item in items if isinstance(item, Record)] == ["00000002", "00000006", "00000007"]
    letters = [item for item in items if isinstance(item, DeadLetter)]
    assert [letter.reason.partition(":")[0] for letter in letters] == ["broken gzip member"] * 2
    assert letters[0].raw == bytes(damaged)
    assert letters[1].offset == len(b"".join(members[:7]))


def test_a_record_with_a_wrong_length_loses_itself_and_the_next_is_found(tmp_path: Path) -> None:
    wrong = RECORDS[1].replace(b"\r\n\r\nHTTP", b"0\r\n\r\nHTTP", 1)  # ten times its length
    bare = RECORDS[1].replace(b"Content-Length: ", b"Content-Width: ", 1)
    (tmp_path / "a.warc").write_bytes(b"".join([bare, RECORDS[3], b"garbage\r\n", RECORDS[6], wrong]))
    items = items_of("warc", tmp_path / "a.warc")
    assert [item.native_id for item in items if isinstance(item, Record)] == ["00000004", "00000007"]
    assert [item.reason for item in items if isinstance(item, DeadLetter)] == [
        "a record without a Content-Length",
        "no WARC record begins here",
        "no WARC record begins here",
        "the file ends inside a record",
    ]


def test_a_sequence_is_a_document_and_a_long_one_a_document_a_window(tmp_path: Path) -> None:
    (tmp_path / "a.fa").write_text(
        ">s1 short one\nACGTacgtNN\n\n>s2\n" + "ACGT" * 5 + "\r\n" + "TT\n*\n>s3 exact\nAAAAAAAAAA\n"
    )
    records = items_of("fasta", tmp_path / "a.fa", Settings(window_letters=10))
    assert [(r.native_id, r.text, r.parent, r.metadata) for r in records if isinstance(r, Record)] == [
        ("s1", "ACGTacgtNN", "", {"description": "short one"}),
        ("s2:1-10", "ACGTACGTAC", "s2", {"first": 1, "last": 10}),
        ("s2:11-20", "GTACGTACGT", "s2", {"first": 11, "last": 20}),
        ("s2:21-23", "TT*", "s2", {"first": 21, "last": 23}),
        ("s3", "AAAAAAAAAA", "", {"description": "exact"}),
    ]
    assert len(records) == 5


def test_a_bad_sequence_is_lost_alone(tmp_path: Path) -> None:
    (tmp_path / "a.fa").write_bytes(
        b"lost\n;comment\n>ok\nACGT\n>digits\nAC1GT\n>\nACGT\n>empty\n>b\xff\nACGT\n>last\nMK*\n"
    )
    items = items_of("fasta", tmp_path / "a.fa")
    assert [item.native_id for item in items if isinstance(item, Record)] == ["ok", "last"]
    assert [(item.offset, item.reason) for item in items if isinstance(item, DeadLetter)] == [
        (0, "letters before the first header (`>`)"),
        (23, "b'1' is no letter of a sequence, in letters 1-5"),
        (37, "a header without a printable id, in letters 1-4"),
        (44, "a header without a sequence"),
        (51, "invalid UTF-8 in the header at byte 2, in letters 1-4"),
    ]


@pytest.mark.real
def test_a_real_genome_is_cut_into_windows_that_join_to_it(realdata: Path) -> None:
    path = realdata / "other/genomics/akkermansia_500kb.fa"
    windows = [item for item in items_of("fasta", path) if isinstance(item, Record)]
    header, _, letters = path.read_text().partition("\n")
    assert "".join(window.text for window in windows) == letters.replace("\n", "")
    assert {window.parent for window in windows} == {header[1:].split()[0]}
    assert len(windows) == 50
    proteins = items_of("fasta", realdata / "other/genomics/NC_000932_chloroplast.faa")
    assert all(isinstance(item, Record) and not item.parent for item in proteins)
    assert len(proteins) == (realdata / "other/genomics/NC_000932_chloroplast.faa").read_text().count(">")


SUBMISSION = """<SEC-DOCUMENT>0000012345-25-000011.txt : 20250220
<SEC-HEADER>0000012345-25-000011.hdr.sgml : 20250220
<ACCEPTANCE-DATETIME>20250220161512
ACCESSION NUMBER:		0000012345-25-000011
CONFORMED SUBMISSION TYPE:	10-K
PUBLIC DOCUMENT COUNT:		4
CONFORMED PERIOD OF REPORT:	20241231
FILED AS OF DATE:		20250220

FILER:

	COMPANY DATA:
		COMPANY CONFORMED NAME:			AN INVENTED COMPANY, INC.
		CENTRAL INDEX KEY:			0000012345
		STANDARD INDUSTRIAL CLASSIFICATION:	BEVERAGES [2080]
		FISCAL YEAR END:			1231
</SEC-HEADER>
<DOCUMENT>
<TYPE>10-K
<SEQUENCE>1
<FILENAME>inv-20241231.htm
<DESCRIPTION>ANNUAL REPORT
<TEXT>
<XBRL>
<?xml version='1.0' encoding='ASCII'?>
<html xmlns="http://www.w3.org/1999/xhtml"><head><title>inv-20241231</title></head><body>
<div style="display:none"><ix:header><ix:hidden>0000012345 FY false</ix:hidden></ix:header></div>
<p>Item 1.&#160;Business</p><div>We sell   drinks
that nobody &amp; no one likes.</div>
<table><tr><td><p>Net</p><p>sales</p></td><td>$</td><td>1,234</td></tr><tr><td>Loss</td><td></td><td>(9)</td></tr></table>
<p>After<br/>a break.</p></body></html>
</XBRL>
</TEXT>
</DOCUMENT>
<DOCUMENT>
<TYPE>EX-10.1
<SEQUENCE>2
<FILENAME>ex101.txt
<TEXT>
AGREEMENT
  between A < B and C
</TEXT>
</DOCUMENT>
<DOCUMENT>
<TYPE>GRAPHIC
<SEQUENCE>3
<FILENAME>logo.jpg
<TEXT>
begin 644 logo.jpg
M_]C_X``02D9)1@`!
end
</TEXT>
</DOCUMENT>
<DOCUMENT>
<TYPE>XML
<SEQUENCE>4
<FILENAME>R1.xml
<TEXT>
<XML>
<?xml version="1.0"?><report/>
</XML>
</TEXT>
</DOCUMENT>
</SEC-DOCUMENT>
"""


def test_a_filing_gives_its_documents_with_what_its_header_says(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(SUBMISSION)
    report, exhibit, graphic, xml = items_of("edgar", tmp_path / "a.txt")
    assert isinstance(report, Record)
    assert report.text.split("\n") == [
        *("Item 1. Business", "", "We sell drinks that nobody & no one likes.", ""),
        *("Net sales $ 1,234", "", "Loss (9)", "", "After", "a break."),
    ]
    assert report.native_id == "0000012345-25-000011/1"
    assert report.url == "https://www.sec.gov/Archives/edgar/data/12345/000001234525000011/inv-20241231.htm"
    assert report.metadata == {
        "accession": "0000012345-25-000011",
        "form": "10-K",
        "period": "20241231",
        "filed": "20250220",
        "company": "AN INVENTED COMPANY, INC.",
        "cik": "0000012345",
        "industry": "BEVERAGES [2080]",
        "fiscal_year_end": "1231",
        "document_type": "10-K",
        "document_description": "ANNUAL REPORT",
    }
    assert SUBMISSION.encode()[report.offset :].startswith(b"<DOCUMENT>\n<TYPE>10-K")
    assert isinstance(exhibit, Record)
    assert exhibit.text == "AGREEMENT\n  between A < B and C"
    assert [graphic, xml] == [
        PassedOver("0000012345-25-000011/3", "binary file (GRAPHIC)"),
        PassedOver("0000012345-25-000011/4", "xml (XML)"),
    ]


def test_a_broken_document_of_a_filing_is_lost_alone(tmp_path: Path) -> None:
    bad = SUBMISSION.encode().replace(b"drinks\n", b"drinks \xff\n").replace(b"<SEQUENCE>2\n", b"")
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(bad[: bad.index(b"</DOCUMENT>\n<DOCUMENT>\n<TYPE>XML") + 40]))
    items = items_of("edgar", tmp_path / "a.txt.gz")
    assert [type(item).__name__ for item in items] == ["DeadLetter", "DeadLetter", "PassedOver", "DeadLetter"]
    reasons = [item.reason for item in items if isinstance(item, DeadLetter)]
    assert reasons[0].startswith("invalid UTF-8 at byte")
    assert reasons[1:] == ["a document without a <SEQUENCE>", "the file ends inside <DOCUMENT>"]


def test_a_document_whose_header_cannot_be_read_is_a_dead_letter(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(SUBMISSION.replace("ACCESSION NUMBER", "ACCESSION"))
    items = items_of("edgar", tmp_path / "a.txt")
    assert [item.reason for item in items if isinstance(item, DeadLetter)] == [
        "a header without an ACCESSION NUMBER",
        *["a document without a readable header before it"] * 4,
    ]
    (tmp_path / "a.txt").write_text("Dear shareholders")
    [letter] = items_of("edgar", tmp_path / "a.txt")
    assert isinstance(letter, DeadLetter)
    assert letter.reason.startswith("no EDGAR submission")
