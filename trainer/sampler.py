"""The sampler: which tokens are in sequence n. A pure function of the mixture, without state, exactly invertible.

    sequence n  ->  corpus and local index   nested Sturmian split by token shares, in integers
    local index ->  epoch and window         a keyed permutation of the corpus' windows, another for each epoch
    window w    ->  tokens [w*T, (w+1)*T) of the corpus' shards laid end to end, and one more as the last target

Step k is sequences [k*B, (k+1)*B). Nothing here knows of ranks, microbatches or workers, so none can change the order,
and a run resumes anywhere from one integer.
Legend: B sequences in a step, T tokens in a sequence, R rest of the shares.
"""

from bisect import bisect_right
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from .mixture import CorpusTokens, Mixture
from .permutation import Integers, Permutation

MAX_SEQUENCES = 2**43  # times a share in ppm this still fits 63 bits


@dataclass(frozen=True)
class Span:
    """`length` tokens from token `start` of the corpus' shard number `shard`."""

    shard: int
    start: int
    length: int


@dataclass(frozen=True)
class Location:
    """Where a sequence's tokens lie: window `window` of the mixture's corpus number `corpus`, in its epoch `epoch`."""

    corpus: int
    epoch: int
    window: int


def split(sequences: Integers, shares: tuple[int, ...]) -> tuple[Integers, Integers]:
    """Corpus number and local index of each sequence number.

    Corpus i takes sequence m of what the earlier corpora left iff floor((m+1)*s_i/R) > floor(m*s_i/R), R the sum of the
    shares from i on. In every prefix a corpus is short by less than one sequence; the last of several may be ahead by
    the others' shortfalls.
    """
    corpus = np.zeros_like(sequences)
    local = np.zeros_like(sequences)
    index = np.arange(len(sequences))
    rest, total = sequences.astype(np.int64), sum(shares)
    for i, share in enumerate(shares):
        before = rest * share // total
        taken = (rest + 1) * share // total > before
        corpus[index[taken]] = i
        local[index[taken]] = before[taken]
        index, rest, total = index[~taken], (rest - before)[~taken], total - share
    return corpus, local


def unsplit(corpus: int, local: Integers, shares: tuple[int, ...]) -> Integers:
    """The sequence numbers of local indices of a corpus: the inverse of `split`."""
    total = sum(shares[corpus:])
    numbers = -((local + 1) * -total // shares[corpus]) - 1  # the least m with floor((m+1)*s/R) = j+1
    for share in reversed(shares[:corpus]):
        total += share
        numbers = numbers * total // (total - share)  # the m-th number that the earlier corpus does not take
    return numbers


def counts_before(sequence: int, shares: tuple[int, ...]) -> tuple[int, ...]:
    """How many of the first `sequence` sequences each corpus has."""
    counts, rest, total = [], sequence, sum(shares)
    for share in shares:
        counts.append(rest * share // total)
        rest, total = rest - counts[-1], total - share
    return tuple(counts)


def spans(corpus: CorpusTokens, start: int, length: int) -> list[Span]:
    """Tokens [start, start + length) of a corpus' stream, as pieces of its shards."""
    if start < 0 or start + length > corpus.tokens:
        raise ValueError(f"tokens {start}..{start + length} are outside corpus `{corpus.name}` of {corpus.tokens:,}.")
    found, starts = [], corpus.shard_starts
    number, end = bisect_right(starts, start) - 1, start + length
    while start < end:
        taken = min(end, starts[number + 1]) - start
        found.append(Span(number, start - starts[number], taken))
        number, start = number + 1, start + taken
    return found


class Sampler:
    """Both directions between sequence numbers and windows, for one mixture."""

    def __init__(self, mixture: Mixture) -> None:
        if mixture.num_sequences >= MAX_SEQUENCES:
            raise ValueError(f"{mixture.num_sequences:,} sequences are too many; fewer than 2**43 are possible.")
        self.mixture = mixture
        self.num_windows = tuple((corpus.tokens - 1) // mixture.sequence_tokens for corpus in mixture.corpora)
        self._permutation = lru_cache(maxsize=64)(self._make_permutation)

    def locate(self, sequence: int) -> Location:
        """Where sequence number `sequence` lies."""
        return self.locate_range(sequence, 1)[0]

    def locate_range(self, first: int, count: int) -> list[Location]:
        """Where sequences first..first+count-1 lie."""
        corpora, locals_ = split(np.arange(first, first + count, dtype=np.int64), self.mixture.shares_ppm)
        windows = np.array(self.num_windows, dtype=np.int64)[corpora]
        epochs, places = locals_ // windows, locals_ % windows
        for corpus, epoch in {*zip(corpora.tolist(), epochs.tolist(), strict=True)}:
            chosen = (corpora == corpus) & (epochs == epoch)
            places[chosen] = self.permutation(corpus, epoch).forward(places[chosen])
        rows = zip(corpora.tolist(), epochs.tolist(), places.tolist(), strict=True)
        return [Location(*row) for row in rows]

    def locate_step(self, step: int, *, rank: int = 0, num_ranks: int = 1) -> list[Location]:
        """Where the sequences of a step lie that a rank takes: a contiguous slice of the step."""
        per_rank = self.mixture.batch_sequences // num_ranks
        return self.locate_range(step * self.mixture.batch_sequences + rank * per_rank, per_rank)

    def sequences_of_window(self, corpus: int, window: int) -> list[int]:
        """The sequence numbers in the token budget that read a window, in order: one an epoch."""
        num_windows = self.num_windows[corpus]
        num_local = counts_before(self.mixture.num_sequences, self.mixture.shares_ppm)[corpus]
        found = []
        for epoch in range(-(-num_local // num_windows)):
            place = self.permutation(corpus, epoch).inverse(np.array([window], dtype=np.int64))
            local = epoch * num_windows + place
            if local[0] < num_local:
                found.append(int(unsplit(corpus, local, self.mixture.shares_ppm)[0]))
        return found

    def permutation(self, corpus: int, epoch: int) -> Permutation:
        """The order of a corpus' windows in an epoch."""
        return self._permutation(corpus, epoch)

    def _make_permutation(self, corpus: int, epoch: int) -> Permutation:
        name = self.mixture.corpora[corpus].name
        return Permutation(self.num_windows[corpus], f"{self.mixture.seed}/{name}/{epoch}")
