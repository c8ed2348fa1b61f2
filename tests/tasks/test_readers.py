"""Readers: every record comes out, and what is broken comes out as a dead letter that takes nothing else with it."""

import gzip
import json
import os
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from domainlm.tasks.documents import DeadLetter
from domainlm.tasks.licenses import License
from domainlm.tasks.readers import FORMATS, Deletion, Piece, Record, Settings
from domainlm.tasks.readers.record import Item
from domainlm.tasks.readers.streams import CHUNK_BYTES

NAME = "in/file"


def items_of(kind: str, path: Path, settings: Settings = Settings(), name: str = NAME) -> list[Item]:  # noqa: B008
    return list(FORMATS[kind].read(Piece(path, name), settings))


def read(kind: str, path: Path, settings: Settings = Settings()) -> tuple[list[Record], list[DeadLetter]]:  # noqa: B008
    items = items_of(kind, path, settings)
    return [i for i in items if isinstance(i, Record)], [i for i in items if isinstance(i, DeadLetter)]


def lines(count: int) -> list[bytes]:
    return [json.dumps({"id": f"d{n}", "text": f"text {n} " + "é" * (n % 50)}).encode() for n in range(count)]


def test_one_invalid_byte_loses_one_line_and_no_other(tmp_path: Path) -> None:
    rows = lines(20)
    rows[7] = rows[7].replace(b"text 7", b"text \xff")
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(rows))
    records, dead = read("jsonl", tmp_path / "a.jsonl")
    assert [record.native_id for record in records] == [f"d{n}" for n in range(20) if n != 7]
    place = sum(len(row) + 1 for row in rows[:7])
    assert [(letter.file, letter.offset, letter.raw) for letter in dead] == [(NAME, place, rows[7])]
    assert dead[0].reason.startswith("invalid UTF-8 at byte")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"id": "x", "text": "cut', "broken JSON"),
        (b'{"id": "x"}', "no field 'text'; it has id"),
        (b'{"id": "x", "text": null}', "no field 'text'"),
        (b'{"id": "x", "text": " \\n "}', "no text"),
        (b'{"id": "x", "text": 3}', "field 'text' is int, not text"),
        (b'{"id": "x", "text": ["a"]}', "field 'text' is list, not text"),
        (b'{"text": "a"}', "field 'id' is NoneType"),
        (b'{"id": true, "text": "a"}', "field 'id' is bool"),
        (b'{"id": "", "text": "a"}', "field 'id' is empty"),
        (b'{"id": "a\\nb", "text": "a"}', "field 'id' is empty or not printable"),
        (b'{"id": "x", "text": "a\\u0000b"}', "null character"),
        (b'{"id": "x", "text": "a\\ud800b"}', "broken JSON"),
        (b'["text"]', "a JSON list, not an object"),
        (b"NaN", "broken JSON"),
        (b"[" * 100_000, "broken JSON"),
    ],
)
def test_a_bad_line_is_a_dead_letter_with_its_reason_and_bytes(tmp_path: Path, line: bytes, reason: str) -> None:
    good = lines(2)
    (tmp_path / "a.jsonl").write_bytes(b"\n".join([good[0], line, good[1], b""]))
    records, dead = read("jsonl", tmp_path / "a.jsonl")
    assert [record.native_id for record in records] == ["d0", "d1"]
    assert [(letter.offset, letter.raw) for letter in dead] == [(len(good[0]) + 1, line)]
    assert reason in dead[0].reason


def test_a_truncated_gzip_keeps_every_good_line_before_the_break_and_says_where_it_broke(tmp_path: Path) -> None:
    rows = [json.dumps({"id": n, "text": random.Random(n).randbytes(64).hex()}).encode() for n in range(4_000)]
    whole = gzip.compress(b"\n".join(rows) + b"\n")
    (tmp_path / "a.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    records, dead = read("jsonl", tmp_path / "a.jsonl.gz")
    assert 1_900 < len(records) < 2_100
    assert [record.native_id for record in records] == [str(n) for n in range(len(records))]
    assert len(dead) == 1
    assert dead[0].reason.startswith("broken stream (gzip)")
    assert dead[0].offset == sum(len(row) + 1 for row in rows[: len(records)])
    assert rows[len(records)].startswith(dead[0].raw)


def test_a_damaged_gzip_is_a_dead_letter_and_not_a_crash(tmp_path: Path) -> None:
    whole = bytearray(gzip.compress(b"\n".join(lines(5_000)), compresslevel=0))
    whole[-8:-4] = b"\0\0\0\0"  # the checksum
    (tmp_path / "a.jsonl.gz").write_bytes(whole)
    records, dead = read("jsonl", tmp_path / "a.jsonl.gz")
    assert len(records) == 4_999
    assert dead[0].reason.startswith("broken stream (gzip): CRC")


def test_plain_gzip_members_and_zstd_read_the_same(tmp_path: Path) -> None:
    rows = lines(3_000)
    content = b"\xef\xbb\xbf" + b"\r\n".join(rows) + b"\n\n"
    (tmp_path / "a.jsonl").write_bytes(content)
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(content[:5_000]) + gzip.compress(content[5_000:]))
    with pa.output_stream(str(tmp_path / "a.jsonl.zst"), compression="zstd") as stream:
        stream.write(content)
    plain, dead = read("jsonl", tmp_path / "a.jsonl")
    assert (len(plain), dead) == (3_000, [])
    assert read("jsonl", tmp_path / "a.jsonl.gz") == (plain, [])
    assert read("jsonl", tmp_path / "a.jsonl.zst") == (plain, [])


def test_a_truncated_zstd_keeps_what_came_before_and_is_a_dead_letter(tmp_path: Path) -> None:
    rows = [json.dumps({"id": n, "text": random.Random(n).randbytes(64).hex()}).encode() for n in range(8_000)]
    with pa.output_stream(str(tmp_path / "whole"), compression="zstd") as stream:
        stream.write(b"\n".join(rows))
    (tmp_path / "a.jsonl.zst").write_bytes((tmp_path / "whole").read_bytes()[:400_000])
    records, dead = read("jsonl", tmp_path / "a.jsonl.zst")
    assert len(records) > 2_000
    assert [letter.reason.split(":")[0] for letter in dead] == ["broken stream (zstd)"]


def test_a_line_that_is_too_long_is_lost_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("jsonl", "streams"):
        monkeypatch.setattr(f"domainlm.tasks.readers.{module}.MAX_RECORD_BYTES", CHUNK_BYTES)
    good = lines(2)
    long = b'{"id": "x", "text": "' + b"a" * (5 * CHUNK_BYTES) + b'"}'
    (tmp_path / "a.jsonl").write_bytes(b"\n".join([good[0], long, good[1]]))
    records, dead = read("jsonl", tmp_path / "a.jsonl")
    assert [record.native_id for record in records] == ["d0", "d1"]
    assert [(letter.offset, letter.reason.split(" of")[0]) for letter in dead] == [(len(good[0]) + 1, "a line")]


def test_fields_have_the_names_that_the_source_gives_them(tmp_path: Path) -> None:
    row = {"body": "a text", "key": 7, "lic": "CC0", "href": "https://x.org/7", "meta": {"pmid": "1"}, "year": 2020}
    (tmp_path / "a.jsonl").write_text(json.dumps(row))
    settings = Settings(text="body", id="key", license="lic", license_url="", url="href", metadata="meta")
    [record], _ = read("jsonl", tmp_path / "a.jsonl", settings)
    assert record == Record(
        "7", "a text", 0, License("CC0-1.0", "CC0"), "https://x.org/7", metadata={"pmid": "1", "year": 2020}
    )


def test_parquet_rows_are_records_and_a_bad_one_is_lost_alone(tmp_path: Path) -> None:
    texts = pa.array([b"first", b"bad \xff", b"third", None, b"fifth"], pa.binary())
    table = pa.table({"id": [1, 2, 3, 4, 5], "text": texts.cast(pa.string(), safe=False), "n": [0.5] * 5})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=2)
    records, dead = read("parquet", tmp_path / "a.parquet")
    assert [(record.native_id, record.text, record.offset) for record in records] == [
        ("1", "first", 0),
        ("3", "third", 2),
        ("5", "fifth", 4),
    ]
    assert [(letter.offset, letter.reason) for letter in dead] == [
        (1, "invalid UTF-8 in 'text' at byte 4"),
        (3, "no field 'text'; it has id, n, text"),
    ]
    assert records[0].metadata == {"n": 0.5}


def test_a_damaged_row_group_loses_its_own_rows_and_counts_each(tmp_path: Path) -> None:
    table = pa.table({"id": [str(n) for n in range(30)], "text": [f"text {n}" for n in range(30)]})
    path = tmp_path / "a.parquet"
    pq.write_table(table, path, row_group_size=10, compression="none", use_dictionary=False)
    column = pq.read_metadata(path).row_group(1).column(1)
    content = bytearray(path.read_bytes())
    content[column.data_page_offset : column.data_page_offset + 12] = b"\xff" * 12
    path.write_bytes(content)
    records, dead = read("parquet", path)
    assert [record.offset for record in records] == [*range(10), *range(20, 30)]
    assert [letter.offset for letter in dead] == list(range(10, 20))


def test_a_parquet_file_without_its_footer_is_one_dead_letter(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": ["a"], "text": ["b"]}), tmp_path / "a.parquet")
    (tmp_path / "a.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:-10])
    records, dead = read("parquet", tmp_path / "a.parquet")
    assert records == []
    assert dead[0].reason.startswith("not a readable Parquet file")


def test_a_parquet_file_with_another_schema_loses_its_own_rows_and_says_which_fields_it_has(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": ["a", "b"], "body": ["c", "d"]}), tmp_path / "a.parquet")
    records, dead = read("parquet", tmp_path / "a.parquet")
    assert records == []
    assert [(letter.offset, letter.reason) for letter in dead] == [
        (0, "no field 'text'; it has body, id"),
        (1, "no field 'text'; it has body, id"),
    ]


def test_a_row_group_whose_pages_hold_another_type_loses_its_own_rows(tmp_path: Path) -> None:
    """Text of four bytes takes as many bytes in a page as a whole number does: the pages can change places."""

    def write(name: str, texts: pa.Array) -> Path:
        table = pa.table({"id": [str(n) for n in range(20)], "text": texts})
        plain = {"compression": "none", "use_dictionary": False, "write_statistics": False, "row_group_size": 10}
        pq.write_table(table, tmp_path / name, **plain)
        return tmp_path / name

    path = write("a.parquet", pa.array([f"t{n:03d}" for n in range(20)]))
    numbers = write("b.parquet", pa.array(range(2**40, 2**40 + 20)))
    content = bytearray(path.read_bytes())
    ours, theirs = (pq.read_metadata(one).row_group(1).column(1) for one in (path, numbers))
    assert ours.total_compressed_size == theirs.total_compressed_size
    page = slice(ours.data_page_offset, ours.data_page_offset + ours.total_compressed_size)
    other = theirs.data_page_offset
    content[page] = numbers.read_bytes()[other : other + theirs.total_compressed_size]
    path.write_bytes(content)
    records, dead = read("parquet", path)
    assert [record.text for record in records] == [f"t{n:03d}" for n in range(10)]
    assert [letter.offset for letter in dead] == list(range(10, 20))
    assert {letter.reason.partition(":")[0] for letter in dead} == {"row group 1 is damaged"}


def test_a_text_file_is_one_document_named_after_it(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfe\xcc\x81 stays decomposed\n")
    [record] = items_of("text", tmp_path / "a.txt", name="letters/2020.a.txt")
    assert record == Record("letters/2020.a", "e\u0301 stays decomposed\n", 0)
    for content, reason in ((b"\xff", "invalid UTF-8 at byte 0"), (b"", "no text"), (b"a\0b", "null character")):
        (tmp_path / "a.txt").write_bytes(content)
        [letter] = items_of("text", tmp_path / "a.txt")
        assert isinstance(letter, DeadLetter)
        assert letter.reason.startswith(reason)
        assert letter.raw == content


def article(pmid: int, body: str = "", version: int = 1) -> str:
    return (
        f'<PubmedArticle><MedlineCitation><PMID Version="{version}">{pmid}</PMID><Article><Journal><JournalIssue>'
        f"<PubDate><Year>2020</Year></PubDate></JournalIssue><Title>J</Title></Journal><ArticleTitle>Title {pmid} of "
        f"<i>x</i></ArticleTitle>{body}<PublicationTypeList><PublicationType>Journal Article</PublicationType>"
        f"</PublicationTypeList></Article><MeshHeadingList><MeshHeading><DescriptorName>Humans</DescriptorName>"
        f"</MeshHeading></MeshHeadingList></MedlineCitation></PubmedArticle>"
    )


def pubmed(tmp_path: Path, *parts: str) -> Path:
    path = tmp_path / "pubmed.xml.gz"
    xml = '<?xml version="1.0" encoding="utf-8"?>\n<PubmedArticleSet>\n' + "\n".join(parts) + "\n</PubmedArticleSet>"
    path.write_bytes(gzip.compress(xml.encode()))
    return path


def test_pubmed_keeps_labels_subjects_and_the_licence_that_a_copyright_names(tmp_path: Path) -> None:
    abstract = (
        '<Abstract><AbstractText Label="BACKGROUND">Old &amp; new.</AbstractText>'
        '<AbstractText Label="RESULTS">p&lt;0.05</AbstractText>'
        "<CopyrightInformation>This work is licensed under a Creative Commons Attribution 4.0 "
        "License.</CopyrightInformation></Abstract>"
    )
    [record, bare], dead = read("pubmed_xml", pubmed(tmp_path, article(11, abstract, 2), article(12)))
    assert dead == []
    assert record.text == "Title 11 of x\n\nBACKGROUND: Old & new.\nRESULTS: p<0.05"
    assert (record.native_id, record.version, record.url) == ("11", 2, "https://pubmed.ncbi.nlm.nih.gov/11/")
    assert record.license is not None
    assert record.license.expression == "CC-BY-4.0"
    assert record.metadata["mesh"] == ["Humans"]
    assert (record.metadata["year"], record.metadata["journal"], record.metadata["pmid"]) == (2020, "J", "11")
    assert (bare.text, bare.license) == ("Title 12 of x", None)


def test_pubmed_deletions_come_with_their_versions(tmp_path: Path) -> None:
    path = pubmed(tmp_path, article(1), '<DeleteCitation><PMID Version="2">1</PMID><PMID>9</PMID></DeleteCitation>')
    items = items_of("pubmed_xml", path)
    assert items[1:] == [Deletion("1", 2), Deletion("9", 1)]


def test_a_malformed_article_or_an_undefined_entity_loses_that_article_only(tmp_path: Path) -> None:
    broken = article(2).replace("</ArticleTitle>", "")
    path = pubmed(tmp_path, article(1), broken, article(3).replace("Title 3", "Title&nbsp;3"), article(4))
    records, dead = read("pubmed_xml", path)
    assert [record.native_id for record in records] == ["1", "4"]
    assert ["nbsp" in letter.reason for letter in dead] == [False, True]
    xml = gzip.decompress(path.read_bytes())
    assert all(xml[letter.offset :].startswith(letter.raw) for letter in dead)


def test_a_truncated_pubmed_file_keeps_the_articles_before_the_break(tmp_path: Path) -> None:
    noise = random.Random(0)
    path = pubmed(tmp_path, *(article(n, f"<Abstract>{noise.randbytes(40).hex()}</Abstract>") for n in range(2_000)))
    xml = gzip.decompress(path.read_bytes())
    path.write_bytes(path.read_bytes()[:-2_000])
    records, dead = read("pubmed_xml", path)
    assert [record.native_id for record in records] == [str(n) for n in range(len(records))]
    assert 1_800 < len(records) < 2_000
    assert [letter.reason.split(":")[0] for letter in dead] == ["broken stream (gzip)"]
    assert xml[dead[0].offset :].startswith(dead[0].raw)
    assert xml[: dead[0].offset].count(b"</PubmedArticle>") == len(records)


def test_a_file_without_an_article_is_a_dead_letter(tmp_path: Path) -> None:
    assert [letter.reason for letter in read("pubmed_xml", pubmed(tmp_path))[1]] == ["no PubMed article in the file"]


JATS = """<!DOCTYPE article PUBLIC "-//NLM//DTD JATS" "JATS-archivearticle1.dtd">
<article xmlns:xlink="http://www.w3.org/1999/xlink" article-type="{kind}"><front><journal-meta><journal-title-group>
<journal-title>J</journal-title></journal-title-group></journal-meta><article-meta>
<article-id pub-id-type="pmc">77</article-id><article-id pub-id-type="doi">10.1/x</article-id>
<title-group><article-title>A <italic>title</italic></article-title></title-group><pub-date><year>2011</year></pub-date>
{permissions}<abstract><sec><title>Aim</title><p>To see.</p></sec></abstract></article-meta></front>
<body><sec><title>Methods</title><p>We gave 5&#160;mg [<xref ref-type="bibr">1</xref>,<xref ref-type="bibr">2</xref>]
once <!-- a comment -->to all<fig><caption><p>A figure</p></caption></fig>.<list><list-item><p>one</p></list-item>
</list>Then more.</p><table-wrap><table><tr><td>9</td></tr></table></table-wrap></sec>
<p>{end}</p></body><back><ref-list><ref>Smith 1999</ref></ref-list></back></article>"""


def jats(tmp_path: Path, permissions: str = "", kind: str = "research-article", end: str = "The end.") -> Path:
    (tmp_path / "a.nxml").write_text(JATS.format(permissions=permissions, kind=kind, end=end))
    return tmp_path / "a.nxml"


def test_jats_gives_prose_with_headings_and_no_tables_figures_or_references(tmp_path: Path) -> None:
    [record], _ = read("jats", jats(tmp_path))
    assert record.text.split("\n\n") == [
        "A title",
        "Abstract",
        "Aim",
        "To see.",
        "Methods",
        "We gave 5 mg once to all.",
        "one",
        "Then more.",
        "The end.",
    ]
    assert (record.native_id, record.url, record.license) == ("PMC77", "https://doi.org/10.1/x", None)
    assert record.metadata == {
        "pmc": "PMC77",
        "doi": "10.1/x",
        "title": "A title",
        "journal": "J",
        "year": 2011,
        "article_type": "research-article",
    }


@pytest.mark.parametrize(
    ("permissions", "expected"),
    [
        ('<license xlink:href="http://creativecommons.org/licenses/by/4.0/"><p>x</p></license>', "CC-BY-4.0"),
        (
            '<license><license_ref xmlns="http://www.niso.org/schemas/ali/1.0/">https://creativecommons.org/licenses/by/3.0/'
            "</license_ref></license>",
            "CC-BY-3.0",
        ),
        (
            '<license><p>See <ext-link xlink:href="http://creativecommons.org/licenses/by-nc/3.0/">here</ext-link></p>'
            "</license>",
            "CC-BY-NC-3.0",
        ),
        ("<license><p>Creative Commons Attribution License</p></license>", "LicenseRef-CC-BY-unversioned"),
        (
            "<copyright-statement>(http://creativecommons.org/licenses/by-nc-nd/3.0/).</copyright-statement>",
            "CC-BY-NC-ND-3.0",
        ),
        ("<copyright-statement>(c) A Publisher</copyright-statement>", "unknown"),
    ],
)
def test_jats_permissions_name_the_licence(tmp_path: Path, permissions: str, expected: str) -> None:
    [record], _ = read("jats", jats(tmp_path, f"<permissions>{permissions}</permissions>"))
    assert record.license is not None
    assert record.license.expression == expected
    assert record.license.evidence.startswith("permissions/")


STANDINGS = {
    "retracted": ("RetractionIn", "research-article", "retraction-forward"),
    "under_concern": ("ExpressionOfConcernIn", "research-article", "expressed-concern"),
    "concern_notice": ("ExpressionOfConcernFor", "expression-of-concern", "object-of-concern"),
    "retraction_notice": (None, "retraction", "retracted-article"),
    None: ("CommentIn", "research-article", "commentary-article"),
}


@pytest.mark.parametrize(("standing", "link", "kind", "related"), [(name, *rest) for name, rest in STANDINGS.items()])
def test_an_article_says_how_it_stands_and_a_notice_what_it_is(
    tmp_path: Path, standing: str | None, link: str | None, kind: str, related: str
) -> None:
    to_another = f'<related-article related-article-type="{related}" xlink:href="10.1/y"/>'
    [record], _ = read("jats", jats(tmp_path, to_another, kind))
    assert [name for name in STANDINGS if name in record.metadata] == [standing] * (standing is not None)
    if link:
        links = f'<CommentsCorrectionsList><CommentsCorrections RefType="{link}"/></CommentsCorrectionsList>'
        cited = article(1).replace("<MeshHeadingList>", f"{links}<MeshHeadingList>")
        [record], _ = read("pubmed_xml", pubmed(tmp_path, cited))
        assert [name for name in STANDINGS if name in record.metadata] == [standing] * (standing is not None)


@pytest.mark.parametrize(
    ("attack", "reason"),
    [
        ('<!DOCTYPE article [<!ENTITY a "xxxxxxxx"><!ENTITY b "&a;&a;&a;">]>', "declares entities"),
        ('<!DOCTYPE article [<!ENTITY a SYSTEM "file:///etc/passwd">]>', "declares entities"),
        ('<!DOCTYPE article SYSTEM "http://127.0.0.1:9/x.dtd">', "undefined entity &a;"),
        ("", "malformed XML"),
    ],
)
def test_entities_of_any_kind_are_refused(tmp_path: Path, attack: str, reason: str) -> None:
    xml = JATS[JATS.index("<article") :].format(permissions="", kind="x", end="&a;")
    (tmp_path / "a.nxml").write_text(attack + xml)
    records, [letter] = read("jats", tmp_path / "a.nxml")
    assert records == []
    assert reason in letter.reason


def test_entities_are_refused_in_another_encoding_too(tmp_path: Path) -> None:
    xml = '<!DOCTYPE a [<!ENTITY b "x"><!ENTITY c "&b;&b;">]><a t="1">&c;</a>'
    (tmp_path / "a.nxml").write_bytes(xml.encode("utf-16"))
    records, [letter] = read("jats", tmp_path / "a.nxml")
    assert records == []
    assert letter.reason == "undefined entity &c;"


@pytest.mark.real
def test_real_jats_has_the_ids_and_licences_of_its_manifest() -> None:
    root = Path(os.environ.get("REALDATA", "/nonexistent")) / "raw_jats"
    assert root.is_dir(), "set REALDATA to the folder of real text"
    stems = {"by": "CC-BY", "cc0": "CC0-1.0", "pd-mark": "CC-PDM-1.0", "by-nc": "CC-BY-NC"}
    stems |= {"by-nc-sa": "CC-BY-NC-SA", "by-nc-nd": "CC-BY-NC-ND"}
    # The manifest's "by-nc" is a family: one article says NC-ND in words, another only "noncommercial use".
    words = {"PMC3628588.nxml": "CC-BY-NC-ND-3.0", "PMC3692346.nxml": "LicenseRef-noncommercial"}
    for row in map(json.loads, (root / "MANIFEST.jsonl").read_text().splitlines()):
        [record] = items_of("jats", root / row["file"])
        assert isinstance(record, Record)
        assert record.native_id == row["file"].removesuffix(".nxml")
        assert record.metadata["pmid"] == row["pmid"]
        assert record.metadata.get("doi", "") == row["doi"]
        assert 8_000 < len(record.text) < 50_000
        assert record.license is not None
        assert words.get(row["file"], stems[row["license"]]) in record.license.expression


@pytest.mark.real
def test_real_pubmed_files_read_whole() -> None:
    root = Path(os.environ.get("REALDATA", "/nonexistent")) / "raw_pubmed_xml"
    assert root.is_dir(), "set REALDATA to the folder of real text"
    items = [item for path in sorted(root.glob("*.xml")) for item in items_of("pubmed_xml", path)]
    records = [item for item in items if isinstance(item, Record)]
    assert len(items) == len(records) == 8
    assert [record.native_id for record in records[:2]] == ["12091962", "9997"]
    labelled = next(record for record in records if record.native_id == "27797938")
    assert "\n\nOBJECTIVE: " in labelled.text
    assert "\nCONCLUSIONS: " in labelled.text
