"""The ledger: which documents a step trained on, which steps trained on a document, and where the token budget went.

All of it is computed from the mixture, the token shards and the few steps that the run did not train on (a spike that
was left out, a gradient that was not finite), in both directions; there is no log to lose.
A document's tokens in a step are counted as inputs: each step has exactly `batch_tokens` of them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .mixture import Mixture
from .permutation import Integers
from .sampler import Sampler, counts_before
from .stream import CorpusStream


@dataclass(frozen=True)
class StepDocument:
    """A document in a step, and how many tokens of the step are its."""

    doc_id: str
    source: str
    license: str
    corpus: str
    tokens: int
    trained: bool = True
    """Whether the step touched the weights."""


@dataclass(frozen=True)
class DocumentStep:
    """A sequence of a step that holds `tokens` tokens of the document."""

    step: int
    sequence: int
    corpus: str
    tokens: int
    trained: bool = True
    """Whether the step touched the weights."""


@dataclass(frozen=True)
class CorpusAccount:
    """Where a corpus' tokens went. `stream_tokens` = `seen_tokens` + `unseen_tokens` + `tail_tokens`."""

    corpus: str
    share_ppm: int
    sequences: int
    trained_tokens: int
    """Tokens of the budget that were trained on, each repetition counted."""
    skipped_tokens: int
    """Tokens of the budget whose steps touched no weight."""
    masked_targets: int
    """Targets without a loss: the first token of a document, which nothing precedes."""
    epochs: float
    stream_tokens: int
    seen_tokens: int
    unseen_tokens: int
    tail_tokens: int
    """The end of the stream that fills no sequence."""


@dataclass(frozen=True)
class Accounting:
    """The token budget: sum of `trained_tokens` and `skipped_tokens` over the corpora + `remainder_tokens`."""

    token_budget: int
    steps: int
    remainder_tokens: int
    """The end of the budget that fills no step."""
    corpora: tuple[CorpusAccount, ...]


class Ledger:
    """The ledger of one mixture over its open shards.

    `directories` says where each corpus lies, `skipped` which steps touched no weight (`skips.untrained_steps`).
    """

    def __init__(
        self, mixture: Mixture, directories: Mapping[str, Path], skipped: frozenset[int] = frozenset()
    ) -> None:
        self.mixture = mixture
        self.skipped = skipped
        self.sampler = Sampler(mixture)
        self.streams = open_streams(mixture, directories)

    def documents_of_step(self, step: int) -> list[StepDocument]:
        """The documents of a step, sorted by corpus and id.

        Raises:
            ValueError: the run has no such step.
        """
        if not 0 <= step < self.mixture.num_steps:
            raise ValueError(f"step {step} is not one of this run; it has steps 0 to {self.mixture.num_steps - 1}.")
        length = self.mixture.sequence_tokens
        tokens: dict[tuple[str, str, str, str], int] = {}
        for place in self.sampler.locate_step(step):
            stream = self.streams[place.corpus]
            for piece in stream.pieces(place.window * length, length):
                key = (stream.corpus.name, piece.doc_id, piece.source, piece.license)
                tokens[key] = tokens.get(key, 0) + piece.tokens
        return [
            StepDocument(doc_id, source, license_, corpus, count, step not in self.skipped)
            for (corpus, doc_id, source, license_), count in sorted(tokens.items())
        ]

    def steps_of_document(self, doc_id: str) -> list[DocumentStep]:
        """The sequences that hold tokens of a document, in the order of training; empty if it was never reached.

        Raises:
            ValueError: no corpus of the mixture has the document.
        """
        found, known, length = [], False, self.mixture.sequence_tokens
        for number, stream in enumerate(self.streams):
            for piece in stream.find(doc_id):
                known = True
                end = min(piece.start + piece.tokens, self.sampler.num_windows[number] * length)
                for window in range(piece.start // length, -(-end // length)):
                    tokens = min(end, (window + 1) * length) - max(piece.start, window * length)
                    for sequence in self.sampler.sequences_of_window(number, window):
                        step = sequence // self.mixture.batch_sequences
                        found.append(DocumentStep(step, sequence, stream.corpus.name, tokens, step not in self.skipped))
        if not known:
            names = ", ".join(corpus.name for corpus in self.mixture.corpora)
            raise ValueError(f"no document `{doc_id}` in the corpora of this mixture ({names}); was it dropped before?")
        return sorted(found, key=lambda row: row.sequence)

    def accounting(self) -> Accounting:
        """Where every token of the budget went, and what of each corpus was never seen."""
        counts = counts_before(self.mixture.num_sequences, self.mixture.shares_ppm)
        remainder = self.mixture.token_budget - self.mixture.num_steps * self.mixture.batch_tokens
        corpora = tuple(self._account(number, count) for number, count in enumerate(counts))
        return Accounting(self.mixture.token_budget, self.mixture.num_steps, remainder, corpora)

    def _account(self, number: int, sequences: int) -> CorpusAccount:
        corpus, length = self.mixture.corpora[number], self.mixture.sequence_tokens
        windows = self.sampler.num_windows[number]
        places = self._skipped_places(number)
        skipped = len(places) * length
        seen = (min(windows, sequences) - self._lost_windows(number, places)) * length
        return CorpusAccount(
            corpus=corpus.name,
            share_ppm=corpus.share_ppm,
            sequences=sequences,
            trained_tokens=sequences * length - skipped,
            skipped_tokens=skipped,
            masked_targets=self._masked_targets(number, sequences, places),
            epochs=(sequences - len(places)) / windows,
            stream_tokens=corpus.tokens,
            seen_tokens=seen,
            unseen_tokens=windows * length - seen,
            tail_tokens=corpus.tokens - windows * length,
        )

    def _skipped_places(self, number: int) -> list[int]:
        """The windows of a corpus in the skipped steps, one for each sequence."""
        places = [place for step in sorted(self.skipped) for place in self.sampler.locate_step(step)]
        return [place.window for place in places if place.corpus == number]

    def _lost_windows(self, number: int, places: list[int]) -> int:
        """How many windows are in skipped steps only."""
        size = self.mixture.batch_sequences
        found = ({n // size for n in self.sampler.sequences_of_window(number, window)} for window in set(places))
        return sum(steps <= self.skipped for steps in found)

    def _masked_targets(self, number: int, sequences: int, skipped: list[int]) -> int:
        """Document starts among the targets of the first `sequences` windows, epoch by epoch, but the skipped."""
        per_window = self._starts_per_window(number)
        epochs, part = divmod(sequences, len(per_window))
        last = self.sampler.permutation(number, epochs).forward(np.arange(part, dtype=np.int64))
        return epochs * int(per_window.sum()) + int(per_window[last].sum()) - int(per_window[skipped].sum())

    def _starts_per_window(self, number: int) -> Integers:
        windows, length = self.sampler.num_windows[number], self.mixture.sequence_tokens
        of_target = (self.streams[number].starts[1:] - 1) // length  # the stream's first token is nobody's target
        return np.bincount(of_target[of_target < windows], minlength=windows).astype(np.int64)


def open_streams(mixture: Mixture, directories: Mapping[str, Path]) -> tuple[CorpusStream, ...]:
    """Open the shards of every corpus of the mixture.

    Raises:
        ValueError: a corpus has no directory, or a directory no corpus.
    """
    _check_same_names((corpus.name for corpus in mixture.corpora), directories)
    return tuple(CorpusStream(corpus, directories[corpus.name]) for corpus in mixture.corpora)


def _check_same_names(wanted: Iterable[str], given: Iterable[str]) -> None:
    wanted, given = set(wanted), set(given)
    if wanted != given:
        raise ValueError(
            f"the mixture has the corpora {', '.join(sorted(wanted))}, but directories are given for "
            f"{', '.join(sorted(given)) or 'none'}; `corpora` must name exactly those of the mixture."
        )
