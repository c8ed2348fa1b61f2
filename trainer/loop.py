"""The training loop: from assembled parts to an exported model, through any number of interruptions.

One sum over the ranks a step carries all that they must agree on: gradient norm, loss, sequence digest, the wish to
stop, and the checkpoint that is due or written.
"""

import json
import logging
import math
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import torch

from .assemble import Parts
from .checkpoint import Checkpointer, State
from .export import export
from .flops import flops_per_token, peak_flops
from .fsdp import accumulate
from .job import EXIT_DONE, EXIT_PREEMPTED, TrainJob
from .loader import RankBatch, digest_parts, join_digest
from .ranks import Ranks
from .records import Records, StepMetrics

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Agreed:
    """What all ranks know after the sum of a step."""

    loss: float
    grad_norm: float
    digest: str
    stop: bool
    checkpoint_due: bool
    checkpoint_written: bool

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
        self.records = Records(job.output, is_first=ranks.is_first)
        self.checkpoints = Checkpointer(job.output / "checkpoints", ranks, keep=job.place.keep_checkpoints)
        self.flops_per_token = flops_per_token(parts.model, parts.hf_config, parts.mixture.sequence_tokens)
        self.peak_flops = peak_flops(ranks.device)
        self.stop_asked = False
        self.checkpoint_at_s = math.inf

    def train(self) -> int:
        """Train to the end of the budget, or until asked to stop by SIGTERM; returns the exit code."""
        before = signal.signal(signal.SIGTERM, self._ask_to_stop)
        try:
            return self._train_from(self._restore())
        finally:
            signal.signal(signal.SIGTERM, before)

    def _train_from(self, first_step: int) -> int:
        began_s = time.monotonic()
        self.checkpoint_at_s = began_s + self.job.place.checkpoint_every_s
        for batch in self.parts.loader.batches(first_step):
            agreed = self._step(batch)
            done = batch.step + 1
            if agreed.checkpoint_written:
                self._complete_checkpoint()
            if agreed.stop and done < self.num_steps:
                return self._preempt(done)
            if agreed.checkpoint_due and done < self.num_steps:
                self._begin_checkpoint(done)
        return self._finish(time.monotonic() - began_s)

    def _step(self, batch: RankBatch) -> Agreed:
        """Forward and backward, agree, update, and write it down."""
        began_s = time.monotonic()
        agreed = self._agree(batch, self._forward_backward(batch))
        mixture, config = self.parts.mixture, self.job.config
        middle = (batch.step + 0.5) * mixture.batch_tokens
        lr = config.schedule.learning_rate(middle, token_budget=mixture.token_budget, peak=config.peak_lr)
        if agreed.is_finite:
            self.parts.optimizer.step(lr=lr, grad_norm=agreed.grad_norm)
        else:
            self.parts.optimizer.drop_gradients()
            self.records.event("skip", batch.step, reason="non-finite loss or gradient", digest=agreed.digest)
        self._record(batch.step, agreed, lr, time.monotonic() - began_s)
        return agreed

    def _forward_backward(self, batch: RankBatch) -> float:
        """Gradients of the mean loss over the step's targets on all ranks; returns this rank's summed loss."""
        model, size = self.parts.model, self.job.place.microbatch_sequences
        # FSDP averages gradients over the ranks; the mean wanted is over the targets, wherever they are.
        scale = self.ranks.num_ranks / batch.num_targets
        losses, num_sequences = [], len(batch.input_ids)
        for first in range(0, num_sequences, size):
            part = slice(first, first + size)
            accumulate(model, is_last=first + size >= num_sequences)
            inputs = (batch.input_ids[part], batch.position_ids[part], batch.targets[part])
            loss = model(*(tensor.to(self.ranks.device, non_blocking=True) for tensor in inputs))
            (loss * scale).backward()
            losses.append(loss.detach())
        return float(torch.stack(losses).double().sum())

    def _agree(self, batch: RankBatch, loss_sum: float) -> Agreed:
        busy = self.checkpoints.in_progress
        due = self.ranks.is_first and not busy and time.monotonic() >= self.checkpoint_at_s
        wishes = [float(self.stop_asked), float(due), float(busy and self.checkpoints.written)]
        mine = [loss_sum, self.parts.optimizer.squared_norm(), *wishes, *digest_parts(batch.digest)]
        loss, squared_norm, stop, checkpoint_due, num_written, *digest = self.ranks.sum(mine)
        return Agreed(
            loss=loss / batch.num_targets,
            grad_norm=math.sqrt(squared_norm),
            digest=join_digest(digest),
            stop=stop > 0,
            checkpoint_due=checkpoint_due > 0,
            checkpoint_written=num_written == self.ranks.num_ranks,
        )

    def _record(self, step: int, agreed: Agreed, lr: float, step_s: float) -> None:
        tokens_per_s = self.parts.mixture.batch_tokens / step_s
        flops_per_rank_s = tokens_per_s * self.flops_per_token / self.ranks.num_ranks
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
                digest=agreed.digest,
            ),
            num_steps=self.num_steps,
        )

    def _restore(self) -> int:
        """Load the newest good checkpoint; returns the number of the first step to train."""
        if self.ranks.is_first:
            (self.job.output / "preempted.json").unlink(missing_ok=True)
        state = self.checkpoints.load_latest(self.parts.optimizer, self.parts.identity, on_damaged=self._report_damage)
        step = 0 if state is None else state.step
        lost = self.records.rewind(step)
        self.records.event(
            "start" if state is None else "resume",
            step,
            num_steps=self.num_steps,
            num_ranks=self.ranks.num_ranks,
            device=str(self.ranks.device),
            mfu_peak_flops=self.peak_flops,
            metrics_lost=lost,
        )
        return step

    def _report_damage(self, path: Path, problem: str) -> None:
        log.error("checkpoint %s is damaged (%s); the one before it is tried.", path, problem)
        self.records.event("damaged_checkpoint", _step_of(path), checkpoint=path.name, problem=problem)

    def _begin_checkpoint(self, step: int) -> None:
        began_s = time.monotonic()
        self.records.sync()
        optimizer = self.parts.optimizer
        self.checkpoints.begin(State(step, optimizer.num_updates, self.parts.identity), optimizer)
        self.checkpoint_at_s = time.monotonic() + self.job.place.checkpoint_every_s
        self.records.event("checkpoint_begun", step, stall_s=round(time.monotonic() - began_s, 4))

    def _complete_checkpoint(self) -> None:
        path = self.checkpoints.complete()
        self.records.event("checkpoint", _step_of(path), checkpoint=path.name)

    def _settle_checkpoint(self) -> None:
        """Complete the checkpoint that is being written, if one is."""
        if self.checkpoints.in_progress:
            self.checkpoints.wait()
            self._complete_checkpoint()

    def _preempt(self, step: int) -> int:
        self._settle_checkpoint()
        self._begin_checkpoint(step)
        self._settle_checkpoint()
        self.records.event("preempt", step)
        if self.ranks.is_first:
            (self.job.output / "preempted.json").write_text(json.dumps({"step": step}) + "\n", encoding="utf-8")
        return EXIT_PREEMPTED

    def _finish(self, seconds: float) -> int:
        """Export, and say that it is done. `seconds` are those since the last resume."""
        self._settle_checkpoint()
        export(
            self.job.output / "model",
            self.parts.optimizer,
            self.parts.hf_config,
            self.job.tokenizer,
            precision=self.job.config.export_precision,
            ranks=self.ranks,
        )
        self.records.event("done", self.num_steps, seconds=round(seconds, 3))
        self.records.sync()
        if self.ranks.is_first:
            summary = {
                "steps": self.num_steps,
                "tokens": self.num_steps * self.parts.mixture.batch_tokens,
                "seconds": seconds,
                "parameters": sum(parameter.numel() for parameter in self.parts.model.parameters()),
                "flops_per_token": self.flops_per_token,
                "skipped_steps": self.num_steps - self.parts.optimizer.num_updates,
            }
            partial = self.job.output / "done.json.partial"
            partial.write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
            partial.replace(self.job.output / "done.json")
        return EXIT_DONE

    def _ask_to_stop(self, number: int, frame: FrameType | None) -> None:
        self.stop_asked = True


def _step_of(path: Path) -> int:
    return int(path.name.removeprefix("step-"))
