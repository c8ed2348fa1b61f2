"""What a training run did: the loss as it fell, the tokens of each corpus, the model that came out.

In: the sealed directories `train` and `mix`. The loss is read from metrics.jsonl, a line a step, however many.
"""

import json
from dataclasses import dataclass

from domainlm.tasks.store import Sealed
from domainlm.trainer.mixture import WHOLE_PPM, load_mixture

CURVE_POINTS = 80  # more show the noise of single steps; the band keeps their spread


@dataclass(frozen=True)
class CurvePoint:
    """Some steps in a row: their last token, and the mean, least and greatest loss among them."""

    tokens: int
    loss: float
    low: float
    high: float


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
    events = [json.loads(line)["event"] for line in (train.path / "events.jsonl").read_text().splitlines()]
    return Training(
        steps=int(counts["steps"]),
        tokens=int(counts["tokens"]),
        trunk_tokens=int(counts["trunk_tokens"]),
        seconds=counts["seconds"],
        skipped_steps=int(counts["skipped_steps"]),
        resumes=events.count("resume"),
        curve=loss_curve(train),
    )


def loss_curve(train: Sealed) -> tuple[CurvePoint, ...]:
    """The loss over the tokens, in at most `CURVE_POINTS` points; steps without a finite loss are left out."""
    steps_a_point = max(1, -(-int(train.manifest.counts["steps"]) // CURVE_POINTS))
    points, losses = [], []
    with (train.path / "metrics.jsonl").open() as lines:
        for number, line in enumerate(lines, start=1):
            step = json.loads(line)
            losses += [step["loss"]] if step["loss"] is not None else []
            if losses and number % steps_a_point == 0:
                mean = sum(losses) / len(losses)
                points.append(CurvePoint(step["tokens"], round(mean, 4), round(min(losses), 4), round(max(losses), 4)))
                losses = []
    return tuple(points)


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
