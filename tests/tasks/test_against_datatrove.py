"""Three cases in which stock datatrove 0.10.1 loses data and says nothing, and what ours does (docs/datatrove.md)."""

import json
from collections import deque
from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.dedup import (
    MinhashDedupBuckets,
    MinhashDedupCluster,
    MinhashDedupFilter,
    MinhashDedupSignature,
)
from datatrove.pipeline.dedup.minhash import MinhashConfig
from datatrove.pipeline.readers import JsonlReader, ParquetReader
from datatrove.pipeline.writers import ParquetWriter
from datatrove.utils.hashing import HashConfig

from domainlm.tasks.acquire import AcquireConfig, acquire
from domainlm.tasks.deduplicate import DeduplicateConfig, deduplicate
from domainlm.tasks.documents import Document, content_sha256, read_documents, write_rows
from domainlm.tasks.manifest import Part, outside
from domainlm.tasks.runtime import Runtime
from domainlm.tasks.store import Store
from domainlm.tasks.words import WORDS

SUMMARY = (
    "Velotrine is given to adults with hypertension. The usual dose is {} mg once a day, taken in the morning with a "
    "glass of water, and it may be raised after four weeks if the pressure of the blood has not fallen enough."
)


@pytest.fixture
def summaries(tmp_path: Path) -> Part:
    """100 dosing summaries that differ only in a number."""
    path = tmp_path / "summaries" / "00000.parquet"
    rows = [document(number, SUMMARY.format(5 * number)) for number in range(1, 101)]
    write_rows(path, Document, rows)
    return outside(path.parent, [path], origin="summaries")


def test_numbers_stock_keeps_one_of_100_doses(summaries: Part, tmp_path: Path) -> None:
    """Its default normalisation makes every number a 0. Our words stand in for spaCy's, which changes nothing here."""
    # sha1 because xxhash 4, which datatrove's extra excludes and nothing else does, refuses its text
    config = MinhashConfig(hash_config=HashConfig(hash_fc="sha1"))
    folder = str(summaries.root)
    signatures, buckets, removed, kept = (str(tmp_path / name) for name in ("s", "b", "r", "kept"))
    run([reader(folder), MinhashDedupSignature(output_folder=signatures, config=config, language=WORDS)])
    for rank in range(config.num_buckets):
        step = MinhashDedupBuckets(input_folder=signatures, output_folder=buckets, config=config)
        run([step], rank=rank, ranks=config.num_buckets)
    run([MinhashDedupCluster(input_folder=buckets, output_folder=removed, config=config)])
    run([reader(folder), MinhashDedupFilter(input_folder=removed), ParquetWriter(kept)])
    assert rows_in(Path(kept)) == 1


def test_numbers_ours_keeps_all_100_doses(summaries: Part, store: Store, runtime: Runtime) -> None:
    sealed = deduplicate.build(store, DeduplicateConfig(), {"summaries": summaries}, runtime)
    assert sealed.manifest.fates == {"kept": 100, "exact_duplicate": 0, "near_duplicate": 0}


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    """A JSONL file of 100 documents with a byte in the tenth that is no UTF-8."""
    path = tmp_path / "lines" / "documents.jsonl"
    path.parent.mkdir()
    rows = [json.dumps({"id": str(n), "text": f"Document {n}.", "license": "MIT"}).encode() for n in range(100)]
    rows[9] = rows[9].replace(b"Document", b"Docu\xffment")
    path.write_bytes(b"\n".join(rows) + b"\n")
    return path


def test_bad_byte_stock_loses_the_rest_of_the_file_and_succeeds(lines: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    execute([JsonlReader(str(lines.parent), doc_progress=False), ParquetWriter(str(kept))], tmp_path / "logs")
    assert rows_in(kept) < 91
    assert (tmp_path / "logs" / "completions" / "00000").exists()  # the task is a success


def test_bad_byte_ours_keeps_the_99_others_and_the_line_as_a_dead_letter(
    lines: Path, store: Store, runtime: Runtime
) -> None:
    config = AcquireConfig(name="lines", format="jsonl", dead_letter_budget=0.1, origin="test")
    part = outside(lines.parent, [lines], origin="source lines")
    sealed = acquire.build(store, config, {"files": part}, runtime)
    assert (sealed.manifest.fates["kept"], sealed.manifest.fates["dead_letters"]) == (99, 1)
    (letter,) = [row for path in sealed.part("dead_letters").paths() for row in pq.read_table(path).to_pylist()]
    assert b"Docu\xffment 9." in letter["raw"]


def test_stale_resume_stock_ignores_a_changed_input_and_a_changed_config(tmp_path: Path) -> None:
    source, kept, logs = tmp_path / "in", tmp_path / "kept", tmp_path / "logs"
    for number, limit in ((3, -1), (8, -1), (8, 5)):
        jsonl(source / "documents.jsonl", number)
        execute([JsonlReader(str(source), limit=limit, doc_progress=False), ParquetWriter(str(kept))], logs)
        assert rows_in(kept) == 3  # of the first run, each time


def test_stale_resume_ours_builds_anew_for_a_changed_input_and_a_changed_config(
    tmp_path: Path, store: Store, runtime: Runtime
) -> None:
    path = tmp_path / "in" / "documents.jsonl"
    found = []
    for number, name in ((3, "a"), (8, "a"), (8, "b"), (8, "a")):
        jsonl(path, number)
        part = outside(path.parent, [path], origin="source")
        sealed = acquire.build(store, AcquireConfig(name=name, format="jsonl", origin="test"), {"files": part}, runtime)
        texts = [(d.source, d.text) for kept in sealed.part("kept").paths() for d in read_documents(kept)]
        found.append((sealed.path, texts))
    assert [len(texts) for _, texts in found] == [3, 8, 8, 8]
    assert {source for source, _ in found[2][1]} == {"b"}
    assert found[3] == found[1]  # and what was built before is reused


def document(number: int, text: str) -> Document:
    digest = content_sha256(text)
    return Document(f"s/{number:03d}", text, "s", "CC0-1.0", "test", f"s#{number}", None, digest, None, "{}")


def jsonl(path: Path, documents: int) -> None:
    path.parent.mkdir(exist_ok=True)
    rows = [{"id": str(n), "text": f"Document {n} of {documents}.", "license": "MIT"} for n in range(documents)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def reader(folder: str) -> ParquetReader:
    return ParquetReader(folder, id_key="doc_id", doc_progress=False)


def run(steps: Sequence[PipelineStep], *, rank: int = 0, ranks: int = 1) -> None:
    data = None
    for step in steps:
        data = step(data, rank, ranks)
    deque(data or (), maxlen=0)


def execute(steps: Sequence[PipelineStep], logs: Path) -> None:
    LocalPipelineExecutor(pipeline=list(steps), tasks=1, workers=1, logging_dir=str(logs)).run()


def rows_in(folder: Path) -> int:
    return sum(pq.read_metadata(path).num_rows for path in folder.glob("*.parquet"))
