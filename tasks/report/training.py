"""What a training run did: loss, bits per byte, rate and speed over its tokens, its troubles, where its time went.

In: the sealed directories `train` and `mix`. The loss is read from metrics.jsonl, a line a step, however many.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any

from domainlm.tasks.store import Sealed
from domainlm.trainer.goodput import Goodput, goodput
from domainlm.trainer.mixture import WHOLE_PPM, load_mixture

CURVE_POINTS = 80  # more show the noise of single steps; the band keeps their spread
LEAST_SHARE = 0.001  # of the wall time, to be worth a line
ENDINGS = {
    "preempt": "stopped with a checkpoint",
    "crash": "crashed",
    "hang": "hung",
    "out_of_memory": "ran out of memory",
}


@dataclass(frozen=True)
class CurvePoint:
    """Some steps in a row: their last token; the mean, least and greatest loss among them; mean rate and speed."""

    tokens: int
    loss: float
    low: float
    high: float
    lr: float
    tokens_per_s: float


@dataclass(frozen=True)
class Look:
    """Bits per byte of held-out text after some tokens of training."""

    tokens: int
    bits_per_byte: float


@dataclass(frozen=True)
class Mark:
    """Something that happened on the way: `restart`, `rollback` (a loss spike) or `skip` (a step not finite)."""

    kind: str
    tokens: int
    told: str


@dataclass(frozen=True)
class Spent:
    """A part of the wall time."""

    name: str
    seconds: float
    share: float


@dataclass(frozen=True)
class Training:
    """One training run."""

    steps: int
    tokens: int
    trunk_tokens: int
    """Those of them that another run has trained on, which this one went on from."""
    seconds: float
    skipped_steps: int
    resumes: int
    curve: tuple[CurvePoint, ...]
    tokens_planned: int
    """Of all steps, left out or not: the end of the curves."""
    held_out: Mapping[str, tuple[Look, ...]]
    """By source; empty where training was not watched."""
    marks: tuple[Mark, ...]
    goodput: float
    """Time in steps over wall time."""
    spent: tuple[Spent, ...]
    """Where the wall time went, the most first."""

    @property
    def tokens_per_s(self) -> float:
        """Mean over this run, checkpoints included."""
        return (self.tokens - self.trunk_tokens) / self.seconds


@dataclass(frozen=True)
class MixedCorpus:
    """One corpus of the mixture: what it holds, and what was trained on."""

    source: str
    token_share: float
    tokens: int
    documents: int
    trained_tokens: int
    repetitions: float
    tail_tokens: int


@dataclass(frozen=True)
class Model:
    """The published model, from its config.json."""

    architecture: str
    parameters: int
    layers: int
    width: int
    vocab_size: int
    new_tokens: int
    """Of the vocabulary, those that were added to that of the first weights."""
    positions: int
    sequence_tokens: int
    init_from: str | None
    init_from_digest: str | None


def read_training(train: Sealed) -> Training:
    """The run behind `train`."""
    counts = train.manifest.counts
    events = read_lines(train.path / "events.jsonl")
    batch_tokens = int(counts["tokens"] + counts["skipped_tokens"]) // int(counts["steps"])
    time = goodput(train.path)
    return Training(
        steps=int(counts["steps"]),
        tokens=int(counts["tokens"]),
        trunk_tokens=int(counts["trunk_tokens"]),
        seconds=counts["seconds"],
        skipped_steps=int(counts["skipped_steps"]),
        resumes=sum(event["event"] == "resume" for event in events),
        curve=loss_curve(train),
        tokens_planned=int(counts["steps"]) * batch_tokens,
        held_out=held_out_curves(train),
        marks=tuple(marks_of(events, batch_tokens)),
        goodput=round(time.share, 4),
        spent=time_spent(time),
    )


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The JSON lines of a file; none where there is no file."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def held_out_curves(train: Sealed) -> dict[str, tuple[Look, ...]]:
    """Bits per byte over the tokens, by source; looks that were not finite are left out."""
    curves: dict[str, list[Look]] = {}
    for line in read_lines(train.path / "held_out.jsonl"):
        for source, value in line["bits_per_byte"].items():
            curves.setdefault(source, []).extend([] if value is None else [Look(line["tokens"], value)])
    return {source: tuple(looks) for source, looks in sorted(curves.items())}


def marks_of(events: Sequence[Mapping[str, Any]], batch_tokens: int) -> Iterator[Mark]:
    """What happened on the way, first to last."""
    reason = ""
    for event in events:
        tokens, kind = int(event["step"] or 0) * batch_tokens, event["event"]
        if kind in ENDINGS:
            reason = ENDINGS[kind]
        elif kind == "resume":
            told = f"{reason or 'ended without a word'}; went on from step {event['step']:,} with "
            yield Mark("restart", tokens, f"{told}{event['num_ranks']} rank{'s' if event['num_ranks'] > 1 else ''}")
            reason = ""
        elif kind == "spike":
            steps = event["skipped_steps"]
            yield Mark(
                "rollback", tokens,
                f"loss {event['loss']:.2f} at step {event['step']:,}, above {event['threshold']:.2f}: back to step "
                f"{event['to_step']:,}, steps {steps[0]:,} to {steps[-1]:,} left out, {event['num_documents']} "
                f"documents named",
            )  # fmt: skip
        elif kind == "skip":
            yield Mark("skip", tokens, f"step {event['step']:,} was not finite and touched no parameter")


def time_spent(found: Goodput) -> tuple[Spent, ...]:
    """The parts of the wall time that are worth a line."""
    parts = {name: value for name, value in asdict(found).items() if name.endswith("_s") and name != "wall_s"}
    rows = [
        Spent(name.removesuffix("_s").replace("_", " "), round(value, 3), value / found.wall_s)
        for name, value in parts.items()
    ]
    return tuple(sorted((row for row in rows if row.share >= LEAST_SHARE), key=lambda row: -row.seconds))


def loss_curve(train: Sealed) -> tuple[CurvePoint, ...]:
    """The loss over the tokens, in at most `CURVE_POINTS` points; steps without a finite loss are left out."""
    steps_a_point = max(1, -(-int(train.manifest.counts["steps"]) // CURVE_POINTS))
    points: list[CurvePoint] = []
    steps: list[dict[str, Any]] = []
    with (train.path / "metrics.jsonl").open() as lines:
        for number, line in enumerate(lines, start=1):
            step = json.loads(line)
            steps += [step] if step["loss"] is not None else []
            if steps and number % steps_a_point == 0:
                points.append(curve_point(steps))
                steps = []
    return tuple(points)


def curve_point(steps: Sequence[Mapping[str, Any]]) -> CurvePoint:
    """One point for some steps."""
    losses, rates, speeds = ([step[key] for step in steps] for key in ("loss", "lr", "tokens_per_s"))
    return CurvePoint(
        tokens=steps[-1]["tokens"],
        loss=round(fmean(losses), 4),
        low=round(min(losses), 4),
        high=round(max(losses), 4),
        lr=fmean(rates),
        tokens_per_s=round(median(speeds), 1),
    )


def read_mixture(mix: Sealed, train: Sealed) -> tuple[MixedCorpus, ...]:
    """The corpora of the mixture, by share."""
    mixture = load_mixture(mix.path / "mixture.json")
    rows = (
        MixedCorpus(
            source=corpus.name,
            token_share=corpus.share_ppm / WHOLE_PPM,
            tokens=corpus.tokens,
            documents=corpus.documents,
            trained_tokens=int(train.manifest.counts[f"tokens.{corpus.name}"]),
            repetitions=mix.manifest.counts[f"repetitions.{corpus.name}"],
            tail_tokens=int(mix.manifest.counts[f"tail_tokens.{corpus.name}"]),
        )
        for corpus in mixture.corpora
    )
    return tuple(sorted(rows, key=lambda row: (-row.token_share, row.source)))


def read_model(train: Sealed, mix: Sealed, extension: Sealed | None) -> Model:
    """The model, and what it was continued from."""
    config = json.loads((train.path / "model" / "config.json").read_text())
    first = train.manifest.inputs.get("init_from")
    return Model(
        architecture=config["architectures"][0],
        parameters=int(train.manifest.counts["parameters"]),
        layers=config["num_hidden_layers"],
        width=config["hidden_size"],
        vocab_size=config["vocab_size"],
        new_tokens=int(extension.manifest.counts["new_tokens"]) if extension else 0,
        positions=config["max_position_embeddings"],
        sequence_tokens=load_mixture(mix.path / "mixture.json").sequence_tokens,
        init_from=first.origin if first else None,
        init_from_digest=first.digest if first else None,
    )
