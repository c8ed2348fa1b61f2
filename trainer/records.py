"""What a run leaves to be read: `metrics.jsonl` (one line a step), `events.jsonl`, and a status line on stderr.

Only the first rank writes. On resume, metrics are cut back to the checkpoint, so that each step has one line.
"""

import json
import os
import sys
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

STATUS_EVERY_S = 2.0


@dataclass(frozen=True)
class StepMetrics:
    """One step. `digest` stands for its tokens; `mfu` is null where the peak of the hardware is not known."""

    step: int
    tokens: int
    loss: float | None
    grad_norm: float | None
    lr: float
    tokens_per_s: float
    mfu: float | None
    step_s: float
    digest: str


class Records:
    """The files of one run, on the first rank; elsewhere nothing is written."""

    def __init__(self, output: Path, *, is_first: bool) -> None:
        self.output = output
        self.is_first = is_first
        self._metrics = output / "metrics.jsonl"
        self._status_at_s = 0.0
        self._recent_s: deque[float] = deque(maxlen=100)

    def rewind(self, step: int) -> int:
        """Keep the lines of the steps before `step`, which are trained again; returns how many of those are missing."""
        if not self.is_first:
            return 0
        self._metrics.touch()
        kept = self._metrics.read_text(encoding="utf-8").splitlines(keepends=True)[:step]
        os.truncate(self._metrics, sum(len(line.encode()) for line in kept))
        return step - len(kept)

    def step(self, metrics: StepMetrics, *, num_steps: int) -> None:
        """Append a step's line, and now and then say on stderr where the run is."""
        self._recent_s.append(metrics.step_s)
        if self.is_first:
            _append(self._metrics, asdict(metrics))
            self._status(metrics, num_steps)

    def sync(self) -> None:
        """Force the metrics to disk: a checkpoint must not know more steps than they do."""
        if self.is_first:
            with self._metrics.open("a", encoding="utf-8") as file:
                os.fsync(file.fileno())

    def event(self, event: str, step: int, **details: str | int | float | None) -> None:
        """Append a line to events.jsonl."""
        if self.is_first:
            now = datetime.now(UTC).isoformat(timespec="milliseconds")
            _append(self.output / "events.jsonl", {"time": now, "event": event, "step": step, **details})

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
            "tokens_per_s": round(metrics.tokens_per_s),
            "eta_s": round(mean_s * (num_steps - metrics.step - 1)),
        }
        sys.stderr.write(json.dumps(line) + "\n")
        sys.stderr.flush()


def _append(path: Path, line: Mapping[str, str | int | float | None]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
