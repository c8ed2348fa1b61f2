"""Bits per byte of held-out text while training: at the start, at intervals in tokens, at the end, by all ranks.

It looks at the weights and changes no bit of them, of the optimizer or of any random stream; so it is place and not
config: another interval renames nothing. What it finds is a line of `held_out.jsonl`. A microbatch is the same rows on
whichever rank it falls, and the sums are added up in the order of the microbatches: any number of ranks comes to the
same number.
"""

import math
import time
from collections.abc import Callable

import torch

from .assemble import Parts
from .fsdp import reshard
from .held_out_text import Sample, load_held_out, sample
from .job import HeldOutJob, TrainJob
from .ranks import Ranks
from .records import HeldOutLine, Records

COST = 0.03  # of the compute of the training, if no interval is given
FORWARD = 1 / 3  # of the compute of a trained token
FEWEST, MOST = 10, 50  # looks, if no interval is given


class HeldOut:
    """The held-out text of a run, or none. Call `measure` before each step and after the last."""

    def __init__(self, job: TrainJob, ranks: Ranks, parts: Parts, records: Records, *, microbatch: int) -> None:
        self.ranks = ranks
        self.parts = parts
        self.records = records
        self.microbatch = microbatch
        self.samples = () if job.held_out is None else open_samples(job.held_out, parts)
        self.every_tokens = 0 if job.held_out is None else interval(job.held_out, parts, self.samples)
        self._newest: int | None = None

    def go_on(self) -> None:
        """Learn from the records what has been measured before. Call it on all ranks."""
        if self.samples:
            self._newest = self.ranks.gather(self.records.newest_held_out())[0]

    def measure(self, step: int, beat: Callable[[], None]) -> None:
        """Measure the weights after `step` steps, if it is time; `beat` is called now and then."""
        if not self.samples or not self._is_due(step):
            return
        began_s = time.monotonic()
        found = bits_per_byte(self.parts, self.ranks, self.samples, microbatch=self.microbatch, beat=beat)
        self._newest = step
        self.records.held_out(
            HeldOutLine(
                step=step,
                tokens=step * self.parts.mixture.batch_tokens,
                bits_per_byte=found,
                seconds=round(time.monotonic() - began_s, 3),
                ended_s=time.time(),
            )
        )

    def told(self) -> dict[str, object]:
        """What is looked at, for the event of a start; empty if nothing is."""
        if not self.samples:
            return {}
        looked_at = {
            one.name: {"documents": one.documents, "tokens": one.num_tokens, "bytes": one.text_bytes}
            for one in self.samples
        }
        return {"held_out": looked_at, "held_out_every_tokens": self.every_tokens}

    def _is_due(self, step: int) -> bool:
        if self._newest is None:
            return True
        mixture = self.parts.mixture
        passed = [number * mixture.batch_tokens // self.every_tokens for number in (self._newest, step)]
        return step > self._newest and (passed[1] > passed[0] or step == mixture.num_steps)


def open_samples(job: HeldOutJob, parts: Parts) -> tuple[Sample, ...]:
    """What is looked at of each source.

    Raises:
        FileNotFoundError, ValueError: the held-out text is not there, damaged, or of another tokenizer.
    """
    mixture = parts.mixture
    text = load_held_out(job.directory, mixture)
    most = job.tokens
    if job.every_tokens is None:
        affordable = COST / FORWARD * mixture.token_budget / (FEWEST + 1)
        most = max(1, min(most, int(affordable / len(text.sources))))
    return tuple(
        sample(job.directory, source, context_tokens=mixture.sequence_tokens, max_tokens=most)
        for source in text.sources
    )


def interval(job: HeldOutJob, parts: Parts, samples: tuple[Sample, ...]) -> int:
    """Tokens between two looks: as asked, else as often as `COST` allows, but at most `MOST` times."""
    if job.every_tokens is not None:
        return job.every_tokens
    row_tokens = sum(len(one.rows) for one in samples) * parts.mixture.sequence_tokens
    return max(parts.mixture.token_budget // MOST, math.ceil(row_tokens * FORWARD / COST), 1)


def bits_per_byte(
    parts: Parts, ranks: Ranks, samples: tuple[Sample, ...], *, microbatch: int, beat: Callable[[], None]
) -> dict[str, float | None]:
    """By source; None where it is not finite. Call it on all ranks.

    Each forward gathers the sharded parameters, so every rank forwards equally often: the last ones may be empty.
    """
    model, length = parts.model, parts.mixture.sequence_tokens
    work = [(one, first) for one in samples for first in range(0, len(one.rows), microbatch)]
    rounds = -(-len(work) // ranks.num_ranks)
    nats = [0.0] * len(work)
    model.eval()  # without z-loss
    try:
        with torch.no_grad():
            for number in range(ranks.rank, rounds * ranks.num_ranks, ranks.num_ranks):
                one, first = work[number] if number < len(work) else (samples[0], len(samples[0].rows))
                loss = model(*(tensor.to(ranks.device) for tensor in one.microbatch(first, microbatch, length)))
                if number < len(work):
                    nats[number] = float(loss)
                beat()
    finally:
        model.train()
        reshard(model)
    nats = ranks.sum(nats)
    totals = {one.name: sum(n for n, (other, _) in zip(nats, work, strict=True) if other is one) for one in samples}
    bits = {one.name: totals[one.name] / math.log(2) / one.text_bytes for one in samples}
    return {name: round(value, 6) if math.isfinite(value) else None for name, value in bits.items()}
