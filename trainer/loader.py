"""The loader: the sequences of each step as tensors for one rank, prepared one step ahead by a thread.

Shape legend: S sequences of this rank in a step, T tokens in a sequence.
"""

import contextlib
import hashlib
import queue
import threading
from collections.abc import Collection, Generator, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .attention import document_bounds
from .permutation import Integers
from .sampler import Location, Sampler
from .stream import CorpusStream

MASKED = -100
_WORD = 2**64


@dataclass(frozen=True)
class RankBatch:
    """What one rank trains on in a step."""

    step: int
    input_ids: Tensor  # [S, T] int64
    position_ids: Tensor  # [S, T] int64, from zero at each document
    targets: Tensor  # [S, T] int64, MASKED where the target is the first token of a document
    num_targets: int
    """Targets with a loss in the whole step, over all ranks."""
    digest: int
    """Sum of this rank's sequence digests modulo 2**64; summed over the ranks it is the step's."""

    def part(self, rows: slice) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What the model takes of some of the sequences: ids, positions, targets, and the bounds of the documents."""
        positions = self.position_ids[rows]
        return self.input_ids[rows], positions, self.targets[rows], document_bounds(positions)


class Loader:
    """Reads steps of a mixture for one rank."""

    def __init__(self, sampler: Sampler, streams: tuple[CorpusStream, ...], *, rank: int, num_ranks: int) -> None:
        self.sampler = sampler
        self.streams = streams
        self.rank = rank
        self.num_ranks = num_ranks

    def batches(self, first_step: int, left_out: Collection[int] = ()) -> Generator[RankBatch, None, None]:
        """Steps first_step.. to the end of the budget but those left out, each read while the one before is trained."""
        steps = [step for step in range(first_step, self.sampler.mixture.num_steps) if step not in left_out]
        ready: queue.Queue[RankBatch | BaseException] = queue.Queue(maxsize=1)
        closed = threading.Event()
        thread = threading.Thread(target=self._fill, args=(ready, steps, closed), daemon=True, name="loader")
        thread.start()
        try:
            for _ in steps:
                item = ready.get()
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            closed.set()
            with contextlib.suppress(queue.Empty):  # the thread may wait for room
                ready.get_nowait()

    def batch(self, step: int) -> RankBatch:
        """This rank's part of a step."""
        mixture = self.sampler.mixture
        length, per_rank = mixture.sequence_tokens, mixture.batch_sequences // self.num_ranks
        everywhere = self.sampler.locate_step(step)
        all_starts = [self._starts(place) for place in everywhere]
        rows, digest = [], 0
        for i in range(self.rank * per_rank, (self.rank + 1) * per_rank):
            tokens = self._tokens(everywhere[i])
            rows.append(_row(tokens, all_starts[i], length))
            digest += sequence_digest(step * mixture.batch_sequences + i, tokens, all_starts[i])
        num_masked = sum(int((starts > 0).sum()) for starts in all_starts)
        input_ids, position_ids, targets = (torch.from_numpy(np.stack(parts)) for parts in zip(*rows, strict=True))
        return RankBatch(
            step=step,
            input_ids=input_ids,
            position_ids=position_ids,
            targets=targets,
            num_targets=mixture.batch_tokens - num_masked,
            digest=digest % _WORD,
        )

    def sequence(self, place: Location) -> tuple[Tensor, Tensor, Tensor]:
        """Input ids, position ids and targets [1, T] of one sequence."""
        row = _row(self._tokens(place), self._starts(place), self.sampler.mixture.sequence_tokens)
        input_ids, position_ids, targets = (torch.from_numpy(part[None]) for part in row)
        return input_ids, position_ids, targets

    def _fill(self, ready: "queue.Queue[RankBatch | BaseException]", steps: list[int], closed: threading.Event) -> None:
        try:
            for step in steps:
                ready.put(self.batch(step))
                if closed.is_set():
                    return
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits for the batch
            ready.put(error)

    def _tokens(self, place: Location) -> Integers:
        length = self.sampler.mixture.sequence_tokens
        return self.streams[place.corpus].read(place.window * length, length + 1)

    def _starts(self, place: Location) -> Integers:
        length = self.sampler.mixture.sequence_tokens
        return self.streams[place.corpus].document_starts(place.window * length, length + 1)


def on_device(tensors: Iterable[Tensor], device: torch.device) -> list[Tensor]:
    """The tensors on the device of a rank. To a GPU they are copied while it works on what it got before."""
    if device.type != "cuda":
        return list(tensors)
    return [tensor.pin_memory().to(device, non_blocking=True) for tensor in tensors]


def sequence_digest(sequence: int, tokens: Integers, starts: Integers) -> int:
    """64 bits that stand for a sequence's number, tokens and document starts."""
    state = hashlib.blake2b(sequence.to_bytes(8, "little"), digest_size=8)
    state.update(tokens.astype("<u4").tobytes())
    state.update(starts.astype("<u4").tobytes())
    return int.from_bytes(state.digest(), "little")


def digest_parts(digest: int) -> list[float]:
    """A 64-bit digest as four numbers that fp64 adds up exactly over any number of ranks."""
    return [float(digest >> shift & 0xFFFF) for shift in (0, 16, 32, 48)]


def join_digest(parts: list[float]) -> str:
    """The hex digest of a step from the sums of its ranks' parts."""
    total = sum(int(part) << shift for part, shift in zip(parts, (0, 16, 32, 48), strict=True))
    return f"{total % _WORD:016x}"


def _row(tokens: Integers, starts: Integers, length: int) -> tuple[Integers, Integers, Integers]:
    """Input ids, position ids and targets of one sequence, each [T]."""
    targets = tokens[1:].copy()
    targets[starts[starts > 0] - 1] = MASKED
    return tokens[:-1].copy(), _positions(starts, length), targets


def _positions(starts: Integers, length: int) -> Integers:
    """0, 1, 2, ... from the start of the sequence and again from each document start in it."""
    positions = np.arange(length, dtype=np.int64)
    origin = np.zeros(length, dtype=np.int64)
    inside = starts[starts < length]
    origin[inside] = inside
    return positions - np.maximum.accumulate(origin)
