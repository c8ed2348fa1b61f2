"""Speed of the quality rules against stock datatrove, on one core: `python -m bench.filters [--json] [--all]`.

Ours: Gopher quality, Gopher repetition, C4 and FineWeb with their published thresholds, from Arrow text to keep or drop.
Theirs: datatrove's four blocks on the same documents, with their own tokenizer (spaCy, from the extra `bench`), and with
ours. The same decision is asked of every document and block; `--all` asks it of all real documents, not of a sample.
"""

import argparse
import json
import random
import sys
import tempfile
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
from datatrove.data import Document as TroveDocument
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.filters import (
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
)
from datatrove.pipeline.filters.base_filter import BaseFilter
from datatrove.pipeline.readers import ParquetReader
from datatrove.pipeline.writers import ParquetWriter
from datatrove.utils.logging import logger as datatrove_log

from bench.texts import Corpus, real_corpora, sample, synthetic_corpus
from domainlm.tasks.annotate import annotate_shard, annotations
from domainlm.tasks.documents import Document, content_sha256, write_rows
from domainlm.tasks.filter import FilterConfig, filter_shard, opinions
from domainlm.tasks.manifest import outside
from domainlm.tasks.profiles import PROFILES
from domainlm.tasks.tables import BATCH_BYTES
from domainlm.tasks.words import WORDS

RULES = ("gopher_quality", "gopher_repetition", "c4", "fineweb")
PUBLISHED = FilterConfig(rules=tuple(settings for settings in PROFILES["web"] if settings.rule in RULES))
SAMPLE_BYTES = 250_000  # of each source, and of the synthetic corpus: spaCy parts 0.2 MB/s
REPETITIONS = 3


def main() -> None:
    """Measure, and print a table for people or an object for programs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--realdata", type=Path, default=Path("../shared/realdata"))
    parser.add_argument("--all", action="store_true", help="compare the decisions on every real document (a minute)")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    datatrove_log.disable("datatrove")
    warnings.filterwarnings("ignore", "Mean of empty slice|invalid value", RuntimeWarning)
    result = measure(real_corpora(arguments.realdata), compare_all=arguments.all)
    if arguments.json:
        print(json.dumps(result))
    else:
        print("\n".join(f"{name:<28} {value}" for name, value in result.items()))


def measure(real: Sequence[Corpus], *, compare_all: bool) -> dict[str, object]:
    """Rates in MB of text a second on a sample of the real corpora, and their ratios."""
    texts = [text for corpus in real for text in sample(corpus.texts, SAMPLE_BYTES)]
    long = synthetic_corpus(megabytes=50, seed=0)
    compared = [text for corpus in real for text in corpus.texts] if compare_all else texts
    ours = rate(texts, lambda: decide(texts))
    stock, regex = rate_of_chain(texts, stock_blocks()), rate_of_chain(texts, our_blocks())
    ours_long = rate(long, lambda: decide(long))
    short = sample(long, 4 * SAMPLE_BYTES)
    stock_long = rate_of_chain(short, stock_blocks())
    with tempfile.TemporaryDirectory() as folder:
        ours_stage, stock_stage = rate_of_stages(texts, Path(folder))
    return {
        "ours": round(ours, 2),
        "theirs": round(stock, 3),
        "ratio": round(ours / stock, 1),
        "unit": "MB of text a second, one core",
        "same_result": decide(compared) == [decide_by_blocks(text) for text in compared],
        "documents_compared": len(compared),
        "theirs_with_our_words": round(regex, 3),
        "ratio_with_our_words": round(ours / regex, 1),
        "synthetic_ours": round(ours_long, 2),
        "synthetic_theirs": round(stock_long, 3),
        "synthetic_ratio": round(ours_long / stock_long, 1),
        "stage_ours": round(ours_stage, 2),
        "stage_theirs": round(stock_stage, 3),
        "stage_ratio": round(ours_stage / stock_stage, 1),
        "real_documents": len(texts),
        "real_megabytes": round(megabytes(texts), 1),
    }


def decide(texts: Sequence[str]) -> list[tuple[bool, ...]]:
    """Whether each rule keeps each text, by our measures."""
    decided: list[tuple[bool, ...]] = []
    for batch in batches(texts):
        table = annotations(batch, PUBLISHED.annotate_config())
        keeps = {rule: [True] * len(table) for rule in RULES}
        for opinion in opinions(PUBLISHED, table):
            for row in opinion.objects:
                keeps[opinion.rule][row] = False
        decided += zip(*keeps.values(), strict=True)
    return decided


def decide_by_blocks(text: str) -> tuple[bool, ...]:
    """Whether each of datatrove's blocks keeps the text, given our words; without a word they divide by zero."""
    return tuple(bool(text.strip()) and block.filter(TroveDocument(text=text, id="")) is True for block in our_blocks())


def stock_blocks() -> list[BaseFilter]:
    """datatrove's chain as it comes, but for Gopher's limits of length, which are another rule of ours."""
    unlimited = GopherQualityFilter(min_doc_words=None, max_doc_words=None)
    return [unlimited, GopherRepetitionFilter(), C4QualityFilter(), FineWebQualityFilter()]


def our_blocks() -> list[BaseFilter]:
    """The same with our word tokenizer."""
    return [
        GopherQualityFilter(min_doc_words=None, max_doc_words=None, language=WORDS),
        *(block(language=WORDS) for block in (GopherRepetitionFilter, C4QualityFilter, FineWebQualityFilter)),
    ]


def rate_of_chain(texts: Sequence[str], blocks: Sequence[BaseFilter]) -> float:
    """MB a second through the blocks, each of which sees what the one before it kept."""
    list(map(blocks[0].filter, [TroveDocument(text="It loads the tokenizer.", id="")]))

    def work() -> None:
        for number, text in enumerate(texts):
            document = TroveDocument(text=text, id=str(number))
            all(block.filter(document) is True for block in blocks)

    return rate(texts, work, repetitions=1)


def rate_of_stages(texts: Sequence[str], folder: Path) -> tuple[float, float]:
    """MB a second from Parquet to Parquet: our stages `annotate` and `filter`, and datatrove's pipeline."""
    source = folder / "in" / "00000.parquet"
    write_rows(source, Document, (document(number, text) for number, text in enumerate(texts)))
    documents = outside(folder, [source], origin="bench")

    def ours() -> None:
        annotate_shard(0, config=PUBLISHED.annotate_config(), documents=documents, out=folder / "ours")
        measured = outside(folder / "ours", [folder / "ours" / "annotated" / "00000.parquet"], origin="bench")
        filter_shard(0, config=PUBLISHED, documents=documents, annotations=measured, out=folder / "ours")

    def stock() -> None:
        reader = ParquetReader(str(source.parent), id_key="doc_id", doc_progress=False)
        pipeline: list[PipelineStep] = [reader, *stock_blocks(), ParquetWriter(str(folder / "theirs"))]
        data = None
        for step in pipeline:
            data = step(data, 0, 1)
        deque(data, maxlen=0)

    return rate(texts, ours), rate(texts, stock, repetitions=1)


def rate(texts: Sequence[str], work: Callable[[], object], *, repetitions: int = REPETITIONS) -> float:
    """MB of text a second of processor time, the best of some repetitions after one that compiles."""
    if repetitions > 1:
        work()
    best_s = float("inf")
    for _ in range(repetitions):
        started_s = time.process_time()
        work()
        best_s = min(best_s, time.process_time() - started_s)
    return megabytes(texts) / best_s


def megabytes(texts: Sequence[str]) -> float:
    """UTF-8 bytes in millions."""
    return sum(len(text.encode()) for text in texts) / 1e6


def batches(texts: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """The texts as record batches like those of a file of documents."""
    start = 0
    while start < len(texts):
        stop, size = start, 0
        while stop < len(texts) and (stop == start or size + len(texts[stop]) <= BATCH_BYTES):
            size += len(texts[stop])
            stop += 1
        chosen = pa.array(texts[start:stop], pa.string())
        rest = pa.array([""] * (stop - start))
        columns = {"doc_id": rest, "text": chosen, "license": rest, "native_metadata": rest}
        yield pa.RecordBatch.from_pydict(columns)
        start = stop


def document(number: int, text: str) -> Document:
    """A document as `acquire` writes it."""
    digest = content_sha256(text)
    return Document(f"bench/{number}", text, "bench", "CC0-1.0", "bench", "bench", None, digest, None, "{}")


if __name__ == "__main__":
    random.seed(0)  # datatrove's blocks draw nothing; if one ever does, it draws the same
    sys.exit(main())
