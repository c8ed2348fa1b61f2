"""Recovery: where a run goes on, what it leaves out, and when it gives up.

A spike is rolled back in place: the decision is made to last, checkpoints that have trained on the suspected steps go,
the newest that has not is loaded, and the run goes on without those steps. The documents are named on the way.
"""

import logging
import time
from pathlib import Path

from .assemble import Parts
from .checkpoint import State
from .ending import Stopped
from .guard import Guard, Spike
from .job import TrainJob
from .model import fill
from .ranks import Ranks
from .records import Records
from .saving import Saver
from .skips import Rollback, load_skips, save_skips
from .suspects import Suspect, find_suspects, propose_quarantine
from .trunk import load_trunk

log = logging.getLogger(__name__)

SHOWN_DOCUMENTS = 20  # in an event; quarantine.jsonl has all


class Recovery:
    """What a run knows of its own troubles. All ranks see the same losses, so all come to the same decisions."""

    def __init__(self, job: TrainJob, ranks: Ranks, parts: Parts, records: Records, saver: Saver) -> None:
        self.job = job
        self.ranks = ranks
        self.parts = parts
        self.records = records
        self.saver = saver
        self.guard = Guard(job.config.guard)
        self.skips = load_skips(job.output)
        self.skipped: dict[int, str] = {}
        """Steps so far that touched no parameter, and why."""
        self._has_initial = parts.has_initial

    @property
    def left_out(self) -> frozenset[int]:
        """Steps that are not trained on."""
        return self.skips.steps

    @property
    def is_suspicious(self) -> bool:
        """Whether the last loss was high: what may have to be undone is not worth a checkpoint."""
        return bool(self.guard.high_steps)

    def state(self, step: int) -> State:
        """What a checkpoint after `step` steps says."""
        skipped = {str(number): reason for number, reason in self.skipped.items()}
        updates, identity = self.parts.optimizer.num_updates, self.parts.identity
        return State(step, updates, identity, skipped, list(self.guard.losses), list(self.guard.high_steps))

    def load(self) -> tuple[int, bool]:
        """Load the newest checkpoint that leaves out what must be, else the trunk, else the first weights.

        Returns the step, and whether this run had come so far by itself.
        """
        checkpoints, optimizer = self.saver.checkpoints, self.parts.optimizer
        checkpoints.clear(self.left_out)
        state = checkpoints.load_latest(optimizer, self.parts.identity, on_damaged=self._report_damage)
        is_resumed = state is not None
        if state is None and self.job.trunk is not None:
            state = load_trunk(self.job.trunk, self.ranks, optimizer)
        if state is None:
            if not self._has_initial:
                fill(self.parts.model, self.ranks.device, self.parts.initial())
                optimizer.forget()
            state = State(0, 0, self.parts.identity, {}, [], [])
        self._has_initial = False
        self.skipped = {int(step): reason for step, reason in state.skipped.items()}
        self.guard = Guard(self.job.config.guard, state.window, state.high_steps)
        return state.step, is_resumed

    def judge(self, step: int, loss: float, *, is_finite: bool) -> Spike | None:
        """The spike that the step completes, if it does.

        Raises:
            Stopped: it is one of too many steps in a row that were not finite.
        """
        if is_finite:
            return self.guard.watch(step, loss)
        self.skipped[step] = "non-finite"
        first = step
        while self.skipped.get(first - 1) is not None:
            first -= 1
        steps = [number for number in range(first, step + 1) if self.skipped[number] == "non-finite"]
        if len(steps) >= self.job.config.guard.max_nonfinite_steps:
            suspects = find_suspects(self.parts, self.ranks, steps)
            self._propose(suspects, "non-finite")
            raise Stopped(
                f"{len(steps)} steps in a row, {steps[0]} to {step}, had no finite loss or gradient, and touched no "
                f"parameter. Look at their documents (quarantine.jsonl, {len(suspects)} of them), lower peak_lr, or "
                f"raise config.guard.max_nonfinite_steps; the same command then goes on from the last checkpoint.",
                step=step,
                documents=_ids(suspects),
            )
        return None

    def roll_back(self, spike: Spike) -> int:
        """Undo what led to a spike; returns the step to go on from.

        Raises:
            Stopped: that has been done often enough.
        """
        began_s = time.monotonic()
        self.saver.settle()
        self._decide(spike)
        self.saver.checkpoints.clear(self.left_out)
        to_step, _ = self.load()
        suspects = find_suspects(self.parts, self.ranks, spike.suspects)
        self._propose(suspects, "spike")
        rewound = self.records.rewind(to_step)
        log.warning("loss spike at step %d: back to step %d, without steps %s.", spike.last, to_step, spike.suspects)
        self.records.event(
            "spike",
            spike.last,
            loss=spike.loss,
            threshold=round(spike.threshold, 6),
            skipped_steps=list(spike.suspects),
            to_step=to_step,
            rollback=self.skips.near(spike.last, self.job.config.guard.window_steps),
            documents=_ids(suspects)[:SHOWN_DOCUMENTS],
            num_documents=len(_ids(suspects)),
            seconds=round(time.monotonic() - began_s, 3),
            redone_steps=rewound.redone_steps,
            redone_s=rewound.redone_s,
        )
        return to_step

    def _decide(self, spike: Spike) -> None:
        guard = self.job.config.guard
        tries = self.skips.near(spike.last, guard.window_steps)
        if tries >= guard.max_rollbacks:
            suspects = find_suspects(self.parts, self.ranks, spike.suspects)
            self._propose(suspects, "spike")
            raise Stopped(
                f"the loss spiked at step {spike.last} ({spike.loss:.3f}, above {spike.threshold:.3f}) after {tries} "
                f"rollbacks nearby. Look at the documents (quarantine.jsonl), lower peak_lr, or raise "
                f"config.guard.deviations; the same command then goes on from the last checkpoint.",
                step=spike.last,
                documents=_ids(suspects),
            )
        self.skips = self.skips.and_also(Rollback(spike.last, tuple(spike.suspects)))
        if self.ranks.is_first:
            save_skips(self.skips, self.job.output)
        self.ranks.barrier()

    def _propose(self, suspects: list[Suspect], reason: str) -> None:
        if self.ranks.is_first:
            propose_quarantine(self.job.output, suspects, reason)

    def _report_damage(self, path: Path, problem: str) -> None:
        log.error("checkpoint %s is damaged (%s); the one before it is tried.", path, problem)
        step = int(path.name.removeprefix("step-"))
        self.records.event("damaged_checkpoint", step, checkpoint=path.name, problem=problem)


def _ids(suspects: list[Suspect]) -> list[str]:
    """Their documents, each once, worst first."""
    return list(dict.fromkeys(suspect.doc_id for suspect in suspects))
