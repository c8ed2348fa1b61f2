"""Tokenisation: `python -m bench.tokenize [--json] [--realdata DIR] [--workers N]`.

Ours: documents in Parquet to sealed token shards, through the store as in a build. Theirs: what `tokenizers` itself can
do, `encode_batch_fast` with a thread a core on the same texts, which are in memory already, and nothing is written: the
most that any pipeline around it can reach. Both on every document of realdata, with two tokenizers: a byte-level BPE of
our own (16,384 entries) and OLMo's (50,280). `same_result`: every id of every document is compared.

Beside it `datatrove`: its reader, DocumentTokenizer and LocalPipelineExecutor from one of the files of Parquet to its
own shards; with as many tasks as there are cores it would have as many times the rate at most, and its `tokenizers`
already has a thread a core.
"""

import argparse
import gzip
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import orjson
import pyarrow.parquet as pq
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.readers import ParquetReader
from datatrove.pipeline.tokens import DocumentTokenizer
from datatrove.utils.logging import logger as datatrove_log
from tokenizers import Tokenizer

from bench import usable_cores
from domainlm.tasks.documents import Document, content_sha256, write_rows
from domainlm.tasks.manifest import Part, outside
from domainlm.tasks.runtime import Runtime
from domainlm.tasks.store import Sealed, Store
from domainlm.tasks.tokenize import TokenizeConfig, load_index, tokenize
from domainlm.tasks.train_tokenizer import TokenizerConfig, train_bpe, write_tokenizer
from domainlm.trainer.shards import Shard

REALDATA = Path("../shared/realdata")
FILES = 4
BATCH = 1_000


def main() -> None:
    """Measure, and print a table for people or an object for programs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--realdata", type=Path, default=REALDATA)
    parser.add_argument("--workers", type=int, default=usable_cores())
    arguments = parser.parse_args()
    datatrove_log.disable("datatrove")
    texts = read_texts(arguments.realdata)
    with tempfile.TemporaryDirectory() as folder:
        results = [
            measure(name, texts, directory, Path(folder) / name, arguments.workers)
            for name, directory in tokenizers(texts, arguments.realdata, Path(folder)).items()
        ]
    for result in results:
        line = "{tokenizer}: ours {ours} MB/s, tokenizers {theirs}, datatrove {datatrove}, ratio {ratio}, {encoder}"
        print(line.format(**result))
    worst = min(results, key=lambda result: float(str(result["ratio"])))
    summary = {**worst, "same_result": all(result["same_result"] for result in results), "of_each": results}
    print(json.dumps(summary) if arguments.json else f"same ids everywhere: {summary['same_result']}")


def read_texts(realdata: Path) -> list[str]:
    """Every document of realdata."""
    files = sorted(realdata.rglob("*.jsonl.gz"))
    if not files:
        sys.exit(f"no *.jsonl.gz below {realdata.resolve()}: give the directory of real text by --realdata.")
    return [orjson.loads(line)["text"] for path in files for line in gzip.decompress(path.read_bytes()).splitlines()]


def tokenizers(texts: Sequence[str], realdata: Path, folder: Path) -> dict[str, Path]:
    """The directories of the tokenizers, ours trained on a tenth of the documents."""
    write_tokenizer(train_bpe(texts[::10], TokenizerConfig(vocab_size=16_384)), folder / "own-16k")
    return {"own-16k": folder / "own-16k", "olmo-50k": realdata / "tokenizers/olmo-dolma-v1_5"}


def measure(name: str, texts: Sequence[str], tokenizer: Path, folder: Path, workers: int) -> dict[str, object]:
    """Both on the same texts, theirs first."""
    documents = write_documents(texts, folder / "documents")
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    theirs_s, ids = encode_in_memory(texts, tokenizer)
    part = outside(tokenizer, sorted(path for path in tokenizer.iterdir() if path.is_file()), origin=name)
    runtime = Runtime(store=folder / "store", workers=workers)
    started_s = time.perf_counter()
    sealed = tokenize.build(
        Store(runtime.store), TokenizeConfig(), {"documents": documents, "tokenizer": part}, runtime
    )
    ours_s = time.perf_counter() - started_s
    counts = sealed.manifest.counts
    return {
        "tokenizer": name,
        "ours": round(megabytes / ours_s, 2),
        "theirs": round(megabytes / theirs_s, 2),
        "ratio": round(theirs_s / ours_s, 2),
        "datatrove": round(datatrove_rate(documents.paths()[0], tokenizer, folder / "datatrove"), 2),
        "unit": "MB/s",
        "same_result": same_ids(sealed, ids),
        "encoder": next(count.removeprefix("encoded_by.") for count in counts if count.startswith("encoded_by.")),
        "documents": len(texts),
        "megabytes": round(megabytes, 1),
        "cores": usable_cores(),
        "workers": workers,
    }


def write_documents(texts: Sequence[str], folder: Path) -> Part:
    """The texts as a corpus in Parquet."""
    paths = []
    for number in range(FILES):
        rows = (
            Document(f"bench/{n}", texts[n], "bench", "CC0-1.0", "", "", None, content_sha256(texts[n]), None, "{}")
            for n in range(number, len(texts), FILES)
        )
        paths.append(folder / f"{number:05d}.parquet")
        write_rows(paths[-1], Document, rows)
    return outside(folder, paths, origin="bench")


def encode_in_memory(texts: Sequence[str], directory: Path) -> tuple[float, list[np.ndarray]]:
    """Seconds that `tokenizers` takes with every core, and the ids."""
    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    tokenizer.encode_special_tokens = True
    elapsed_s, ids = 0.0, []
    for start in range(0, len(texts), BATCH):
        batch = texts[start : start + BATCH]
        started_s = time.perf_counter()
        encodings = tokenizer.encode_batch_fast(batch, add_special_tokens=False)
        elapsed_s += time.perf_counter() - started_s
        ids += [np.array(encoding.ids, np.uint32) for encoding in encodings]
    return elapsed_s, ids


def datatrove_rate(file: Path, tokenizer: Path, folder: Path) -> float:
    """MB of text a second from a file of documents to datatrove's shards."""
    begun = json.loads((tokenizer / "tokenizer_config.json").read_text())
    pipeline = [
        ParquetReader(str(file.parent), glob_pattern=file.name, id_key="doc_id", doc_progress=False),
        DocumentTokenizer(str(folder), str(tokenizer / "tokenizer.json"), eos_token=begun["eos_token"]),
    ]
    started_s = time.perf_counter()
    LocalPipelineExecutor(pipeline, tasks=1, workers=1, logging_dir=str(folder / "logs")).run()
    elapsed_s = time.perf_counter() - started_s
    return sum(len(text.as_buffer()) for text in pq.read_table(file, columns=["text"])["text"]) / 1e6 / elapsed_s


def same_ids(sealed: Sealed, ids: Sequence[np.ndarray]) -> bool:
    """Whether the sealed shards hold the ids of every document, each once."""
    seen = 0
    for info in load_index(sealed.path / "tokens.json").shards:
        shard = Shard.open(sealed.path / info.file)
        for row in range(shard.num_documents):
            document = shard.document(row)
            if not np.array_equal(document.tokens[1:-1], ids[int(document.doc_id.removeprefix("bench/"))]):
                return False
            seen += 1
    return seen == len(ids)


if __name__ == "__main__":
    main()
