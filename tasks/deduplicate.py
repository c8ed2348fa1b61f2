"""Deduplicate all sources at once: of documents that say the same one is kept, whatever source it came from.

In: one input a source, shards of Parquet. Out:

    kept/<source>/00000.parquet       one file an input shard, empty where every document of it was a duplicate
    verdicts/<source>/00000.parquet   for each document that was dropped: the rule, and the document that is kept for it
    pairs/00000.parquet               every pair that was compared: doc_id_a, doc_id_b, kind, jaccard, decision

Exact duplicates are equal but for blanks. Near-duplicates are proposed by minhash and decided by an exact check of
both texts: Jaccard similarity of their word 5-grams, the very same quantities (two summaries that differ only in a
dose are both kept), and the same subject (so are two leaflets that differ in the name of the drug). A document is
dropped only for a survivor that it was itself compared with, never along a chain. The survivor is the one with the
more permissive licence, then the longer, then the first by id; so the result depends neither on the order of the
sources nor on workers or shards.

Fates: `kept`, `exact_duplicate`, `near_duplicate`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from domainlm.tasks.comparison import Content, content
from domainlm.tasks.document_shards import EmptyCorpus, run_shards
from domainlm.tasks.documents import Document, Verdict, read_documents, write_rows
from domainlm.tasks.duplicates import DECISIONS, Duplicates, Rows, find_duplicates
from domainlm.tasks.engine import MARKS, clear_marks
from domainlm.tasks.manifest import Books
from domainlm.tasks.minhash import sketch, sketch_type
from domainlm.tasks.preference import preference
from domainlm.tasks.ragged import load_ragged, save_array, save_ragged
from domainlm.tasks.runtime import Runtime
from domainlm.tasks.stage import Inputs, stage

CONTENT = ("shingles", "words", "repeated")


class DeduplicateConfig(BaseModel):
    """When two documents say the same."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="Deduplicate")

    min_jaccard: float = Field(
        0.8, gt=0, le=1, title="Least similarity", description="Of the sets of word 5-grams, for a near-duplicate."
    )
    bands: PositiveInt = Field(
        20,
        title="Bands",
        description="Bands of the signature; pairs that agree in one are compared. At 20 bands of 6 the chance is "
        "0.998 for a similarity of 0.8, and 0.27 for 0.5.",
    )
    band_hashes: PositiveInt = Field(6, title="Hashes in a band", description="More propose fewer pairs.")


@dataclass(frozen=True)
class Shard:
    """One input file, the name of its outputs, and where its documents stand among those of all shards."""

    path: Path
    source: str
    name: str
    begin: int
    end: int


@stage(version=1, disk_factor=3.0, resumes=True)
def deduplicate(config: DeduplicateConfig, inputs: Inputs, out: Path, runtime: Runtime) -> Books:
    """Sketch every document, find the duplicates, write the rest."""
    shards = list_shards(inputs)
    num_documents = shards[-1].end if shards else 0
    if not num_documents:
        raise EmptyCorpus(f"None of the sources {', '.join(inputs)} has a document: nothing to deduplicate.")
    work = out / MARKS
    run_shards(partial(sketch_shard, shards, config, work), len(shards), out, runtime, name="sketches")
    sketches = _gather(work, shards, config)
    doc_ids = _column(shards, "doc_id")
    duplicates = find_duplicates(
        sketches,
        preference=preference(doc_ids, _column(shards, "license"), sketches["chars"]),
        bands=config.bands,
        min_jaccard=config.min_jaccard,
        contents_of=lambda rows: _contents_of(rows, shards, out, runtime),
    )
    write_verdicts(out, shards, duplicates, doc_ids, config)
    counts = write_pairs(out / "pairs" / "00000.parquet", duplicates, doc_ids)
    np.save(work / "survivor.npy", duplicates.survivor, allow_pickle=False)
    kept = run_shards(partial(write_kept, shards, out), len(shards), out, runtime, name="kept")
    clear_marks(out)
    exact, near = int(duplicates.is_exact.sum()), int(duplicates.is_near.sum())
    return Books(
        entered={
            source: sum(shard.end - shard.begin for shard in shards if shard.source == source) for source in inputs
        },
        fates={"kept": sum(kept.values()), "exact_duplicate": exact, "near_duplicate": near},
        counts=counts | {f"kept.{source}": float(kept.get(source, 0)) for source in inputs},
    )


def list_shards(inputs: Inputs) -> list[Shard]:
    """All input files by source and number: the order of documents that everything here counts in."""
    shards: list[Shard] = []
    begin = 0
    for source in sorted(inputs):
        for number, path in enumerate(inputs[source].paths()):
            end = begin + int(pq.read_metadata(path).num_rows)
            shards.append(Shard(path, source, f"{number:05d}", begin, end))
            begin = end
    return shards


def sketch_shard(shards: Sequence[Shard], config: DeduplicateConfig, work: Path, rank: int) -> dict[str, int]:
    """Write the sketches of one shard's documents."""
    rows = sketch((document.text for document in read_documents(shards[rank].path)), config.bands * config.band_hashes)
    save_array(work / "sketches" / "rows" / f"{rank:05d}.npy", rows)
    return {}


def hash_shard(shards: Sequence[Shard], work: Path, rank: int) -> dict[str, int]:
    """Write the contents of those documents of one shard that are to be compared."""
    shard = shards[rank]
    wanted = set((_span(np.load(work / "compared.npy", mmap_mode="r"), shard) - shard.begin).tolist())
    found = [content(d.text) for row, d in enumerate(read_documents(shard.path)) if row in wanted] if wanted else []
    for name in CONTENT:
        save_ragged(work / "contents" / name / f"{rank:05d}", [getattr(one, name) for one in found])
    return {}


def write_kept(shards: Sequence[Shard], out: Path, rank: int) -> dict[str, int]:
    """Write the documents of one shard that survive."""
    shard = shards[rank]
    survivor = np.load(out / MARKS / "survivor.npy", mmap_mode="r")
    kept = survivor[shard.begin : shard.end] == np.arange(shard.begin, shard.end)
    documents = (document for document, keep in zip(read_documents(shard.path), kept, strict=True) if keep)
    return {shard.source: write_rows(out / "kept" / shard.source / f"{shard.name}.parquet", Document, documents)}


def write_verdicts(
    out: Path, shards: Sequence[Shard], found: Duplicates, doc_ids: pa.ChunkedArray, config: DeduplicateConfig
) -> None:
    """Write, for each dropped document, the rule and the id of the document that is kept instead."""
    for shard in shards:
        rows = np.arange(shard.begin, shard.end)
        dropped = rows[found.survivor[shard.begin : shard.end] != rows]
        verdicts = (
            Verdict(
                doc_id=doc_ids[row].as_py(),
                rule="deduplicate.exact" if found.is_exact[row] else "deduplicate.near",
                value=doc_ids[found.survivor[row]].as_py(),
                threshold="equal but for blanks" if found.is_exact[row] else f"jaccard {config.min_jaccard:g}",
                keep=False,
            )
            for row in dropped.tolist()
        )
        write_rows(out / "verdicts" / shard.source / f"{shard.name}.parquet", Verdict, verdicts)


def write_pairs(path: Path, found: Duplicates, doc_ids: pa.ChunkedArray) -> dict[str, float]:
    """Write every pair that was compared, with its score and what was decided; returns how many of each decision."""
    pairs = found.pairs
    kinds, decisions = pa.array(["near", "exact"]), pa.array(DECISIONS)
    table = pa.table(
        {
            "doc_id_a": doc_ids.take(pa.array(pairs["a"])),
            "doc_id_b": doc_ids.take(pa.array(pairs["b"])),
            "kind": kinds.take(pa.array(pairs["exact"].astype(np.int8))),
            "jaccard": pa.array(pairs["jaccard"]),
            "decision": decisions.take(pa.array(pairs["decision"])),
        }
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    pq.write_table(table, temporary, compression="zstd", store_schema=False)
    temporary.replace(path)
    tally = np.bincount(pairs["decision"], minlength=len(DECISIONS))
    return {f"pairs.{name.replace(' ', '_')}": float(n) for name, n in zip(DECISIONS, tally, strict=True)}


def _gather(work: Path, shards: Sequence[Shard], config: DeduplicateConfig) -> NDArray[np.void]:
    """All sketches as one array on disk."""
    kind = sketch_type(config.bands * config.band_hashes)
    gathered = np.lib.format.open_memmap(work / "sketches.npy", mode="w+", dtype=kind, shape=(shards[-1].end,))
    for rank, shard in enumerate(shards):
        gathered[shard.begin : shard.end] = np.load(work / "sketches" / "rows" / f"{rank:05d}.npy")
    rows: NDArray[np.void] = gathered
    return rows


def _contents_of(rows: Rows, shards: Sequence[Shard], out: Path, runtime: Runtime) -> list[Content]:
    """The contents of these rows (sorted), as views of arrays on disk."""
    work = out / MARKS
    np.save(work / "compared.npy", rows, allow_pickle=False)
    run_shards(partial(hash_shard, shards, work), len(shards), out, runtime, name="contents")
    columns = [
        [array for rank in range(len(shards)) for array in load_ragged(work / "contents" / name / f"{rank:05d}")]
        for name in CONTENT
    ]
    return [Content(*arrays) for arrays in zip(*columns, strict=True)]


def _span(rows: Rows, shard: Shard) -> Rows:
    begin, end = np.searchsorted(rows, [shard.begin, shard.end])
    return rows[begin:end]


def _column(shards: Sequence[Shard], name: str) -> pa.ChunkedArray:
    tables = [pq.read_table(shard.path, columns=[name]) for shard in shards]
    return pa.concat_tables(tables)[name]
