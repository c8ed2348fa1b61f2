"""One evaluation from beginning to end: a `Job` in, a directory of scores out.

    output/samples/<benchmark>.jsonl, samples/held_out-<source>.jsonl
    output/scores.json     list of `Score`, in the order of the recipe, then the held-out sources by name
    output/done.json       written last: protocols, sizes, seconds; its presence means complete

The same job gives the same bytes of samples and scores; only done.json holds seconds.
Progress is a JSON line on stderr, at most two a second: {"progress": {"done", "total", "unit", "note"}}.
"""

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from transformers import PreTrainedModel

from domainlm.eval.benchmarks import Benchmark, Question, file_digest, load_questions
from domainlm.eval.bits_per_byte import measure, score_held_out
from domainlm.eval.config import Job
from domainlm.eval.harness import ask
from domainlm.eval.models import Encoder, context_limit, load_encoder, load_model
from domainlm.eval.samples import write_lines, write_text
from domainlm.eval.scores import Score, score_benchmark

MIN_INTERVAL_S = 0.5  # between two lines of progress


@dataclass(frozen=True)
class Subject:
    """The model under evaluation, loaded."""

    model: PreTrainedModel
    encoder: Encoder
    context_tokens: int


@dataclass(frozen=True)
class Part:
    """One benchmark or held-out source, finished: `protocol` says what was measured, `num_items` how much of it."""

    protocol: str
    num_items: int
    seconds: float


def evaluate(job: Job) -> list[Score]:
    """Ask every benchmark, measure every held-out source, write the directory."""
    started_s = time.monotonic()
    questions = [load_questions(benchmark) for benchmark in job.benchmarks]  # a bad file fails before the model loads
    (job.output / "done.json").unlink(missing_ok=True)
    subject = _load(job)
    scores: list[Score] = []
    asked = {
        benchmark.name: _ask(job, subject, benchmark, rows, scores)
        for benchmark, rows in zip(job.benchmarks, questions, strict=True)
    }
    read = {source: _read(job, subject, source, folder, scores) for source, folder in sorted(job.held_out.items())}
    _write_json(job.output / "scores.json", [asdict(score) for score in scores])
    done = {
        "schema": 1,
        "weights": job.weights,
        "parameters": subject.model.num_parameters(),
        "context_tokens": subject.context_tokens,
        "benchmarks": {name: asdict(part) for name, part in asked.items()},
        "held_out": {source: asdict(part) for source, part in read.items()},
        "seconds": round(time.monotonic() - started_s, 2),
    }
    _write_json(job.output / "done.json", done)
    return scores


def _load(job: Job) -> Subject:
    model = load_model(job.model, weights=job.weights, seed=job.seed, dtype=job.dtype, device=job.place.device)
    return Subject(model, load_encoder(job.model, model), context_limit(model, job.context_tokens))


def _ask(job: Job, subject: Subject, benchmark: Benchmark, questions: Sequence[Question], scores: list[Score]) -> Part:
    """Ask one benchmark, write its samples, add its scores."""
    started_s = time.monotonic()
    samples = ask(
        subject.model,
        subject.encoder,
        benchmark,
        questions,
        context_tokens=subject.context_tokens,
        batch_size=job.place.batch_size,
        progress=_reporter("questions", benchmark.name),
    )
    write_lines(job.output / "samples" / f"{benchmark.name}.jsonl", samples)
    scores += score_benchmark(benchmark, samples, job.seed)
    return Part(benchmark.protocol(file_digest(benchmark)), len(samples), _since(started_s))


def _read(job: Job, subject: Subject, source: str, directory: Path, scores: list[Score]) -> Part:
    """Measure one held-out source, write its samples, add its scores."""
    started_s = time.monotonic()
    held_out = measure(
        subject.model,
        subject.encoder,
        source,
        directory,
        max_bytes=job.held_out_bytes,
        context_tokens=subject.context_tokens,
        batch_size=job.place.batch_size,
        progress=_reporter("documents", source),
    )
    write_lines(job.output / "samples" / f"held_out-{source}.jsonl", held_out.documents)
    vocab_size = int(subject.model.config.vocab_size)
    scores += score_held_out(held_out, vocab_size=vocab_size, context_tokens=subject.context_tokens, seed=job.seed)
    return Part(held_out.protocol, len(held_out.documents), _since(started_s))


def _reporter(unit: str, note: str) -> Callable[[int, int], None]:
    """A function that tells stderr how far one part is, at most every `MIN_INTERVAL_S` and always at its end."""
    last_s = 0.0

    def report(done: int, total: int) -> None:
        nonlocal last_s
        now_s = time.monotonic()
        if done == total or now_s - last_s >= MIN_INTERVAL_S:
            last_s = now_s
            line = {"progress": {"done": done, "total": total, "unit": unit, "note": note}}
            sys.stderr.write(json.dumps(line) + "\n")
            sys.stderr.flush()

    return report


def _since(started_s: float) -> float:
    return round(time.monotonic() - started_s, 2)


def _write_json(path: Path, value: object) -> None:
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
