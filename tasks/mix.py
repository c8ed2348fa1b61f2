"""Mix: which corpora a model trains on, in which token shares, for how many tokens; nothing is copied.

In:  corpus.<source>   a directory of token shards (the output of `tokenize`)
     tokenizer         the one they were tokenized with
Out: mixture.json      `domainlm.trainer.mixture.Mixture`: names, integer shares, shards with digests

The corpora stand in alphabetical order: the order in a recipe is not part of the key, so it may not change the bytes.
A budget that would repeat a corpus more often than allowed is refused here, before any training time is spent, and
so is one that never reaches a new token of an extended tokenizer, whose row would stay as it began.
"""

from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator

from domainlm.tasks.manifest import Books, Part
from domainlm.tasks.runtime import Runtime
from domainlm.tasks.stage import Inputs, stage
from domainlm.tasks.tokenize import INDEX, TokenizedCorpus, load_index, tokenizer_directory
from domainlm.trainer.extension import Extension, load_extension
from domainlm.trainer.mixture import WHOLE_PPM, CorpusTokens, Mixture, save_mixture
from domainlm.trainer.sampler import Sampler, counts_before
from domainlm.trainer.shards import file_sha256
from domainlm.trainer.stream import CorpusStream

CORPUS = "corpus."


class BudgetTooLarge(ValueError):
    """The token budget asks more of a corpus than its tokens and the allowed repetitions give."""


class MixConfig(BaseModel):
    """What a model trains on, in which shares, for how long."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="Mixture")

    token_shares: dict[str, PositiveFloat] = Field(
        title="Token shares", description="Fraction of the training tokens from each source; they sum to 1."
    )
    token_budget: PositiveInt = Field(
        title="Token budget", description="Tokens to train on, with repetitions; whole steps of it are used."
    )
    sequence_tokens: int = Field(
        256, ge=2, title="Sequence", description="Tokens that are trained on together: the context of the model."
    )
    batch_tokens: PositiveInt = Field(
        4096, title="Batch", description="Tokens of one optimizer step, over all processes; a multiple of a sequence."
    )
    seed: int = Field(0, ge=0, title="Seed", description="Seed of the order in which sequences are drawn.")
    max_repetitions: PositiveFloat = Field(
        1.0,
        title="Repetitions allowed",
        description="How often a corpus may be repeated; up to about 4 is nearly as good as fresh text "
        "(Muennighoff et al. 2023).",
    )

    @model_validator(mode="after")
    def _shares_are_a_whole(self) -> "MixConfig":
        total = sum(self.token_shares.values())
        if abs(total - 1) > 1e-6:
            shares = ", ".join(f"{name} {share:g}" for name, share in self.token_shares.items())
            raise ValueError(f"token_shares sum to {total:g} ({shares}), but must sum to 1; change one of them.")
        return self


@stage(version=1, disk_factor=0.0)
def mix(config: MixConfig, inputs: Inputs, out: Path, runtime: Runtime) -> Books:
    """Read the indices of the corpora, check the budget against them, write the mixture."""
    parts = {name.removeprefix(CORPUS): inputs[name] for name in sorted(inputs) if name.startswith(CORPUS)}
    check_names(config.token_shares, parts)
    indices = {name: load_index(part.root / INDEX) for name, part in parts.items()}
    digest = file_sha256(tokenizer_directory(inputs) / "tokenizer.json")
    check_tokenizer(indices, digest)
    mixture = make_mixture(config, indices, digest)
    check_budget(mixture, config.max_repetitions)
    save_mixture(mixture, out / "mixture.json")
    counts: dict[str, float] = {"steps": mixture.num_steps, "tokens": mixture.num_steps * mixture.batch_tokens}
    for corpus, repeated in zip(mixture.corpora, repetitions(mixture), strict=True):
        counts[f"repetitions.{corpus.name}"] = round(repeated, 4)
        counts[f"tail_tokens.{corpus.name}"] = corpus.tokens - (corpus.tokens - 1) // mixture.sequence_tokens * (
            mixture.sequence_tokens
        )
    extension = load_extension(tokenizer_directory(inputs))
    if extension is not None:
        directories = {name: part.root for name, part in parts.items()}
        counts["least_new_token"] = check_new_tokens(new_token_counts(mixture, directories, extension), extension)
    return Books(counts=counts)


def shares_ppm(shares: Mapping[str, float]) -> dict[str, int]:
    """Shares as integers, parts per million, by largest remainder; they sum to 1,000,000 exactly."""
    total = sum(Fraction(share) for share in shares.values())
    exact = {name: Fraction(share) * WHOLE_PPM / total for name, share in shares.items()}
    whole = {name: max(1, int(value)) for name, value in exact.items()}
    by_remainder = sorted(whole, key=lambda name: (whole[name] - exact[name], name))
    for name in by_remainder[: max(0, WHOLE_PPM - sum(whole.values()))]:
        whole[name] += 1
    largest = max(whole, key=lambda name: whole[name])
    whole[largest] += WHOLE_PPM - sum(whole.values())  # shares below one part per million were rounded up to one
    return whole


def make_mixture(config: MixConfig, indices: Mapping[str, TokenizedCorpus], tokenizer_digest: str) -> Mixture:
    """The mixture of these corpora, in this order."""
    ppm = shares_ppm({name: config.token_shares[name] for name in indices})
    corpora = tuple(
        CorpusTokens(
            name=name,
            share_ppm=ppm[name],
            tokens=sum(shard.tokens for shard in index.shards),
            documents=sum(shard.documents for shard in index.shards),
            shards=index.shards,
        )
        for name, index in indices.items()
    )
    return Mixture(
        seed=config.seed,
        sequence_tokens=config.sequence_tokens,
        batch_tokens=config.batch_tokens,
        token_budget=config.token_budget,
        tokenizer_digest=tokenizer_digest,
        vocab_size=max(index.header.vocab_size for index in indices.values()),
        corpora=corpora,
    )


def repetitions(mixture: Mixture) -> list[float]:
    """How often each corpus is gone through; 0.4 is two fifths of it, once."""
    counts = counts_before(mixture.num_sequences, mixture.shares_ppm)
    return [count / windows for count, windows in zip(counts, Sampler(mixture).num_windows, strict=True)]


def largest_budget(mixture: Mixture, max_repetitions: float) -> int:
    """The largest token budget, in whole steps, that repeats no corpus more often than allowed."""
    num_windows = Sampler(mixture).num_windows

    def fits(steps: int) -> bool:
        counts = counts_before(steps * mixture.batch_sequences, mixture.shares_ppm)
        # The very comparison that `repetitions` shows: 19 of 10 windows are 1.9 of them, whatever 1.9 is in binary.
        return all(count / windows <= max_repetitions for count, windows in zip(counts, num_windows, strict=True))

    low, high = 0, int(max_repetitions * sum(num_windows)) // mixture.batch_sequences + 2  # counts only grow
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low * mixture.batch_tokens


def check_budget(mixture: Mixture, max_repetitions: float) -> None:
    """Raise BudgetTooLarge, with what would fit, where a corpus is repeated too often."""
    largest = largest_budget(mixture, max_repetitions)
    if mixture.num_steps * mixture.batch_tokens <= largest:
        return
    counts = counts_before(mixture.num_sequences, mixture.shares_ppm)
    rows = zip(mixture.corpora, counts, repetitions(mixture), strict=True)
    wrong = "; ".join(
        f"`{corpus.name}` has {corpus.tokens:,} tokens and is asked for {count * mixture.sequence_tokens:,} "
        f"({corpus.share_ppm / WHOLE_PPM:.1%} of the budget): {repeated:.2f} repetitions"
        for corpus, count, repeated in rows
        if repeated > max_repetitions
    )
    advice = f"Set token_budget to {largest:,} at most" if largest else "Lower batch_tokens or sequence_tokens"
    raise BudgetTooLarge(
        f"the token budget {mixture.token_budget:,} is too large, for max_repetitions is {max_repetitions:g}: {wrong}. "
        f"{advice}, change token_shares, add text, or allow more repetitions."
    )


def new_token_counts(mixture: Mixture, directories: Mapping[str, Path], extension: Extension) -> npt.NDArray[np.int64]:
    """How often the budget reads each new token as an input: with its windows, and their repetitions."""
    sampler, length = Sampler(mixture), mixture.sequence_tokens
    counts = np.zeros(len(extension.pieces), np.int64)
    numbers = counts_before(mixture.num_sequences, mixture.shares_ppm)
    for place, (corpus, sequences) in enumerate(zip(mixture.corpora, numbers, strict=True)):
        epochs, rest = divmod(sequences, sampler.num_windows[place])
        reads = np.full(sampler.num_windows[place] + 1, epochs)
        reads[-1] = 0  # the tail, which fills no window
        reads[sampler.permutation(place, epochs).forward(np.arange(rest, dtype=np.int64))] += 1
        start = 0
        for shard in CorpusStream(corpus, directories[corpus.name]).shards:
            found = np.flatnonzero(shard.tokens >= extension.base_entries)
            new = shard.tokens[found].astype(np.int64) - extension.base_entries
            windows = np.minimum((found + start) // length, sampler.num_windows[place])
            np.add.at(counts, new, reads[windows])
            start += len(shard.tokens)
    return counts


def check_new_tokens(counts: npt.NDArray[np.int64], extension: Extension) -> int:
    """The count of the rarest new token; raises ValueError if the budget never reads it."""
    never = np.flatnonzero(counts == 0)
    if len(never):
        raise ValueError(
            f"the token budget never reads {len(never):,} of the {len(counts):,} new tokens (the first is number "
            f"{extension.base_entries + int(never[0]):,}), so their rows would stay as they began. Raise "
            "token_budget or the token shares of the sources they are for, or raise extend_tokenizer.min_count."
        )
    return int(counts.min())


def check_names(shares: Mapping[str, float], parts: Mapping[str, Part]) -> None:
    """Every share has a source and every source a share; else ValueError."""
    unknown, without = sorted(set(shares) - set(parts)), sorted(set(parts) - set(shares))
    if unknown or without:
        said = [f"a share for {', '.join(unknown)}, which is no source"] * bool(unknown)
        said += [f"no share for the source {', '.join(without)}"] * bool(without)
        raise ValueError(
            f"token_shares has {' and '.join(said)}. The sources are {', '.join(parts)}; give each of them a share, or "
            "remove the source from the recipe."
        )


def check_tokenizer(indices: Mapping[str, TokenizedCorpus], digest: str) -> None:
    """All corpora were tokenized with this tokenizer; else ValueError."""
    for name, index in indices.items():
        if index.header.tokenizer_digest != digest:
            raise ValueError(
                f"corpus `{name}` was tokenized with {index.header.tokenizer_digest[:12]}..., and the tokenizer of "
                f"this mixture is {digest[:12]}...; tokenize it again with that."
            )
