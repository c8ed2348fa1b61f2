"""Which documents a spike came from: the suspected steps, looked at again with the weights from before it.

Every sequence of the steps gets its loss; those far above the rest are taken apart into their documents, and those far
above the rest are named, if they have a part in what their sequence is above it. Where none stands out, all documents
of the steps are. Named documents are lines of `quarantine.jsonl`: a proposal, for a person decides.
"""

import dataclasses
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from .assemble import Parts
from .files import Lines
from .fsdp import reshard
from .guard import high_above
from .loader import MASKED
from .ranks import Ranks
from .stream import Piece

DEVIATIONS = 6.0
LEAST_PART = 0.1  # of a sequence's excess: the few first tokens of a document are always hard, and raise no loss
MOST_SEQUENCES = 16  # taken apart: one forward for each of their documents


@dataclass(frozen=True)
class Suspect:
    """A document that a spike may have come from."""

    doc_id: str
    source: str
    license: str
    corpus: str
    step: int
    sequence: int
    tokens: int
    """Of the document, in the sequence."""
    loss: float | None
    """Mean over the document's tokens in the sequence; null where it is not finite, or was not looked at."""
    typical_loss: float
    """Median over the sequences of the suspected steps."""

    @property
    def excess(self) -> float:
        """What the document adds to its sequence's loss beyond the usual, summed over its tokens."""
        return math.inf if self.loss is None else max(0.0, self.loss - self.typical_loss) * self.tokens


def find_suspects(parts: Parts, ranks: Ranks, steps: Sequence[int]) -> list[Suspect]:
    """The documents of `steps` to be named, worst first; the same on every rank. Call it on all."""
    losses = {sequence: loss for step in steps for sequence, loss in _sequence_losses(parts, ranks, step).items()}
    finite = [loss for loss in losses.values() if math.isfinite(loss)]
    typical = statistics.median(finite) if finite else math.inf
    limit = high_above(finite, DEVIATIONS) if finite else -math.inf
    outliers = sorted((s for s, loss in losses.items() if not loss <= limit), key=lambda s: (-_rank(losses[s]), s))
    found = [suspect for s in outliers[:MOST_SEQUENCES] for suspect in _apart(parts, ranks, s, typical)]
    named = [suspect for suspect in found if _stands_out(suspect, found, limit)]
    reshard(parts.model)
    if not found:
        found = [_suspect(parts, s, piece, None, typical) for s, piece in _all_pieces(parts, losses)]
    return sorted(named or found, key=lambda s: (-_rank(math.inf if s.loss is None else s.loss), s.sequence, s.doc_id))


def propose_quarantine(output: Path, suspects: Iterable[Suspect], reason: str) -> None:
    """Append the documents to `quarantine.jsonl`."""
    lines = Lines(output / "quarantine.jsonl")
    for suspect in suspects:
        lines.append({**dataclasses.asdict(suspect), "reason": reason})


def _stands_out(suspect: Suspect, found: Sequence[Suspect], limit: float) -> bool:
    """Whether a document's loss is high, and it has a part in that of its sequence."""
    if suspect.loss is None:
        return True
    whole = sum(other.excess for other in found if other.sequence == suspect.sequence and other.loss is not None)
    return suspect.loss > limit and suspect.excess >= LEAST_PART * whole


def _rank(loss: float) -> float:
    """Losses in order, those that are not finite above all."""
    return loss if math.isfinite(loss) else math.inf


def _sequence_losses(parts: Parts, ranks: Ranks, step: int) -> dict[int, float]:
    """Mean loss by sequence number, of a whole step. Each rank looks at its own."""
    batch, mixture = parts.loader.batch(step), parts.mixture
    first = step * mixture.batch_sequences + ranks.rank * len(batch.input_ids)
    mine: dict[int, float] = {}
    for row in range(len(batch.input_ids)):
        part = slice(row, row + 1)
        mine[first + row] = _mean_loss(
            parts, ranks, batch.input_ids[part], batch.position_ids[part], batch.targets[part]
        )
    return {sequence: loss for part in ranks.gather(mine) for sequence, loss in part.items()}


def _apart(parts: Parts, ranks: Ranks, sequence: int, typical: float) -> list[Suspect]:
    """The documents of a sequence, each with the loss of its own tokens. All ranks look at the same one."""
    length = parts.mixture.sequence_tokens
    place = parts.loader.sampler.locate(sequence)
    start = place.window * length
    ids, positions, targets = parts.loader.sequence(place)
    suspects = []
    for piece in parts.loader.streams[place.corpus].pieces(start, length):
        own = torch.full_like(targets, MASKED)
        inside = slice(piece.start - start, piece.start - start + piece.tokens)
        own[:, inside] = targets[:, inside]
        loss = _mean_loss(parts, ranks, ids, positions, own)
        suspects.append(_suspect(parts, sequence, piece, loss if math.isfinite(loss) else None, typical))
    return suspects


def _all_pieces(parts: Parts, sequences: Iterable[int]) -> list[tuple[int, Piece]]:
    length, loader = parts.mixture.sequence_tokens, parts.loader
    places = [(sequence, loader.sampler.locate(sequence)) for sequence in sequences]
    return [
        (sequence, piece)
        for sequence, place in places
        for piece in loader.streams[place.corpus].pieces(place.window * length, length)
    ]


def _suspect(parts: Parts, sequence: int, piece: Piece, loss: float | None, typical: float) -> Suspect:
    corpus = parts.mixture.corpora[parts.loader.sampler.locate(sequence).corpus].name
    step = sequence // parts.mixture.batch_sequences
    names = (piece.doc_id, piece.source, piece.license, corpus)
    return Suspect(*names, step, sequence, piece.tokens, loss, typical if math.isfinite(typical) else 0.0)


def _mean_loss(parts: Parts, ranks: Ranks, *tensors: torch.Tensor) -> float:
    num_targets = max(1, int((tensors[2] >= 0).sum()))
    with torch.no_grad():
        return float(parts.model(*(tensor.to(ranks.device) for tensor in tensors))) / num_targets
