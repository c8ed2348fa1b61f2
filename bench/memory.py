"""Memory: `python -m bench.memory [--json] [--documents 3000] [--stage filter ...]`.

Peak memory of each document stage on N and on 10 N documents, in one input file, each in a process of its own with one
worker; children are counted. `ratio` is the worst of (10 N) / N: 1 is flat. What is counted is anonymous memory; pages
of mapped files, which the kernel takes back when it needs them, are shown beside it. `bytes_per_document` tells of
growth that a large constant hides.

The documents are synthetic: some 3 kB each of invented words, no two alike. Nothing is fetched.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import orjson

from domainlm.tasks.documents import Document, content_sha256, write_rows
from domainlm.tasks.manifest import Part, outside
from domainlm.tasks.runtime import Runtime
from domainlm.tasks.store import Store
from domainlm.trainer.supervisor import descendants

FLAT = 1.2  # the peak for ten times the documents is at most so many times as large
POLL_S = 0.02
WORDS = 240  # invented ones of a document, each after an English one
ENGLISH = (
    "the of and to in that was he for it with as his on be at by had not are but from or have an they which one you "
    "were her all she there would their we him been has when who will more no if out so said what up its about into"
)
VOCABULARY = 30_000
SHARD_TOKENS = 1_000_000  # several shards of tokens for N too: a rank holds one


def main() -> None:
    """Measure, and print a table for people or an object for programs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--documents", type=int, default=3_000)
    parser.add_argument("--stage", action="append", choices=sorted(STAGES))
    parser.add_argument("--build", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.build:
        STAGES[arguments.stage[0]](arguments.build)
        return
    stages = {name: measure(name, arguments.documents) for name in arguments.stage or STAGES}
    for name, found in stages.items():
        print(f"{name:14} {found['mb']:>7} MB -> {found['mb_of_10']:>7} MB, {found['ratio']}")
    worst = max(stages.values(), key=lambda found: found["ratio"])
    flat = all(found["ratio"] <= FLAT for found in stages.values())
    summary = {"ours": worst["mb_of_10"], "theirs": worst["mb"], "ratio": worst["ratio"], "unit": "MB, 10 N against N"}
    print(json.dumps({**summary, "same_result": flat, "of_each": stages}) if arguments.json else f"flat: {flat}")


def measure(stage: str, documents: int) -> dict[str, float]:
    """The peaks of one stage."""
    (small, mapped), (large, large_mapped) = (_peak(stage, count) for count in (documents, 10 * documents))
    return {
        "mb": round(small / 1e6, 1),
        "mb_of_10": round(large / 1e6, 1),
        "ratio": round(large / small, 3),
        "bytes_per_document": round((large - small) / (9 * documents)),
        "mapped_mb": round(mapped / 1e6, 1),
        "mapped_mb_of_10": round(large_mapped / 1e6, 1),
    }


def _peak(stage: str, documents: int) -> tuple[int, int]:
    """Peak bytes of anonymous and of file memory, of a process that builds `stage` and of all below it."""
    with tempfile.TemporaryDirectory() as folder:
        write_inputs(Path(folder), documents)
        if stage == "filter":  # it selects by what annotate has measured
            _watched("annotate", Path(folder))
        return _watched(stage, Path(folder))


def _watched(stage: str, folder: Path) -> tuple[int, int]:
    command = [sys.executable, "-m", "bench.memory", "--stage", stage, "--build", str(folder)]
    anonymous = mapped = 0
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as child:
        while child.poll() is None:
            now = [_memory(pid) for pid in (child.pid, *descendants(child.pid))]
            anonymous = max(anonymous, sum(one[0] for one in now))
            mapped = max(mapped, sum(one[1] for one in now))
            time.sleep(POLL_S)
        said = child.stderr.read() if child.stderr else ""
    if child.returncode:
        sys.exit(f"{stage} ended with {child.returncode}:\n{said[-3000:]}")
    return anonymous, mapped


def _memory(pid: int) -> tuple[int, int]:
    """Anonymous and file bytes of a process, pages shared with others in proportion; 0 if it is gone."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return 0, 0
    sizes = {line.split()[0]: int(line.split()[1]) * 1024 for line in lines[1:]}
    return sizes["Pss_Anon:"] + sizes["Pss_Shmem:"], sizes["Pss_File:"]


def write_inputs(folder: Path, documents: int) -> None:
    """The same documents as JSONL and as Parquet, each in one file."""
    with (folder / "documents.jsonl").open("wb") as file:
        for number, text in enumerate(texts(documents)):
            file.write(orjson.dumps({"id": str(number), "text": text, "license": "CC0-1.0"}) + b"\n")
    rows = (
        Document(f"bench/{n}", text, "bench", "CC0-1.0", "", "", None, content_sha256(text), None, "{}")
        for n, text in enumerate(texts(documents))
    )
    write_rows(folder / "documents.parquet", Document, rows)


def texts(documents: int) -> Iterator[str]:
    """Sentences of English and invented words; these come in the frequencies of a language."""
    generator = np.random.default_rng(0)
    syllables = [a + b for a in "bdfghklmnprstv" for b in "aeiou"]
    words = ["".join(generator.choice(syllables, 1 + n % 4)) for n in range(VOCABULARY)]
    english = ENGLISH.split()
    for number in range(documents):
        invented, common = generator.zipf(1.2, WORDS), generator.integers(0, len(english), WORDS)
        mixed = [f"{english[one]} {words[other % VOCABULARY]}" for one, other in zip(common, invented, strict=True)]
        sentences = (" ".join(mixed[start : start + 8]).capitalize() for start in range(0, WORDS, 8))
        yield f"This is the report {number} of the study. {'. '.join(sentences)}."


def _part(folder: Path, name: str) -> Part:
    return outside(folder, [folder / name], origin=name)


def _acquire(folder: Path) -> None:
    from domainlm.tasks.acquire import AcquireConfig, acquire

    inputs = {"files": _part(folder, "documents.jsonl")}
    acquire.build(Store(folder / "store"), AcquireConfig(name="bench", format="jsonl"), inputs, _runtime(folder))


def _annotate(folder: Path) -> None:
    from domainlm.tasks.annotate import annotate
    from domainlm.tasks.filter import FilterConfig

    inputs = {"documents": _part(folder, "documents.parquet")}
    annotate.build(Store(folder / "store"), FilterConfig().annotate_config(), inputs, _runtime(folder))


def _filter(folder: Path) -> None:
    """After `annotate`, which ran in a process of its own."""
    from domainlm.tasks.filter import FilterConfig
    from domainlm.tasks.filter import filter as filter_documents

    annotated = next((folder / "store").glob("annotate-*/annotated"))
    inputs = {"documents": _part(folder, "documents.parquet"), "annotations": _part(annotated, "00000.parquet")}
    filter_documents.build(Store(folder / "store"), FilterConfig(), inputs, _runtime(folder))


def _deduplicate(folder: Path) -> None:
    from domainlm.tasks.deduplicate import DeduplicateConfig, deduplicate

    inputs = {"bench": _part(folder, "documents.parquet")}
    deduplicate.build(Store(folder / "store"), DeduplicateConfig(), inputs, _runtime(folder))


def _decontaminate(folder: Path) -> None:
    from domainlm.eval.benchmarks import Benchmark
    from domainlm.tasks.decontaminate import DecontaminateStageConfig, decontaminate

    rows = [
        {
            "id": str(n),
            "sent1": text[:300],
            "label": 0,
            **{f"ending{k}": text[300 + 9 * k : 309 + 9 * k] for k in range(4)},
        }
        for n, text in enumerate(texts(50))
    ]
    (folder / "questions.jsonl").write_bytes(b"\n".join(map(orjson.dumps, rows)))
    config = DecontaminateStageConfig(benchmarks=(Benchmark(name="medqa", form="medqa", path="questions.jsonl"),))
    inputs = {"documents": _part(folder, "documents.parquet"), "benchmark.medqa": _part(folder, "questions.jsonl")}
    decontaminate.build(Store(folder / "store"), config, inputs, _runtime(folder))


def _tokenize(folder: Path) -> None:
    from domainlm.tasks.tokenize import TokenizeConfig, tokenize
    from domainlm.tasks.train_tokenizer import TokenizerConfig, train_bpe, write_tokenizer

    write_tokenizer(train_bpe(texts(300), TokenizerConfig(vocab_size=2_000)), folder / "tokenizer")
    tokenizer = outside(folder / "tokenizer", sorted((folder / "tokenizer").iterdir()), origin="tokenizer")
    inputs = {"documents": _part(folder, "documents.parquet"), "tokenizer": tokenizer}
    tokenize.build(Store(folder / "store"), TokenizeConfig(shard_tokens=SHARD_TOKENS), inputs, _runtime(folder))


def _runtime(folder: Path) -> Runtime:
    return Runtime(store=folder / "store")


STAGES: Mapping[str, Callable[[Path], None]] = {
    "acquire": _acquire,
    "annotate": _annotate,
    "filter": _filter,
    "deduplicate": _deduplicate,
    "decontaminate": _decontaminate,
    "tokenize": _tokenize,
}

if __name__ == "__main__":
    main()
