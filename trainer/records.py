"""What a run leaves to be read: `metrics.jsonl` (one line a step), `events.jsonl`, and a status line on stderr.

Only the first rank writes. On resume, metrics are cut back to the checkpoint, so that each step has one line. What a
full disk does not take waits in memory: a run goes on without its records, and writes them when there is room again.
"""

import contextlib
import json
import os
import sys
import time
from collections import deque
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from .files import Lines

STATUS_EVERY_S = 2.0


@dataclass(frozen=True)
class StepMetrics:
    """One step. `digest` stands for its tokens; `mfu` is null where the peak of the hardware is not known."""

    step: int
    tokens: int
    loss: float | None = None
    grad_norm: float | None = None
    lr: float | None = None
    tokens_per_s: float | None = None
    mfu: float | None = None
    step_s: float = 0.0
    data_s: float = 0.0
    """Waiting for the loader, beside `step_s`."""
    stall_s: float = 0.0
    """Standing still for a checkpoint since the step before, beside `step_s`."""
    digest: str | None = None
    skipped: str | None = None
    """Why no parameter was touched; null if the step is trained on."""
    slowest_rank: int | None = None
    """The rank that takes longest for the same small piece of work."""
    slowest_ratio: float | None = None
    """How much longer than the median of the ranks."""
    ended_s: float = 0.0
    """When it ended, in seconds since 1970."""


@dataclass(frozen=True)
class Rewound:
    """What a resume found in the metrics: steps to be trained again, how long they took, lines that are missing."""

    redone_steps: int
    redone_s: float
    missing: int


class Records:
    """The files of one run, on the first rank; elsewhere nothing is written. Line 0 of the metrics is `first_step`."""

    def __init__(self, output: Path, *, is_first: bool, first_step: int = 0) -> None:
        self.output = output
        self.is_first = is_first
        self.first_step = first_step
        self._metrics = Lines(output / "metrics.jsonl")
        self._events = Lines(output / "events.jsonl")
        self._status_at_s = 0.0
        self._recent_s: deque[float] = deque(maxlen=100)

    def rewind(self, step: int) -> Rewound:
        """Keep the lines of the steps before `step`, and drop those that are trained again."""
        if not self.is_first:
            return Rewound(0, 0.0, 0)
        path = self._metrics.path
        path.touch()
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        num_kept = step - self.first_step
        redone = [json.loads(line) for line in lines[num_kept:] if line.endswith("\n")]
        os.truncate(path, sum(len(line.encode()) for line in lines[:num_kept]))
        took_s = sum(line["step_s"] + line["data_s"] + line["stall_s"] for line in redone)
        return Rewound(len(redone), round(took_s, 3), num_kept - len(lines[:num_kept]))

    def step(self, metrics: StepMetrics, *, num_steps: int) -> None:
        """Append a step's line, and now and then say on stderr where the run is."""
        self._recent_s.append(metrics.step_s)
        if self.is_first:
            self._metrics.append(asdict(metrics))
            self._status(metrics, num_steps)

    def sync(self) -> None:
        """Force the metrics to disk: a checkpoint must not know more steps than they do.

        Raises:
            OSError: the disk has no room for them.
        """
        if self.is_first:
            self._metrics.sync()

    def event(self, event: str, step: int, **details: object) -> None:
        """Append a line to events.jsonl."""
        if self.is_first:
            append_event(self._events, event, step, **details)

    def _status(self, metrics: StepMetrics, num_steps: int) -> None:
        """One JSON line on stderr, at most every two seconds."""
        now_s = time.monotonic()
        if now_s < self._status_at_s:
            return
        self._status_at_s = now_s + STATUS_EVERY_S
        mean_s = sum(self._recent_s) / len(self._recent_s)
        line = {
            "step": metrics.step + 1,
            "steps": num_steps,
            "loss": metrics.loss,
            "tokens_per_s": round(metrics.tokens_per_s or 0),
            "eta_s": round(mean_s * (num_steps - metrics.step - 1)),
        }
        with contextlib.suppress(OSError):  # the log may lie on the full disk
            sys.stderr.write(json.dumps(line) + "\n")
            sys.stderr.flush()


def append_event(lines: Lines, event: str, step: int | None, **details: object) -> None:
    """Append an event, with the time."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    lines.append({"time": now, "event": event, "step": step, **details})
