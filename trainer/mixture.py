"""The mixture: which corpora, in which token shares, for how many tokens. Written by `mix`, read by all that train.

`mixture.json` holds names, counts and digests and no paths: where a corpus lies is place, and `train.json` says it.

    {"schema": 1, "seed": 0, "sequence_tokens": 256, "batch_tokens": 4096, "token_budget": 2000000,
     "tokenizer_digest": "...", "vocab_size": 4096,
     "corpora": [{"name": "pubmed", "share_ppm": 700000, "tokens": 123, "documents": 5,
                  "shards": [{"file": "shards/00000.arrow", "tokens": 123, "documents": 5, "sha256": "..."}]}]}
"""

import dataclasses
import json
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path

from . import strict

SCHEMA = 1
WHOLE_PPM = 1_000_000  # token shares are integers, parts per million: no rounding anywhere


@dataclass(frozen=True)
class ShardInfo:
    """One token shard: its file below the corpus' directory, its size and its sha256."""

    file: str
    tokens: int
    documents: int
    sha256: str

    def __post_init__(self) -> None:
        if self.tokens < 1 or self.documents < 1:
            raise ValueError(f"shard {self.file} has {self.tokens} tokens in {self.documents} documents; drop it.")


@dataclass(frozen=True)
class CorpusTokens:
    """One corpus of the mixture: its token share, and its shards in reading order."""

    name: str
    share_ppm: int
    tokens: int
    documents: int
    shards: tuple[ShardInfo, ...]

    def __post_init__(self) -> None:
        for what in ("tokens", "documents"):
            said, counted = getattr(self, what), sum(getattr(shard, what) for shard in self.shards)
            if said != counted:
                raise ValueError(
                    f"corpus `{self.name}` says {said:,} {what}, but its {len(self.shards)} shards hold {counted:,}; "
                    f"run tokenize and mix again."
                )
        if not 1 <= self.share_ppm <= WHOLE_PPM:
            raise ValueError(
                f"corpus `{self.name}` has a token share of {self.share_ppm} ppm, but 1..{WHOLE_PPM:,} is needed; "
                f"leave out a corpus that is not to be trained on."
            )

    @cached_property
    def shard_starts(self) -> list[int]:
        """Where each shard begins in the corpus' stream, and where the last one ends."""
        return [0, *accumulate(shard.tokens for shard in self.shards)]


@dataclass(frozen=True)
class Mixture:
    """What is trained on, in which order: the sampler needs nothing else."""

    seed: int
    sequence_tokens: int
    batch_tokens: int
    token_budget: int
    tokenizer_digest: str
    vocab_size: int
    corpora: tuple[CorpusTokens, ...]
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        if self.schema != SCHEMA:
            raise ValueError(f"mixture schema {self.schema} is not {SCHEMA}; run mix again with this version.")
        self._check_sizes()
        self._check_corpora()

    @property
    def num_steps(self) -> int:
        """Whole steps in the token budget."""
        return self.token_budget // self.batch_tokens

    @property
    def batch_sequences(self) -> int:
        """Sequences in one step, over all ranks."""
        return self.batch_tokens // self.sequence_tokens

    @property
    def num_sequences(self) -> int:
        """Sequences in the whole token budget."""
        return self.num_steps * self.batch_sequences

    @property
    def shares_ppm(self) -> tuple[int, ...]:
        """Token shares in the order of the corpora; they sum to 1,000,000."""
        return tuple(corpus.share_ppm for corpus in self.corpora)

    def _check_sizes(self) -> None:
        if self.sequence_tokens < 2 or self.vocab_size < 2:
            raise ValueError(
                f"sequence_tokens is {self.sequence_tokens} and vocab_size {self.vocab_size}; both must be at least 2."
            )
        if self.batch_tokens < 1 or self.batch_tokens % self.sequence_tokens:
            raise ValueError(
                f"batch_tokens {self.batch_tokens:,} is not a multiple of sequence_tokens {self.sequence_tokens:,}; "
                f"take {max(1, round(self.batch_tokens / self.sequence_tokens)) * self.sequence_tokens:,}."
            )
        if self.token_budget < self.batch_tokens:
            raise ValueError(
                f"the token budget {self.token_budget:,} is less than one step of {self.batch_tokens:,} tokens; "
                f"raise token_budget or lower batch_tokens."
            )

    def _check_corpora(self) -> None:
        names = [corpus.name for corpus in self.corpora]
        if len(set(names)) < len(names):
            raise ValueError(f"corpora {', '.join(names)}: a name occurs twice; merge them or rename one.")
        if sum(self.shares_ppm) != WHOLE_PPM:
            raise ValueError(
                f"token shares sum to {sum(self.shares_ppm):,} ppm, but must sum to {WHOLE_PPM:,}: "
                f"{', '.join(f'{c.name} {c.share_ppm:,}' for c in self.corpora)}."
            )
        for corpus in self.corpora:
            if corpus.tokens <= self.sequence_tokens:
                raise ValueError(
                    f"corpus `{corpus.name}` has {corpus.tokens:,} tokens, but one sequence needs "
                    f"{self.sequence_tokens + 1:,}; shorten sequence_tokens or leave it out of the mixture."
                )


def load_mixture(path: Path) -> Mixture:
    """Read and check a `mixture.json`."""
    return strict.load(Mixture, path)


def save_mixture(mixture: Mixture, path: Path) -> None:
    """Write `mixture` as JSON, the same bytes for the same value."""
    text = json.dumps(dataclasses.asdict(mixture), indent=1, sort_keys=True, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")
