"""Bad input of every kind, through the stage: the good documents around it are kept, the bad ones are accounted for."""

import gzip
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from domainlm.tasks.acquire import AcquireConfig, TooManyDeadLetters, acquire
from domainlm.tasks.documents import read_documents
from domainlm.tasks.manifest import Part, outside
from domainlm.tasks.readers.shards import ChangedSource
from domainlm.tasks.runtime import Runtime
from domainlm.tasks.source_files import find_files
from domainlm.tasks.store import Sealed, Store

MEGABYTE = 1 << 20


@pytest.fixture
def source(tmp_path: Path) -> Path:
    root = tmp_path / "source"
    root.mkdir()
    return root


def good(*ids: object) -> bytes:
    return b"".join(json.dumps({"id": str(one), "text": f"text {one}"}).encode() + b"\n" for one in ids)


def build(store: Store, source: Path, runtime: Runtime | None = None, **settings: object) -> Sealed:
    config = AcquireConfig.model_validate({"name": "s", "format": "jsonl", "dead_letter_budget": 0.5, **settings})
    part = outside(source, find_files(source, "*"), origin="*")
    return acquire.build(store, config, {"files": part}, runtime or Runtime())


def kept(sealed: Sealed) -> list[str]:
    files = sorted(sealed.path.glob("kept/*.parquet"))
    return [one.doc_id.removeprefix("s/") for path in files for one in read_documents(path)]


def dead(sealed: Sealed) -> list[tuple[str, int, str]]:
    files = sorted(sealed.path.glob("dead_letters/*.parquet"))
    rows = [row for path in files for row in pq.read_table(path).to_pylist()]
    return [(str(row["file"]), int(row["offset"]), str(row["reason"]).partition(":")[0]) for row in rows]


LINES = {
    "an invalid byte in the middle": (b'{"id": "x", "text": "a \xff b"}', "invalid UTF-8 at byte 23"),
    "half a line": (b'{"id": "x", "te', "broken JSON"),
    "a field of the wrong type": (b'{"id": "x", "text": {"a": 1}}', "field 'text' is dict, not text"),
    "no text": (b'{"id": "x"}', "no field 'text'; it has id"),
    "a null byte in the text": (b'{"id": "x", "text": "a\\u0000b"}', "null character in the text"),
    "a null byte in the file": (b'{"id": "x", "text": "a\0b"}', "broken JSON"),
    "an id that is taken": (b'{"id": "1", "text": "another"}', "duplicate id '1'"),
}


@pytest.mark.parametrize(("line", "reason"), LINES.values(), ids=LINES)
@pytest.mark.parametrize("packed", [False, True])
def test_a_bad_line_costs_itself(store: Store, source: Path, line: bytes, reason: str, packed: bool) -> None:
    content = good(1, 2) + line + b"\n" + good(3)
    name = "a.jsonl.gz" if packed else "a.jsonl"
    (source / name).write_bytes(gzip.compress(content) if packed else content)
    (source / "b.jsonl").write_bytes(good(4))
    sealed = build(store, source)
    assert kept(sealed) == ["1", "2", "3", "4"]
    assert dead(sealed) == [(name, len(good(1, 2)), reason)]


def test_mixed_line_ends_are_all_line_ends(store: Store, source: Path) -> None:
    rows = [good(n).strip() for n in range(6)]
    content = rows[0] + b"\r\n" + rows[1] + b"\n" + rows[2] + b"\r" + rows[3] + b"\r{half\r" + rows[4]
    content += b"\n\r\n" + rows[5]
    (source / "a.jsonl").write_bytes(content)
    sealed = build(store, source)
    assert kept(sealed) == [str(n) for n in range(6)]
    assert dead(sealed) == [("a.jsonl", content.index(b"{half"), "broken JSON")]


def test_an_empty_file_among_others_is_no_fault(store: Store, source: Path) -> None:
    (source / "a.jsonl").touch()
    (source / "b.jsonl.gz").write_bytes(gzip.compress(b""))
    (source / "c.jsonl").write_bytes(good(1))
    sealed = build(store, source)
    assert (kept(sealed), dead(sealed)) == (["1"], [])


def test_a_truncated_gzip_costs_its_tail_and_no_other_file(store: Store, source: Path) -> None:
    rows = [json.dumps({"id": str(n), "text": os.urandom(40).hex()}).encode() + b"\n" for n in range(2_000)]
    packed = gzip.compress(b"".join(rows))
    (source / "a.jsonl.gz").write_bytes(packed[: len(packed) * 3 // 4])
    (source / "b.jsonl").write_bytes(good("b"))
    sealed = build(store, source)
    *from_a, last = kept(sealed)
    assert from_a == [str(n) for n in range(len(from_a))]
    assert (len(from_a) > 1_400, last) == (True, "b")
    assert dead(sealed) == [("a.jsonl.gz", sum(map(len, rows[: len(from_a)])), "broken stream (gzip)")]
    assert sealed.manifest.counts["broken_files"] == 1


def test_a_parquet_file_of_another_schema_costs_its_own_rows(store: Store, source: Path) -> None:
    pq.write_table(pa.table({"id": ["1", "2"], "text": ["one", "two"]}), source / "a.parquet")
    pq.write_table(pa.table({"id": [3], "text": [4.5]}), source / "b.parquet")
    pq.write_table(pa.table({"key": [5]}), source / "c.parquet")
    pq.write_table(pa.table({"text": ["six"], "id": [6], "more": [[1, 2]]}), source / "d.parquet")
    sealed = build(store, source, format="parquet")
    assert kept(sealed) == ["1", "2", "6"]
    assert dead(sealed) == [
        ("b.parquet", 0, "field 'text' is float, not text"),
        ("c.parquet", 0, "no field 'text'; it has key"),
    ]


BOMB = '<!DOCTYPE a [<!ENTITY a "xxxxxxxxxx">' + "".join(
    f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


def test_an_xml_bomb_and_an_undefined_entity_cost_themselves(store: Store, source: Path) -> None:
    title = "<title-group><article-title>{}</article-title></title-group>"
    article = f"<article><front><article-meta>{title}</article-meta></front></article>"
    (source / "a.nxml").write_text(article.format("good"))
    (source / "b.nxml").write_text(f"{BOMB}]>{article.format('&i;')}")
    (source / "c.nxml").write_text(article.format("Title&nbsp;c"))
    sealed = build(store, source, format="jats", dead_letter_budget=0.7)
    assert kept(sealed) == ["a"]
    assert [(file, reason) for file, _, reason in dead(sealed)] == [
        ("b.nxml", "the document declares entities of its own"),
        ("c.nxml", "malformed XML"),
    ]


MEASURE = """
import resource, sys
from pathlib import Path
from domainlm.tasks.readers import FORMATS, Piece, Settings

before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for item in FORMATS["jsonl"].read(Piece(Path(sys.argv[1]), "a"), Settings()):
    print(type(item).__name__, item.offset)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def test_a_line_of_200_mb_is_lost_alone_in_bounded_memory(source: Path) -> None:
    path = source / "a.jsonl"
    with path.open("wb") as file:
        file.write(good(1) + b'{"id": "x", "text": "')
        for _ in range(200):
            file.write(b"a" * MEGABYTE)
        file.write(b'"}\n' + good(2))
    done = subprocess.run([sys.executable, "-c", MEASURE, str(path)], capture_output=True, text=True, check=True)
    *items, grown = done.stdout.split("\n")[:-1]
    first = len(good(1))
    assert items == ["Record 0", f"DeadLetter {first}", f"Record {first + 21 + 200 * MEGABYTE + 3}"]
    assert int(grown) < 180  # MiB: less than the line alone


@pytest.mark.parametrize(
    ("gone", "message"), [(False, r"c\.jsonl was changed while its source was read"), (True, r"c\.jsonl has gone")]
)
def test_a_file_that_goes_or_changes_midway_stops_the_stage(
    store: Store, source: Path, gone: bool, message: str
) -> None:
    (source / "a.jsonl").write_bytes(good("a"))
    os.mkfifo(source / "b.jsonl")  # its reader waits for us
    (source / "c.jsonl").write_bytes(good("c"))
    stamp = (source / "b.jsonl").stat()
    part = Part(source, ("a.jsonl", "b.jsonl", "c.jsonl"), "0" * 64, 1, None, "*")

    def mischief() -> None:
        with (source / "b.jsonl").open("wb") as pipe:
            pipe.write(good("b"))
            pipe.flush()
            os.utime(source / "b.jsonl", ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
            if gone:
                (source / "c.jsonl").unlink()
            else:
                (source / "c.jsonl").write_bytes(good("another"))

    thread = threading.Thread(target=mischief)
    thread.start()
    with pytest.raises(ChangedSource, match=message):
        acquire.build(store, AcquireConfig(name="s", format="jsonl"), {"files": part}, Runtime())
    thread.join()
    assert store.sealed() == []


FULL = """
import resource, sys
from pathlib import Path
from domainlm.tasks.acquire import AcquireConfig, acquire
from domainlm.tasks.manifest import outside
from domainlm.tasks.runtime import Runtime
from domainlm.tasks.store import Store

limit = int(sys.argv[3])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
root = Path(sys.argv[1])
part = outside(root, sorted(root.iterdir()), origin="*")
acquire.build(Store(Path(sys.argv[2])), AcquireConfig(name="s", format="jsonl"), {"files": part}, Runtime())
"""


def test_where_no_more_can_be_written_nothing_is_sealed_and_with_room_it_goes_on(store: Store, source: Path) -> None:
    rows = [json.dumps({"id": str(n), "text": os.urandom(500).hex()}).encode() + b"\n" for n in range(2_000)]
    (source / "a.jsonl").write_bytes(b"".join(rows[:50]))
    (source / "b.jsonl").write_bytes(b"".join(rows[50:]))

    def run(limit: int) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", FULL, str(source), str(store.root), str(limit)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    full = run(300_000)
    assert full.returncode == 1
    assert "OSError" in full.stderr.splitlines()[-1]
    assert "File too large" in full.stderr.splitlines()[-1]
    assert store.sealed() == []
    assert run(1 << 40).returncode == 0
    [sealed] = store.sealed()
    assert kept(sealed) == [str(n) for n in range(2_000)]
    assert [path.name for path in store.root.glob("acquire*")] == [sealed.path.name]


def test_over_the_budget_the_stage_stops_and_says_what_to_do(store: Store, source: Path) -> None:
    (source / "a.jsonl").write_bytes(good(1, 2, 3) + b"{half\n")
    with pytest.raises(
        TooManyDeadLetters, match=r"1 of 4 records .* a\.jsonl#90 broken JSON.* Mend the source"
    ) as caught:
        build(store, source, dead_letter_budget=0.2)
    assert "dead_letters" in str(caught.value)
    assert store.sealed() == []
