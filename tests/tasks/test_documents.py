"""Documents: a strict schema, in order, one row group in memory, and a file that is either whole or not there."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from domainlm.tasks.documents import (
    DEAD_LETTER_SCHEMA,
    DOCUMENT_SCHEMA,
    ROW_GROUP_ROWS,
    DeadLetter,
    Document,
    Verdict,
    content_sha256,
    read_documents,
    read_verdicts,
    write_rows,
)
from domainlm.tasks.manifest import count_rows

DOCUMENT = Document(
    doc_id="s/1",
    text="Ünïcode \U0001f9ec and\nlines",
    source="s",
    license="CC0-1.0",
    license_evidence="README",
    uri="a.jsonl#1",
    retrieved_at=None,
    content_sha256=content_sha256("Ünïcode \U0001f9ec and\nlines"),
    parent_id=None,
    native_metadata="{}",
)


def many(count: int) -> Iterator[Document]:
    return (replace(DOCUMENT, doc_id=f"s/{n}") for n in range(count))


def test_what_was_written_is_read_back_in_order(tmp_path: Path) -> None:
    path = tmp_path / "kept/00000.parquet"
    assert write_rows(path, Document, many(ROW_GROUP_ROWS + 1)) == ROW_GROUP_ROWS + 1
    assert list(read_documents(path)) == list(many(ROW_GROUP_ROWS + 1))
    assert pq.read_schema(path).equals(DOCUMENT_SCHEMA)
    assert pq.read_metadata(path).num_row_groups == 2
    assert count_rows(path) == ROW_GROUP_ROWS + 1


def test_no_rows_are_a_file_with_the_schema(tmp_path: Path) -> None:
    assert write_rows(tmp_path / "a.parquet", Document, []) == 0
    assert list(read_documents(tmp_path / "a.parquet")) == []
    assert pq.read_schema(tmp_path / "a.parquet").equals(DOCUMENT_SCHEMA)


def test_verdicts_and_dead_letters_keep_their_values_and_raw_bytes(tmp_path: Path) -> None:
    verdict = Verdict("s/1", "words", "3", ">= 50", False)
    write_rows(tmp_path / "v.parquet", Verdict, [verdict])
    assert list(read_verdicts(tmp_path / "v.parquet")) == [verdict]
    write_rows(tmp_path / "d.parquet", DeadLetter, [DeadLetter("a", 3, "invalid UTF-8", b"\xff\x00")])
    table = pq.read_table(tmp_path / "d.parquet")
    assert table.schema.equals(DEAD_LETTER_SCHEMA)
    assert table.to_pylist() == [{"file": "a", "offset": 3, "reason": "invalid UTF-8", "raw": b"\xff\x00"}]


def test_a_writer_that_fails_half_way_leaves_no_file_under_the_name(tmp_path: Path) -> None:
    def failing() -> Iterator[Document]:
        yield from many(ROW_GROUP_ROWS + 5)
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        write_rows(tmp_path / "a.parquet", Document, failing())
    assert not (tmp_path / "a.parquet").exists()
    assert write_rows(tmp_path / "a.parquet", Document, many(2)) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["a.parquet"]


def test_the_same_rows_are_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.parquet", "b.parquet"):
        write_rows(tmp_path / name, Document, many(1_500))
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_a_row_without_a_value_that_the_schema_needs_is_refused(tmp_path: Path) -> None:
    without = replace(DOCUMENT, text=None)  # type: ignore[arg-type]
    with pytest.raises(pa.ArrowInvalid):
        write_rows(tmp_path / "a.parquet", Document, [without])
    assert not (tmp_path / "a.parquet").exists()


def test_a_lone_surrogate_never_reaches_a_file(tmp_path: Path) -> None:
    with pytest.raises(UnicodeEncodeError):
        write_rows(tmp_path / "a.parquet", Document, [replace(DOCUMENT, text="\ud800")])


def test_the_content_digest_is_that_of_the_utf8_text() -> None:
    assert content_sha256("é") == "4a99557e4033c3539de2eb65472017cad5f9557f7a0625a09f1c3f6e2ba69c4c"
    assert content_sha256("e\u0301") != content_sha256("é")
