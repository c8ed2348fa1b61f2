"""Decontaminate one source: take out what overlaps the benchmarks that will be asked, and hold some documents out.

In: `documents` (shards of Parquet) and one `benchmark.<name>` for each benchmark. Out, one file an input shard:

    kept/00000.parquet       the corpus
    held_out/00000.parquet   documents that no training sees: a share, by a keyed hash of the id
    verdicts/00000.parquet   `decontaminate.<benchmark>` for each field of a question that a document gives away,
                             `held_out` for each other document
    questions.parquet        every indexed field of every question: its clues, how many of them are too common to
                             count, how many documents gave it away, and the ids of the first of them

A clue (`question_index`) that stands in more than `common_documents` documents is boilerplate and does not count; the
PMID of an article always does. Fates: `kept`, `held_out`, `contaminated`.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, field_serializer
from xxhash import xxh3_64_intdigest

from domainlm.eval.benchmarks import Benchmark, Question, load_questions
from domainlm.tasks.document_shards import EmptyCorpus, run_shards
from domainlm.tasks.documents import Document, Verdict, read_documents, write_rows
from domainlm.tasks.engine import MARKS, clear_marks
from domainlm.tasks.manifest import Books, Part
from domainlm.tasks.question_index import QuestionIndex, build_index
from domainlm.tasks.ragged import load_ragged, save_ragged
from domainlm.tasks.runtime import Runtime
from domainlm.tasks.stage import Inputs, stage

DOC_IDS = 20  # of the documents that gave a field away, those that the report names
FATES = ("kept", "held_out", "contaminated")
QUESTION_SCHEMA = pa.schema(
    [
        pa.field("benchmark", pa.string(), nullable=False),
        pa.field("question_id", pa.string(), nullable=False),
        pa.field("name", pa.string(), nullable=False),
        pa.field("clues", pa.int64(), nullable=False),
        pa.field("common_clues", pa.int64(), nullable=False),
        pa.field("documents", pa.int64(), nullable=False),
        pa.field("doc_ids", pa.list_(pa.string()), nullable=False),
    ]
)


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
    benchmarks: tuple[Benchmark, ...] = Field(
        (), title="Benchmarks", description="Filled in by the flow with those that the recipe evaluates."
    )

    @field_serializer("benchmarks")
    def _only_what_decides_bytes(self, benchmarks: tuple[Benchmark, ...]) -> list[dict[str, str]]:
        """How a question is asked changes nothing here, and where its file lies is place."""
        return [{"name": benchmark.name, "form": benchmark.form} for benchmark in benchmarks]


@stage(version=2, disk_factor=2.0, resumes=True)
def decontaminate(config: DecontaminateConfig, inputs: Inputs, out: Path, runtime: Runtime) -> Books:
    """Find the clues of every document, see which are common, then decide."""
    documents = inputs["documents"]
    shards = len(documents.files)
    benchmarks = read_benchmarks(config, inputs)
    index = build_index(benchmarks, ngram_words=config.ngram_words, min_short_words=config.min_short_words)
    run_shards(partial(find_in_shard, index, documents, out), shards, out, runtime, name="find")
    common = common_clues(index, out, shards, config.common_documents)
    given_away = np.zeros(len(index.fields), dtype=np.int64)
    named: dict[int, list[str]] = {}
    for shard in range(shards):
        by_field = write_hits(index, common, out, shard)
        doc_ids = pq.read_table(documents.paths()[shard], columns=["doc_id"])["doc_id"] if by_field else pa.array([])
        for number, rows in by_field.items():
            given_away[number] += len(rows)
            names = named.setdefault(number, [])
            names += [doc_ids[row].as_py() for row in rows[: DOC_IDS - len(names)]]
    write_questions(out / "questions.parquet", index, common, given_away, named)
    fates = run_shards(partial(write_shard, config, documents, out), shards, out, runtime, name="write")
    if not fates["kept"]:
        raise EmptyCorpus(_nothing_left(documents, fates))
    clear_marks(out)
    counts = {"clues": index.num_clues, "common_clues": int(common.sum())} | _per_benchmark(
        benchmarks, index, given_away
    )
    return Books(
        entered={"documents": sum(fates.values())}, fates=fates, counts={name: float(n) for name, n in counts.items()}
    )


def read_benchmarks(config: DecontaminateConfig, inputs: Inputs) -> list[tuple[Benchmark, list[Question]]]:
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
    """Write down the clues of each document of one shard."""
    read = read_documents(documents.paths()[shard])
    save_ragged(_clues(out, shard), [index.find(document.text, _pmid(document)) for document in read])
    return {}


def common_clues(index: QuestionIndex, out: Path, shards: int, most: int) -> NDArray[np.bool_]:
    """Which clues stand in more than `most` documents; a PMID never counts as common."""
    documents = np.zeros(index.num_clues, dtype=np.int64)
    for shard in range(shards):
        for clues in load_ragged(_clues(out, shard)):
            documents[clues.astype(np.int64)] += 1
    common = documents > most
    common[index.first_pmid :] = False
    return common


def write_hits(index: QuestionIndex, common: NDArray[np.bool_], out: Path, shard: int) -> dict[int, list[int]]:
    """Write down the verdicts on the documents of one shard; returns the rows that gave away each field."""
    by_field: dict[int, list[int]] = {}
    rows: dict[int, list[tuple[str, str]]] = {}
    for row, clues in enumerate(load_ragged(_clues(out, shard))):
        counted = Counter(field for clue in clues.tolist() if not common[clue] for field in index.fields_of(clue))
        for number, found in sorted(counted.items()):
            field = index.fields[number]
            value = f"{field.question_id} {field.name} ({found} of {field.clues})"
            rows.setdefault(row, []).append((f"decontaminate.{field.benchmark}", value))
            by_field.setdefault(number, []).append(row)
    path = _hits(out, shard)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows))
    return by_field


def write_shard(config: DecontaminateConfig, documents: Part, out: Path, shard: int) -> Counter[str]:
    """Write the documents of one shard by their fate, and what decided it; returns how many had which."""
    source, name = documents.paths()[shard], f"{shard:05d}.parquet"
    hits = {int(row): found for row, found in json.loads(_hits(out, shard).read_text()).items()}
    fates: list[str] = []

    def verdicts() -> Iterator[Verdict]:
        for row, document in enumerate(read_documents(source)):
            if row in hits:
                yield from (Verdict(document.doc_id, rule, value, "no clue", keep=False) for rule, value in hits[row])
                fates.append("contaminated")
            else:
                place = held_out_place(document, config.held_out_seed)
                keep = place >= config.held_out_share
                yield Verdict(document.doc_id, "held_out", f"{place:.6f}", f"{config.held_out_share:g}", keep)
                fates.append("kept" if keep else "held_out")

    write_rows(out / "verdicts" / name, Verdict, verdicts())
    for fate in ("kept", "held_out"):
        chosen = (document for document, its in zip(read_documents(source), fates, strict=True) if its == fate)
        write_rows(out / fate / name, Document, chosen)
    return Counter({fate: fates.count(fate) for fate in FATES})


def held_out_place(document: Document, seed: int) -> float:
    """Where a document stands between 0 and 1, by a keyed hash; texts with one parent stand together."""
    return xxh3_64_intdigest(f"{seed}:{document.parent_id or document.doc_id}".encode()) / 2**64


def write_questions(
    path: Path,
    index: QuestionIndex,
    common: NDArray[np.bool_],
    given_away: NDArray[np.int64],
    named: Mapping[int, Sequence[str]],
) -> None:
    """Write every field of every question, with its clues and the documents that gave it away."""
    dismissed = Counter(field for clue in np.flatnonzero(common).tolist() for field in index.fields_of(clue))
    rows = [
        {
            **asdict(field),
            "common_clues": dismissed[number],
            "documents": int(given_away[number]),
            "doc_ids": named.get(number, []),
        }
        for number, field in enumerate(index.fields)
    ]
    temporary = path.with_name(path.name + ".tmp")
    table = pa.Table.from_pylist(rows, schema=QUESTION_SCHEMA)
    pq.write_table(table, temporary, compression="zstd", store_schema=False)
    temporary.replace(path)


def _per_benchmark(
    benchmarks: Sequence[tuple[Benchmark, Sequence[Question]]], index: QuestionIndex, given_away: NDArray[np.int64]
) -> dict[str, int]:
    """Questions of each benchmark: all, those with a clue to look for, those that some document gave away."""
    counts: dict[str, int] = {}
    for benchmark, questions in benchmarks:
        of_it = [
            (field, n) for field, n in zip(index.fields, given_away, strict=True) if field.benchmark == benchmark.name
        ]
        counts[f"questions.{benchmark.name}"] = len(questions)
        counts[f"questions_indexed.{benchmark.name}"] = len({field.question_id for field, _ in of_it if field.clues})
        counts[f"questions_found.{benchmark.name}"] = len({field.question_id for field, n in of_it if n})
    return counts


def _pmid(document: Document) -> str | None:
    pmid = json.loads(document.native_metadata).get("pmid")
    return str(pmid) if pmid else None


def _clues(out: Path, shard: int) -> Path:
    return out / MARKS / "clues" / f"{shard:05d}"


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
