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

Three passes over the shards: sketches of all documents; contents of those that a band proposes; what is kept. Between
them lie arrays on disk, and in memory at most a few numbers a document (docs/deduplication.md has the arithmetic).

Fates: `kept`, `exact_duplicate`, `near_duplicate`.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from domainlm.tasks.comparison import Contents, Sets, contents
from domainlm.tasks.dedup_shards import Shard, list_shards, read_column, write_kept, write_pairs, write_verdicts
from domainlm.tasks.document_shards import EmptyCorpus, run_shards
from domainlm.tasks.duplicates import Rows, find_duplicates, first_of_equals
from domainlm.tasks.engine import MARKS, clear_marks
from domainlm.tasks.manifest import Books
from domainlm.tasks.minhash import join_sketches, sketch
from domainlm.tasks.ngrams import Hashes
from domainlm.tasks.preference import license_ranks, preference
from domainlm.tasks.ragged import join_arrays, save_array
from domainlm.tasks.runtime import Runtime
from domainlm.tasks.stage import Inputs, stage
from domainlm.tasks.tables import bounded_batches

SKETCH = ("digests", "quantities", "chars", "bands")
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


@stage(version=2, disk_factor=4.0, resumes=True)
def deduplicate(config: DeduplicateConfig, inputs: Inputs, out: Path, runtime: Runtime) -> Books:
    """Sketch every document, find the duplicates, write the rest."""
    shards = list_shards(inputs)
    if not shards or not shards[-1].end:
        raise EmptyCorpus(f"None of the sources {', '.join(inputs)} has a document: nothing to deduplicate.")
    work = out / MARKS
    run_shards(partial(sketch_shard, shards, config, work), len(shards), out, runtime, name="sketches")
    doc_ids = read_column(shards, "doc_id")
    order = preference(doc_ids, license_ranks(read_column(shards, "license")), _joined(work, shards, "chars"))
    found = find_duplicates(
        first_of_equals(_joined(work, shards, "digests"), order),
        _joined(work, shards, "quantities"),
        _bands(work, shards, config),
        preference=order,
        min_jaccard=config.min_jaccard,
        contents_of=lambda rows: _contents_of(rows, shards, out, runtime),
    )
    write_verdicts(out, shards, found, doc_ids, threshold=f"jaccard {config.min_jaccard:g}")
    counts = write_pairs(out / "pairs" / "00000.parquet", found.pairs, doc_ids)
    np.save(work / "survivor.npy", found.survivor, allow_pickle=False)
    kept = run_shards(partial(write_kept, shards, out), len(shards), out, runtime, name="kept")
    clear_marks(out)
    exact, near = int(found.is_exact.sum()), int(found.is_near.sum())
    return Books(
        entered={
            source: sum(shard.end - shard.begin for shard in shards if shard.source == source) for source in inputs
        },
        fates={"kept": sum(kept.values()), "exact_duplicate": exact, "near_duplicate": near},
        counts=counts | {f"kept.{source}": float(kept.get(source, 0)) for source in inputs},
    )


def sketch_shard(shards: Sequence[Shard], config: DeduplicateConfig, work: Path, rank: int) -> dict[str, int]:
    """Write the sketches of one shard's documents."""
    batches = bounded_batches(shards[rank].path, ("text",))
    sketches = (sketch(batch["text"], bands=config.bands, band_hashes=config.band_hashes) for batch in batches)
    joined = join_sketches(sketches, bands=config.bands)
    for name in SKETCH:
        save_array(work / name / f"{rank:05d}.npy", getattr(joined, name))
    return {}


def hash_shard(shards: Sequence[Shard], work: Path, rank: int) -> dict[str, int]:
    """Write the contents of those documents of one shard that are to be compared."""
    shard = shards[rank]
    rows = np.load(work / "compared.npy", mmap_mode="r")
    begin, end = np.searchsorted(rows, [shard.begin, shard.end])
    wanted = np.zeros(shard.end - shard.begin, dtype=np.bool_)
    wanted[rows[begin:end] - shard.begin] = True
    found = [contents(texts) for texts in _chosen(shard, wanted)] if wanted.any() else []
    for name in CONTENT:
        sets: list[Sets] = [getattr(one, name) for one in found]
        values = [np.empty(0, np.uint64), *(one.values for one in sets)]
        lengths = [np.empty(0, np.int64), *(np.diff(one.ends, prepend=0) for one in sets)]
        save_array(work / f"{name}.values" / f"{rank:05d}.npy", np.concatenate(values))
        save_array(work / f"{name}.lengths" / f"{rank:05d}.npy", np.concatenate(lengths))
    return {}


def _chosen(shard: Shard, wanted: NDArray[np.bool_]) -> Iterator[pa.Array]:
    begin = 0
    for batch in bounded_batches(shard.path, ("text",)):
        here = wanted[begin : begin + len(batch)]
        begin += len(batch)
        if here.any():
            yield batch["text"].filter(pa.array(here))


def _contents_of(rows: Rows, shards: Sequence[Shard], out: Path, runtime: Runtime) -> Contents:
    """The contents of these rows (sorted), as views of arrays on disk."""
    work = out / MARKS
    np.save(work / "compared.npy", rows, allow_pickle=False)
    run_shards(partial(hash_shard, shards, work), len(shards), out, runtime, name="contents")

    def sets(name: str) -> Sets:
        values = join_arrays(_files(work / f"{name}.values", shards), work / f"{name}.npy")
        return Sets(values, np.cumsum(_joined(work, shards, f"{name}.lengths")))

    return Contents(*map(sets, CONTENT))


def _bands(work: Path, shards: Sequence[Shard], config: DeduplicateConfig) -> Iterator[Hashes]:
    """The keys of all documents, a band at a time."""
    for band in range(config.bands):
        yield np.concatenate([np.load(path, mmap_mode="r")[band] for path in _files(work / "bands", shards)])


def _joined(work: Path, shards: Sequence[Shard], name: str) -> NDArray[Any]:
    return np.concatenate([np.load(path) for path in _files(work / name, shards)])


def _files(folder: Path, shards: Sequence[Shard]) -> list[Path]:
    return [folder / f"{rank:05d}.npy" for rank in range(len(shards))]
