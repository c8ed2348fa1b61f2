"""How a run ends: done with a model, preempted with a checkpoint, or stopped because going on would be of no use."""

import logging
from collections.abc import Mapping

from .assemble import Parts
from .checkpoint import State
from .export import export
from .files import write_json
from .job import EXIT_FAILED, EXIT_PREEMPTED, EXIT_STOPPED, TrainJob
from .ranks import Ranks
from .records import Records
from .saving import Saver
from .trunk import first_step, leave_state

log = logging.getLogger(__name__)


class Stopped(Exception):
    """Another start would come to the same end; the message says what was found and what to do."""

    def __init__(self, message: str, *, step: int, documents: list[str]) -> None:
        super().__init__(message)
        self.step = step
        self.documents = documents


class Ending:
    """The last acts of a run."""

    def __init__(self, job: TrainJob, ranks: Ranks, parts: Parts, records: Records, saver: Saver) -> None:
        self.job = job
        self.ranks = ranks
        self.parts = parts
        self.records = records
        self.saver = saver

    def forget_others(self) -> None:
        """A run that goes on has not ended."""
        if self.ranks.is_first:
            for name in ("preempted.json", "stopped.json"):
                (self.job.output / name).unlink(missing_ok=True)

    def preempt(self, state: State) -> int:
        """Leave a checkpoint; where the disk has no room, the one before is what the next start goes on from."""
        saved = self.saver.save_now(state)
        if not saved and self.saver.checkpoints.newest_step is None:
            return EXIT_FAILED
        step = self.saver.checkpoints.newest_step
        self.records.event("preempt", state.step, checkpoint_step=step)
        if self.ranks.is_first:
            try:
                write_json(self.job.output / "preempted.json", {"step": step})
            except OSError as error:
                log.error("preempted.json could not be written: %s. The next start goes on from step %s.", error, step)
        return EXIT_PREEMPTED

    def stop(self, stopped: Stopped) -> int:
        """Say clearly why the run does not go on."""
        self.saver.settle()
        self.records.event("stopped", stopped.step, reason=str(stopped), documents=stopped.documents[:20])
        if self.ranks.is_first:
            log.error("STOPPED: %s", stopped)
            found = {"step": stopped.step, "reason": str(stopped), "documents": stopped.documents}
            write_json(self.job.output / "stopped.json", found)
        return EXIT_STOPPED

    def finish(self, state: State, figures: Mapping[str, float]) -> None:
        """Export the model, and of a run at a flat rate its state; write done.json last."""
        self.saver.settle()
        skipped = {int(step): reason for step, reason in state.skipped.items()}
        mixture, optimizer = self.parts.mixture, self.parts.optimizer
        precision = self.job.config.export_precision
        export(
            self.job.output / "model",
            optimizer,
            self.parts.hf_config,
            self.job.tokenizer,
            precision=precision,
            ranks=self.ranks,
        )
        if self.job.config.schedule.name == "constant":
            leave_state(self.job, self.ranks, optimizer, state)
        self.records.event("done", mixture.num_steps, seconds=round(figures["seconds"], 3))
        self.records.sync()
        if self.ranks.is_first:
            summary = {
                "steps": mixture.num_steps,
                "tokens": (mixture.num_steps - len(skipped)) * mixture.batch_tokens,
                "skipped_tokens": len(skipped) * mixture.batch_tokens,
                "trunk_tokens": first_step(self.job.trunk) * mixture.batch_tokens,
                "parameters": sum(parameter.numel() for parameter in self.parts.model.parameters()),
                "skipped_steps": len(skipped),
                "skipped": {str(step): skipped[step] for step in sorted(skipped)},
                **figures,
            }
            write_json(self.job.output / "done.json", summary)
