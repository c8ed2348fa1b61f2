"""Arrow, CSV and TSV: rows are records, a bad row is lost alone, and a large file may be cut without a trace."""

import gzip
import os
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from domainlm.eval.parquet import read_batches
from domainlm.tasks.documents import DeadLetter
from domainlm.tasks.readers import FORMATS, Piece, Record, Settings
from domainlm.tasks.readers.record import Item

HEADER = b"id,text,license\n"


def items_of(kind: str, path: Path, settings: Settings = Settings()) -> list[Item]:  # noqa: B008
    return list(FORMATS[kind].read(Piece(path, path.name), settings))


def read(kind: str, path: Path, settings: Settings = Settings()) -> tuple[list[Record], list[DeadLetter]]:  # noqa: B008
    items = items_of(kind, path, settings)
    return [i for i in items if isinstance(i, Record)], [i for i in items if isinstance(i, DeadLetter)]


def table(start: int = 0, rows: int = 20) -> pa.Table:
    numbers = range(start, start + rows)
    return pa.table({"id": [str(n) for n in numbers], "text": [f"text {n} é" for n in numbers], "year": list(numbers)})


def write_arrow(path: Path, data: pa.Table, batch_rows: int = 10, *, stream: bool = False) -> Path:
    new = pa.ipc.new_stream if stream else pa.ipc.new_file
    with new(str(path), data.schema) as writer:
        writer.write_table(data, max_chunksize=batch_rows)
    return path


def test_a_parquet_file_is_read_in_the_memory_of_a_row_group_however_large_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    with pq.ParquetWriter(path, pa.schema([pa.field("text", pa.binary())])) as writer:
        for _ in range(40):
            writer.write_table(pa.table({"text": [os.urandom(500_000)]}))
    before = pa.total_allocated_bytes()
    held = [pa.total_allocated_bytes() - before for _ in read_batches(path, rows=1)]
    assert len(held) == 40
    assert max(held) < 4_000_000


@pytest.mark.parametrize("stream", [False, True])
def test_arrow_rows_are_records_in_both_of_its_forms(tmp_path: Path, stream: bool) -> None:
    records, dead = read("arrow", write_arrow(tmp_path / "a.arrow", table(), stream=stream))
    assert dead == []
    assert [(record.native_id, record.text, record.offset) for record in records] == [
        (str(n), f"text {n} é", n) for n in range(20)
    ]
    assert records[3].metadata == {"year": 3}


def test_what_datasets_has_saved_to_disk_is_read_as_arrow(tmp_path: Path) -> None:
    saved = datasets.Dataset.from_dict({"id": ["a", "b"], "text": ["one", "two"]})
    saved.save_to_disk(str(tmp_path / "saved"), num_shards=2)
    files = sorted((tmp_path / "saved").glob("*.arrow"))
    assert [item.text for path in files for item in items_of("arrow", path) if isinstance(item, Record)] == [
        "one",
        "two",
    ]


@pytest.mark.parametrize("stream", [False, True])
def test_a_row_of_invalid_utf8_is_lost_alone(tmp_path: Path, stream: bool) -> None:
    texts = pa.array([b"first", b"bad \xff", b"third"], pa.binary()).cast(pa.string(), safe=False)
    data = pa.table({"id": ["1", "2", "3"], "text": texts})
    records, dead = read("arrow", write_arrow(tmp_path / "a.arrow", data, stream=stream))
    assert [record.text for record in records] == ["first", "third"]
    assert [(letter.offset, letter.reason) for letter in dead] == [(1, "invalid UTF-8 in 'text' at byte 4")]


def test_offsets_that_point_outside_their_buffer_lose_a_batch_and_read_no_foreign_memory(tmp_path: Path) -> None:
    path = write_arrow(tmp_path / "a.arrow", table())
    content = path.read_bytes()
    offsets = pa.array([f"text {n} é" for n in range(10, 20)]).buffers()[1].to_pybytes()[:40]
    assert content.count(offsets) == 1
    path.write_bytes(
        content[: content.rindex(offsets)]
        + offsets[:36]
        + b"\xff\xff\xff\x7f"
        + content[content.rindex(offsets) + 40 :]
    )
    records, dead = read("arrow", path)
    assert [record.native_id for record in records] == [str(n) for n in range(10)]
    assert [letter.reason.partition(":")[0] for letter in dead] == ["broken stream"]
    assert "batch 1 is damaged" in dead[0].reason


def test_a_truncated_arrow_stream_keeps_the_batches_before_the_break(tmp_path: Path) -> None:
    path = write_arrow(tmp_path / "a.arrow", table(), stream=True)
    path.write_bytes(path.read_bytes()[:-200])
    records, dead = read("arrow", path)
    assert [record.native_id for record in records] == [str(n) for n in range(10)]
    assert [letter.offset for letter in dead] == [10]
    assert dead[0].reason.startswith("broken stream (Arrow)")


def test_what_is_no_arrow_file_is_a_dead_letter(tmp_path: Path) -> None:
    for content in (b"", b"ARROW1", b"ARROW1\0\0" + b"x" * 100, b"hello"):
        (tmp_path / "a.arrow").write_bytes(content)
        records, dead = read("arrow", tmp_path / "a.arrow")
        assert (records, len(dead)) == ([], 1)


@pytest.mark.parametrize("kind", ["parquet", "arrow", "jsonl", "fasta"])
def test_the_spans_of_a_large_file_give_what_the_whole_file_gives(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"a.{kind}"
    if kind == "parquet":
        pq.write_table(table(rows=100), path, row_group_size=10)
    elif kind == "arrow":
        write_arrow(path, table(rows=100))
    elif kind == "jsonl":
        rows = [f'{{"id": {n}, "text": "{"x" * (n * 7 % 60)}é"}}\r' for n in range(100)]
        path.write_text("\n".join([*rows[:40], "{broken", "", *rows[40:]]))
    else:
        path.write_text("".join(f">s{n} of many\n{'ACGT' * (n % 30 + 1)}\n{'AC' * (n % 3)}\n\n" for n in range(100)))
    whole = items_of(kind, path)
    assert len(whole) >= 100
    for size in (1, 17, 64, 500, 2_000):
        monkeypatch.setattr("domainlm.tasks.readers.piece.SPAN_BYTES", size)
        spans = FORMATS[kind].spans(path)
        assert len(spans) > 1
        pieces = [Piece(path, path.name, span) for span in spans]
        assert [item for piece in pieces for item in FORMATS[kind].read(piece, Settings())] == whole


def test_csv_fields_may_hold_delimiters_quotes_and_line_ends(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(
        b"\xef\xbb\xbf" + HEADER + b'1,"two, and\r\n""three""\n",MIT\r\n\n2,plain,CC-BY\r3,old,\n'
    )
    records, dead = read("csv", tmp_path / "a.csv")
    assert dead == []
    assert [(record.native_id, record.text) for record in records] == [
        ("1", 'two, and\r\n"three"\n'),
        ("2", "plain"),
        ("3", "old"),
    ]
    assert [record.license.expression if record.license else None for record in records] == [
        "MIT",
        "LicenseRef-CC-BY-unversioned",
        None,
    ]
    assert records[0].offset == len(HEADER) + 3


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"x,caf\xe9,MIT", "invalid UTF-8 at byte 5"),
        (b"x,too few", "2 fields where the header has 3"),
        (b"x,too,many,fields", "4 fields where the header has 3"),
        (b"x,,MIT", "no text"),
        (b",text,MIT", "field 'id' is empty"),
        (b"x,a\0b,MIT", "null character"),
        (b'x,"a"b,MIT', "broken quotes"),
        (b'x,"never closed,MIT', "broken quotes"),
    ],
)
def test_a_bad_row_of_csv_is_lost_alone_with_its_offset(tmp_path: Path, line: bytes, reason: str) -> None:
    before, after = b"1,one,MIT\n", b'\n2,"two\nlines",MIT\n3,three,MIT\n'
    (tmp_path / "a.csv").write_bytes(HEADER + before + line + after)
    records, dead = read("csv", tmp_path / "a.csv")
    assert [record.text for record in records] == ["one", "two\nlines", "three"]
    assert [(letter.offset, letter.raw.strip()) for letter in dead] == [(len(HEADER + before), line)]
    assert reason in dead[0].reason


def test_a_quote_in_the_middle_of_an_unquoted_field_is_a_letter(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text('id\ttext\n1\ta 5" pipe\n2\tand "another"\n')
    records, dead = read("tsv", tmp_path / "a.tsv")
    assert ([record.text for record in records], dead) == (['a 5" pipe', 'and "another"'], [])


def test_without_a_readable_header_every_row_is_a_dead_letter(tmp_path: Path) -> None:
    for header in (b'id,"te"xt\n', b"id,text,text\n", b"\xff,text\n"):
        (tmp_path / "a.csv").write_bytes(header + b"1,one\n2,two\n")
        records, dead = read("csv", tmp_path / "a.csv")
        assert records == []
        assert [letter.raw for letter in dead][-2:] == [b"1,one\n", b"2,two\n"]


def test_the_encoding_that_the_source_states_is_used(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes("id,text\n1,café €\n".encode("cp1252"))
    [record], _ = read("csv", tmp_path / "a.csv", Settings(encoding="cp1252"))
    assert record.text == "café €"
    (tmp_path / "a.txt").write_bytes("café".encode("latin-1"))
    [record], _ = read("text", tmp_path / "a.txt", Settings(encoding="iso-8859-1"))
    assert record.text == "café"


def test_a_truncated_csv_gzip_keeps_the_rows_before_the_break(tmp_path: Path) -> None:
    rows = b"".join(b"%d,text %d\n" % (n, n * 7919) for n in range(20_000))
    packed = gzip.compress(b"id,text\n" + rows)
    (tmp_path / "a.csv.gz").write_bytes(packed[: len(packed) // 2])
    records, dead = read("csv", tmp_path / "a.csv.gz")
    assert [record.native_id for record in records] == [str(n) for n in range(len(records))]
    assert len(records) > 5_000
    assert [letter.reason.partition(":")[0] for letter in dead] == ["broken stream (gzip)"]
