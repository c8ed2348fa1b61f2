"""Decontaminate one source: take out what overlaps the benchmarks that will be asked, and hold some documents out.

In: `documents` (shards of Parquet) and one `benchmark.<name>` for each benchmark. Out, one file an input shard:

    kept/00000.parquet       the corpus
    held_out/00000.parquet   documents that no training sees: a share, by a keyed hash of the id
    verdicts/00000.parquet   `decontaminate.<benchmark>` for each field of a question that a document gives away,
                             `held_out` for each other document
    questions.parquet        every field of every question, and the documents that gave it away (`question_report`)

A clue (`index_questions`) that stands in more than `common_documents` documents is boilerplate and does not count; the
PMID of an article always does. Fates: `kept`, `held_out`, `contaminated`. Documents pass as Arrow batches.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, field_serializer
from xxhash import xxh3_64_intdigest

from domainlm.eval.benchmarks import Benchmark, Question, load_questions
from domainlm.eval.parquet import read_batches
from domainlm.tasks.document_shards import EmptyCorpus, run_shards
from domainlm.tasks.documents import DOCUMENT_SCHEMA, VERDICT_SCHEMA
from domainlm.tasks.engine import MARKS, clear_marks
from domainlm.tasks.index_questions import index_questions
from domainlm.tasks.manifest import Books, Part
from domainlm.tasks.question_index import QuestionIndex, Rows
from domainlm.tasks.question_report import QuestionReport
from domainlm.tasks.ragged import save_array
from domainlm.tasks.runtime import Runtime
from domainlm.tasks.stage import Inputs, stage

FATES = ("kept", "held_out", "contaminated")
FIND_ROWS = 64  # documents searched at a time: as fast as more, and a few MB of full texts


class DecontaminateConfig(BaseModel):
    """What counts as overlap with a benchmark, and how much is held out."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="Decontaminate")

    ngram_words: int = Field(
        13,
        ge=8,
        title="Words of an n-gram",
        description="Shorter ones hit boilerplate (8 words: 149 hits in 19.8 M real ones, 13 words: none).",
    )
    min_short_words: PositiveInt = Field(
        8, title="Least words of a short field", description="Fields from here to an n-gram count as a whole."
    )
    common_documents: PositiveInt = Field(
        10, title="Common", description="What stands in more documents of the source than this is boilerplate."
    )
    held_out_share: float = Field(0.02, ge=0, lt=1, title="Held out", description="Share of the documents.")
    held_out_seed: int = Field(0, title="Held-out seed", description="Decides which documents are held out.")


class DecontaminateStageConfig(BaseModel):
    """What counts as overlap, and with which benchmarks."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="Decontaminate a source")

    decontaminate: DecontaminateConfig = Field(
        default_factory=DecontaminateConfig, title="Overlap", description="What counts, and how much is held out."
    )
    benchmarks: tuple[Benchmark, ...] = Field(
        (), title="Benchmarks", description="Those that the recipe evaluates; the file of each is an input."
    )

    @field_serializer("benchmarks")
    def _only_what_decides_bytes(self, benchmarks: tuple[Benchmark, ...]) -> list[dict[str, str]]:
        """How a question is asked changes nothing here, and where its file lies is place."""
        return [{"name": benchmark.name, "form": benchmark.form} for benchmark in benchmarks]


@stage(version=2, disk_factor=2.0, resumes=True)
def decontaminate(config: DecontaminateStageConfig, inputs: Inputs, out: Path, runtime: Runtime) -> Books:
    """Find the clues of every document, see which are common, then decide."""
    documents, settings = inputs["documents"], config.decontaminate
    shards = len(documents.files)
    benchmarks = read_benchmarks(config, inputs)
    index = index_questions(benchmarks, ngram_words=settings.ngram_words, min_short_words=settings.min_short_words)
    run_shards(partial(find_in_shard, index, documents, out), shards, out, runtime, name="find")
    common = common_clues(index, out, shards, settings.common_documents)
    report = QuestionReport(index, common)
    for shard in range(shards):
        note_hits(report, documents, out, shard)
    report.write(out / "questions.parquet")
    fates = run_shards(partial(write_shard, settings, documents, out), shards, out, runtime, name="write")
    if not fates["kept"]:
        raise EmptyCorpus(_nothing_left(documents, fates))
    clear_marks(out)
    counts = {"clues": index.num_clues, "common_clues": int(common.sum())}
    for benchmark, questions in benchmarks:
        counts |= {f"questions.{benchmark.name}": len(questions)} | report.counts(benchmark.name)
    return Books(
        entered={"documents": sum(fates.values())}, fates=fates, counts={name: float(n) for name, n in counts.items()}
    )


def read_benchmarks(config: DecontaminateStageConfig, inputs: Inputs) -> list[tuple[Benchmark, list[Question]]]:
    """Every benchmark with its questions, from the input of its name; raises ValueError where the two do not match."""
    files = {name.removeprefix("benchmark."): part for name, part in inputs.items() if name.startswith("benchmark.")}
    names = {benchmark.name for benchmark in config.benchmarks}
    if files.keys() != names:
        raise ValueError(
            f"decontaminate was given the files of {sorted(files) or 'no benchmark'} and is configured for "
            f"{sorted(names) or 'none'}. Each benchmark needs one input called `benchmark.<name>`."
        )
    return [(one, load_questions(one, files[one.name].paths()[0])) for one in config.benchmarks]


def find_in_shard(index: QuestionIndex, documents: Part, out: Path, shard: int) -> dict[str, int]:
    """Write down the (row, clue) pairs of one shard."""
    found, first_row = [np.empty((0, 2), dtype=np.int64)], 0
    for batch in read_batches(documents.paths()[shard], ["text", "native_metadata"], rows=FIND_ROWS):
        texts, metadata = (column.to_pylist() for column in batch.columns)
        found.append(index.find(texts, list(map(_pmid, metadata))) + np.array([first_row, 0]))
        first_row += len(texts)
    save_array(_clues(out, shard), np.concatenate(found))
    return {}


def common_clues(index: QuestionIndex, out: Path, shards: int, most: int) -> NDArray[np.bool_]:
    """Which clues stand in more than `most` documents; a PMID never counts as common."""
    documents = np.zeros(index.num_clues, dtype=np.int64)
    for shard in range(shards):
        documents += np.bincount(np.load(_clues(out, shard))[:, 1], minlength=index.num_clues)
    common: NDArray[np.bool_] = documents > most
    common[index.first_pmid :] = False
    return common


def note_hits(report: QuestionReport, documents: Part, out: Path, shard: int) -> None:
    """Write down the verdicts on the documents of one shard that give something away, and report them."""
    hits = report.given_away(np.load(_clues(out, shard)))
    ids = _ids_of(documents, shard, np.unique(hits[:, 0])) if len(hits) else {}
    rows: dict[int, list[tuple[str, str]]] = {}
    for row, number, found in hits.tolist():
        field = report.index.fields[number]
        value = f"{field.question_id} {field.name} ({found} of {field.clues})"
        rows.setdefault(row, []).append((f"decontaminate.{field.benchmark}", value))
        report.note(number, ids[row], found)
    path = _hits(out, shard)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows))


def write_shard(config: DecontaminateConfig, documents: Part, out: Path, shard: int) -> Counter[str]:
    """Write the documents of one shard by their fate, and what decided it; returns how many had which."""
    hits = {int(row): found for row, found in json.loads(_hits(out, shard).read_text()).items()}
    name, counts, first_row = f"{shard:05d}.parquet", Counter(dict.fromkeys(FATES, 0)), 0
    with ExitStack() as files:
        kinds = {"kept": DOCUMENT_SCHEMA, "held_out": DOCUMENT_SCHEMA, "verdicts": VERDICT_SCHEMA}
        writers = {kind: files.enter_context(_writer(out / kind / name, schema)) for kind, schema in kinds.items()}
        for batch in read_batches(documents.paths()[shard], DOCUMENT_SCHEMA.names):
            rows: list[tuple[str, str, str, str, bool]] = []
            fates: list[str] = []
            for row, (doc_id, parent_id) in enumerate(_ids(batch), first_row):
                if row in hits:
                    rows += [(doc_id, rule, value, "no clue", False) for rule, value in hits[row]]
                    fates.append("contaminated")
                    continue
                place = held_out_place(parent_id or doc_id, config.held_out_seed)
                keep = place >= config.held_out_share
                rows.append((doc_id, "held_out", f"{place:.6f}", f"{config.held_out_share:g}", keep))
                fates.append("kept" if keep else "held_out")
            writers["verdicts"].write_batch(pa.record_batch(list(zip(*rows, strict=True)), schema=VERDICT_SCHEMA))
            for fate in ("kept", "held_out"):
                chosen = batch.filter(pa.array([its == fate for its in fates]))
                if chosen.num_rows:
                    writers[fate].write_batch(chosen)
            counts.update(fates)
            first_row += len(fates)
    return counts


def held_out_place(family: str, seed: int) -> float:
    """Where a document stands between 0 and 1, by a keyed hash of its parent's id, or of its own."""
    return xxh3_64_intdigest(f"{seed}:{family}".encode()) / 2**64


@contextmanager
def _writer(path: Path, schema: pa.Schema) -> Iterator[pq.ParquetWriter]:
    """A Parquet file that appears only when whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    with pq.ParquetWriter(temporary, schema, compression="zstd", store_schema=False) as writer:
        yield writer
    temporary.replace(path)


def _ids(batch: pa.RecordBatch) -> Iterator[tuple[str, str | None]]:
    return zip(batch["doc_id"].to_pylist(), batch["parent_id"].to_pylist(), strict=True)


def _ids_of(documents: Part, shard: int, rows: Rows) -> dict[int, str]:
    ids = pq.read_table(documents.paths()[shard], columns=["doc_id"])["doc_id"]
    return dict(zip(rows.tolist(), ids.take(pa.array(rows)).to_pylist(), strict=True))


def _pmid(metadata: str) -> str | None:
    pmid = json.loads(metadata).get("pmid") if '"pmid"' in metadata else None
    return str(pmid) if pmid else None


def _clues(out: Path, shard: int) -> Path:
    return out / MARKS / "clues" / f"{shard:05d}.npy"


def _hits(out: Path, shard: int) -> Path:
    return out / MARKS / "hits" / f"{shard:05d}.json"


def _nothing_left(documents: Part, fates: Mapping[str, int]) -> str:
    if not sum(fates.values()):
        return (
            f"{documents.origin} holds no documents: each was a duplicate of one in another source. Its verdicts name "
            "them; leave the source out, or the one that it repeats."
        )
    return (
        f"Decontamination kept none of the {sum(fates.values()):,} documents of {documents.origin}: "
        f"{fates['contaminated']:,} overlap a benchmark, {fates['held_out']:,} are held out. If questions.parquet in "
        "the unfinished directory shows boilerplate, lower `decontaminate.common_documents`; if the source is the "
        "benchmark's own origin, leave it out."
    )
