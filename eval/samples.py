"""What a model answered, question by question and document by document, on disk and in memory.

    samples/<benchmark>.jsonl        one `Sample` a line
    samples/held_out-<source>.jsonl  one `DocumentSample` a line

Log-likelihoods are sums in nats over " " + option, and bytes count that text. They are rounded to four
decimals: beyond that, float32 sums say more about the batch size than about the model.
"""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

from domainlm.trainer import strict

DECIMALS = 4
RowT = TypeVar("RowT")


@dataclass(frozen=True)
class Sample:
    """One question as answered: `choice` is the most likely option, the first of equals."""

    question_id: str
    log_likelihoods: tuple[float, ...]
    option_bytes: tuple[int, ...]
    choice: int
    answer: int
    correct: bool
    truncated: bool


@dataclass(frozen=True)
class SampleSet:
    """All samples of one benchmark; `protocol` is `Benchmark.protocol`, the digest of what was asked and how."""

    benchmark: str
    protocol: str
    samples: tuple[Sample, ...]


@dataclass(frozen=True)
class DocumentSample:
    """One held-out document: bits that the model needs for its text."""

    doc_id: str
    bits: float
    bytes: int
    tokens: int


@dataclass(frozen=True)
class HeldOutSet:
    """All held-out documents of one source; `protocol` is the digest of their ids and texts."""

    source: str
    protocol: str
    samples: tuple[DocumentSample, ...]


def write_lines(path: Path, rows: Iterable[Sample] | Iterable[DocumentSample]) -> None:
    """Write one JSON object a line, all or nothing."""
    write_text(path, "".join(json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in rows))


def write_text(path: Path, text: str) -> None:
    """Write a file under its final name only once it is complete and on disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    with partial.open("w", encoding="utf-8", newline="\n") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def read_samples(output: Path, benchmark: str) -> SampleSet:
    """The samples of one benchmark from a finished evaluation's directory."""
    protocol = _protocol(output, "benchmarks", benchmark)
    rows = _lines(Sample, output / "samples" / f"{benchmark}.jsonl")
    return SampleSet(benchmark, protocol, tuple(rows))


def read_held_out(output: Path, source: str) -> HeldOutSet:
    """The held-out documents of one source from a finished evaluation's directory."""
    protocol = _protocol(output, "held_out", source)
    rows = _lines(DocumentSample, output / "samples" / f"held_out-{source}.jsonl")
    return HeldOutSet(source, protocol, tuple(rows))


def _protocol(output: Path, kind: str, name: str) -> str:
    done = output / "done.json"
    if not done.is_file():
        raise FileNotFoundError(f"no done.json in {output}: the evaluation did not finish. Run it again.")
    entries: Mapping[str, Mapping[str, str]] = json.loads(done.read_text())[kind]
    if name not in entries:
        raise ValueError(f"{output} holds no {kind} entry {name!r}, only {', '.join(sorted(entries)) or 'none'}.")
    return entries[name]["protocol"]


def _lines(kind: type[RowT], path: Path) -> list[RowT]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return [strict.parse(kind, json.loads(line), f"{path}:{number}") for number, line in enumerate(lines, start=1)]
