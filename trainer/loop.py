"""The training loop: from assembled parts to an exported model, through any number of interruptions.

One sum over the ranks a step carries all that they must agree on: gradient norm, loss, sequence digest, the wish to
stop, the checkpoint that is due or written, and how fast each rank is.
"""

import math
import signal
import statistics
import time
from dataclasses import dataclass
from types import FrameType

import torch
from torch import Tensor

from . import startup
from .assemble import Parts
from .ending import Ending, Stopped
from .flops import attended, flops_per_token, peak_flops
from .fsdp import accumulate
from .guard import Spike
from .heartbeat import Heart
from .held_out import HeldOut
from .job import EXIT_DONE, TrainJob
from .loader import RankBatch, digest_parts, join_digest, on_device
from .microbatch import load_microbatch
from .pace import Pace, Watch
from .ranks import Ranks
from .records import Records, StepMetrics
from .recovery import Recovery
from .saving import Saver, Wishes
from .trunk import first_step


@dataclass(frozen=True)
class Agreed:
    """What all ranks know after the sum of a step."""

    loss: float
    grad_norm: float
    digest: str
    stop: bool
    saving: Wishes
    paces_s: list[float]

    @property
    def is_finite(self) -> bool:
        """Whether the step may touch the parameters."""
        return math.isfinite(self.grad_norm) and math.isfinite(self.loss)


class Run:
    """One execution of a job on this rank."""

    def __init__(self, job: TrainJob, ranks: Ranks, parts: Parts) -> None:
        self.job = job
        self.ranks = ranks
        self.parts = parts
        self.num_steps = parts.mixture.num_steps
        job.output.mkdir(parents=True, exist_ok=True)
        self.records = Records(job.output, is_first=ranks.is_first, first_step=first_step(job.trunk))
        self.saver = Saver(job, ranks, self.records, parts.optimizer)
        self.recovery = Recovery(job, ranks, parts, self.records, self.saver)
        self.ending = Ending(job, ranks, parts, self.records, self.saver)
        self.heart = Heart(job.output, ranks.rank)
        self.pace, self.watch = Pace(ranks.device), Watch()
        self.microbatch = int(ranks.gather(load_microbatch(job).sequences)[0])  # all must forward equally often
        self.held_out = HeldOut(job, ranks, parts, self.records, microbatch=self.microbatch)
        self.flops_per_token = flops_per_token(parts.model, parts.hf_config, parts.mixture.sequence_tokens)
        self.dense_flops = flops_per_token(parts.model, parts.hf_config, 0)
        self.peak_flops = peak_flops(ranks.device)
        self.stop_asked = False

    def train(self) -> int:
        """Train to the end of the budget, or until asked to stop by SIGTERM; returns the exit code."""
        before = signal.signal(signal.SIGTERM, self._ask_to_stop)
        try:
            return self._train_from(self.restore())
        except Stopped as stopped:
            return self.ending.stop(stopped)
        finally:
            signal.signal(signal.SIGTERM, before)

    def _train_from(self, first_step: int) -> int:
        """Go on from a step, and from an earlier one as often as a spike makes it."""
        began_s, again = time.monotonic(), first_step
        self.saver.start_clock()
        while True:
            outcome = self.steps(again)
            if isinstance(outcome, int):
                return outcome
            if outcome is None:
                return self._finish(time.monotonic() - began_s)
            again = self.recovery.roll_back(outcome)

    def steps(self, first_step: int) -> int | Spike | None:
        """Steps from `first_step` on: to the end (None), to a spike, or to a stop (the exit code)."""
        self.held_out.go_on()
        batches = self.parts.loader.batches(first_step, self.recovery.left_out)
        try:
            for step in range(first_step, self.num_steps):
                self.held_out.measure(step, self.heart.beat)
                if step in self.recovery.left_out:
                    self._leave_out(step)
                    continue
                waited_s = time.monotonic()
                batch = next(batches)
                outcome = self._go(batch, data_s=time.monotonic() - waited_s)
                if outcome is not None:
                    return outcome
        finally:
            batches.close()
        return None

    def _go(self, batch: RankBatch, *, data_s: float) -> int | Spike | None:
        """One step and what follows from it."""
        agreed = self._step(batch, data_s=data_s)
        self.heart.beat()
        done = batch.step + 1
        spike = self.recovery.judge(batch.step, agreed.loss, is_finite=agreed.is_finite)
        if spike is not None:
            return spike
        if agreed.stop and done < self.num_steps:
            return self.ending.preempt(self.recovery.state(done))
        if done < self.num_steps:
            self.saver.after_step(agreed.saving, lambda: self.recovery.state(done))
        return None

    def _step(self, batch: RankBatch, *, data_s: float = 0.0) -> Agreed:
        """Forward and backward, agree, update, and write it down."""
        began_s = time.monotonic()
        self.pace.measure()
        agreed = self._agree(batch, self._forward_backward(batch))
        mixture, config = self.parts.mixture, self.job.config
        middle = (batch.step + 0.5) * mixture.batch_tokens
        lr = config.schedule.learning_rate(middle, token_budget=mixture.token_budget, peak=config.peak_lr)
        if agreed.is_finite:
            self.parts.optimizer.step(lr=lr, grad_norm=agreed.grad_norm)
        else:
            self.parts.optimizer.drop_gradients()
            self.records.event("skip", batch.step, reason="non-finite loss or gradient", digest=agreed.digest)
        self._record(batch, agreed, lr, step_s=time.monotonic() - began_s, data_s=data_s)
        return agreed

    def _forward_backward(self, batch: RankBatch) -> Tensor:
        """Gradients of the mean loss over the step's targets on all ranks; returns this rank's summed loss.

        Nothing in it waits for the device.
        """
        model, size = self.parts.model, self.microbatch
        # FSDP averages gradients over the ranks; the mean wanted is over the targets, wherever they are.
        scale = self.ranks.num_ranks / batch.num_targets
        losses, num_sequences = [], len(batch.input_ids)
        for first in range(0, num_sequences, size):
            accumulate(model, is_last=first + size >= num_sequences)
            loss = model(*on_device(batch.part(slice(first, first + size)), self.ranks.device))
            (loss * scale).backward()
            losses.append(loss.detach())
        return torch.stack(losses).double().sum()

    def _agree(self, batch: RankBatch, loss_sum: Tensor) -> Agreed:
        paces_s = [0.0] * self.ranks.num_ranks
        paces_s[self.ranks.rank] = self.pace.last_s
        wishes = self.saver.wishes(may_begin=not self.recovery.is_suspicious)
        norm = self.parts.optimizer.squared_norm()
        norm = norm if self.ranks.replica == 0 else torch.zeros_like(norm)  # replicas hold the same gradients
        mine = [float(self.stop_asked), *wishes, *digest_parts(batch.digest), *paces_s]
        stop, *others, loss, squared_norm = self.ranks.sum(mine, [loss_sum, norm])
        return Agreed(
            loss=loss / batch.num_targets,
            grad_norm=math.sqrt(squared_norm),
            digest=join_digest(others[3:7]),
            stop=stop > 0,
            saving=self.saver.agreed(others[:3]),
            paces_s=others[7:],
        )

    def _record(self, batch: RankBatch, agreed: Agreed, lr: float, *, step_s: float, data_s: float) -> None:
        step, tokens_per_s = batch.step, self.parts.mixture.batch_tokens / step_s
        share = attended(batch.position_ids) / self.parts.mixture.sequence_tokens  # of this rank's, as a sample
        flops = self.dense_flops + share * (self.flops_per_token - self.dense_flops)
        flops_per_rank_s = tokens_per_s * flops / self.ranks.num_ranks
        slowest = max(range(self.ranks.num_ranks), key=lambda rank: agreed.paces_s[rank])
        typical_s = statistics.median_low(agreed.paces_s)
        for straggler in self.watch.look(agreed.paces_s, self.pace.number):
            self.records.event("straggler", step, rank=straggler.rank, ratio=straggler.ratio, median_s=typical_s)
        self.records.step(
            StepMetrics(
                step=step,
                tokens=(step + 1) * self.parts.mixture.batch_tokens,
                loss=agreed.loss if agreed.is_finite else None,
                grad_norm=agreed.grad_norm if agreed.is_finite else None,
                lr=lr,
                tokens_per_s=tokens_per_s,
                mfu=None if self.peak_flops is None else flops_per_rank_s / self.peak_flops,
                step_s=step_s,
                data_s=data_s,
                stall_s=self.saver.stall_s(),
                digest=agreed.digest,
                skipped=None if agreed.is_finite else "non-finite",
                slowest_rank=slowest,
                slowest_ratio=round(agreed.paces_s[slowest] / typical_s, 3) if typical_s else None,
                ended_s=time.time(),
            ),
            num_steps=self.num_steps,
        )

    def _leave_out(self, step: int) -> None:
        """A step that a spike was traced to: its place in the order and in the schedule stays, and stays empty."""
        self.recovery.skipped[step] = "spike"
        tokens = (step + 1) * self.parts.mixture.batch_tokens
        self.records.step(StepMetrics(step, tokens, skipped="spike", ended_s=time.time()), num_steps=self.num_steps)

    def restore(self) -> int:
        """Load the newest good checkpoint; returns the number of the first step to train."""
        self.heart.beat()
        self.ending.forget_others()
        began_s = time.monotonic()
        step, is_resumed = self.recovery.load()
        rewound = self.records.rewind(step)
        self.records.event(
            "resume" if is_resumed else "start",
            step,
            num_steps=self.num_steps,
            num_ranks=self.ranks.num_ranks,
            microbatch_sequences=self.microbatch,
            device=str(self.ranks.device),
            mfu_peak_flops=self.peak_flops,
            restore_s=round(time.monotonic() - began_s, 3),
            startup_s=startup.told(),
            redone_steps=rewound.redone_steps,
            redone_s=rewound.redone_s,
            metrics_lost=rewound.missing,
            **self.held_out.told(),
        )
        self.heart.beat()
        return step

    def _finish(self, seconds: float) -> int:
        """Export, and say that it is done. `seconds` are those since the last resume."""
        self.held_out.measure(self.num_steps, self.heart.beat)
        figures = {"seconds": seconds, "flops_per_token": self.flops_per_token}
        self.ending.finish(self.recovery.state(self.num_steps), figures)
        return EXIT_DONE

    def _ask_to_stop(self, number: int, frame: FrameType | None) -> None:
        self.stop_asked = True
