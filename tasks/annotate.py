"""Annotate one source: measure everything that the rules of `filter` ask about, with no threshold in it.

In: `documents` (shards of Parquet), and `domain` (the model of `learn_domain`) where it is asked for. Out, one file an
input shard:

    annotated/00000.parquet     a row a document in the same order, a column a measure: `gopher_quality.alphabetic`

Another threshold changes no annotation: `filter` selects anew from these numbers, and the text is not measured again.
"""

from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from domainlm.tasks import language
from domainlm.tasks.annotators import boilerplate_shares, retracted, under_concern
from domainlm.tasks.datatrove_filters import DatatroveFilter, reasons
from domainlm.tasks.document_shards import run_shards
from domainlm.tasks.domain import Weights, load_weights, scores
from domainlm.tasks.engine import clear_marks
from domainlm.tasks.manifest import Books, Part
from domainlm.tasks.quality import measures
from domainlm.tasks.quality.counts import count
from domainlm.tasks.runtime import Runtime
from domainlm.tasks.stage import Inputs, stage
from domainlm.tasks.tables import bounded_batches, write_tables

READ = ("doc_id", "text", "license", "native_metadata")


class AnnotateConfig(BaseModel):
    """What is measured: only what a rule of the recipe asks about. `FilterConfig.annotate_config` fills it in."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="Annotate")

    quality: bool = Field(False, title="Quality", description="Words, lines, n-grams: Gopher, C4, FineWeb, length.")
    languages: tuple[str, ...] | None = Field(
        None, title="Languages", description="Those that are told apart, all if empty; null to identify none."
    )
    phrases: tuple[str, ...] = Field((), title="Phrases", description="What makes a sentence boilerplate.")
    datatrove: tuple[DatatroveFilter, ...] = Field((), title="datatrove", description="Its filters that are asked.")
    domain: bool = Field(False, title="Domain", description="Whether it is of the domain, by the model given as input.")


@stage(version=2, disk_factor=0.2, resumes=True)
def annotate(config: AnnotateConfig, inputs: Inputs, out: Path, runtime: Runtime) -> Books:
    """Measure every document."""
    documents = inputs["documents"]
    if config.languages is not None:
        language.load_model(config.languages)  # a language that it does not know stops the stage here
    weights = load_weights(inputs["domain"].paths()[0].parent) if config.domain else None
    work = partial(annotate_shard, config=config, documents=documents, out=out, weights=weights)
    if config.quality:
        count(pa.array([""]))  # compiles the kernels once; each worker would, were they not on disk
    counts = run_shards(work, len(documents.files), out, runtime)
    clear_marks(out)
    annotated = counts.get("annotated", 0)
    return Books(entered={"documents": annotated}, fates={"annotated": annotated})


def annotate_shard(
    shard: int, *, config: AnnotateConfig, documents: Part, out: Path, weights: Weights | None = None
) -> Counter[str]:
    """Annotate one file of documents."""
    tables = (annotations(batch, config, weights) for batch in bounded_batches(documents.paths()[shard], READ))
    return Counter(annotated=write_tables(out / "annotated" / f"{shard:05d}.parquet", schema_of(config), tables))


def annotations(documents: pa.RecordBatch, config: AnnotateConfig, weights: Weights | None = None) -> pa.Table:
    """The annotations of a batch of documents, a row each; `weights` are the domain's, where it is asked about."""
    return pa.table(list(_columns(documents, config, weights)), schema=schema_of(config))


def schema_of(config: AnnotateConfig) -> pa.Schema:
    """The columns that a config asks for."""
    fields = [pa.field("doc_id", pa.string()), pa.field("license", pa.string())]
    fields += [pa.field("retracted", pa.bool_()), pa.field("under_concern", pa.bool_())]
    if config.quality:
        fields += list(measures.SCHEMA)
    if config.languages is not None:
        fields += [pa.field("language", pa.string()), pa.field("language.score", pa.float64())]
    if config.phrases:
        fields.append(pa.field("boilerplate.share", pa.float64()))
    fields += [pa.field(f"datatrove.{asked.filter}", pa.string()) for asked in config.datatrove]
    if config.domain:
        fields.append(pa.field("domain.score", pa.float64()))
    return pa.schema(fields)


def _columns(documents: pa.RecordBatch, config: AnnotateConfig, weights: Weights | None) -> Iterator[pa.Array]:
    texts = documents["text"]
    yield documents["doc_id"]
    yield documents["license"]
    yield retracted(texts, documents["native_metadata"])
    yield under_concern(documents["native_metadata"])
    if config.quality:
        yield from measures.measure(texts)
    if config.languages is not None:
        yield from language.identify(texts, config.languages)
    if config.phrases:
        yield boilerplate_shares(texts, config.phrases)
    yield from (reasons(texts, asked) for asked in config.datatrove)
    if weights is not None:
        yield scores(texts, weights)
