"""What a run leaves to be read: `metrics.jsonl` (one line a step), `held_out.jsonl`, `events.jsonl`, and a live line.

Only the first rank writes. On resume, the first two are cut back to the checkpoint, so that each step and each look at
the held-out text has one line. What a full disk does not take waits in memory: a run goes on without its records, and
writes them when there is room again.
"""

import json
import os
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .files import Lines, last_lines
from .status import StatusLine, make_status

RECENT_STEPS = 100  # whose mean pace says how much time is left


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
class HeldOutLine:
    """One look at the held-out text, with the weights after `step` steps."""

    step: int
    tokens: int
    """Trained on so far."""
    bits_per_byte: Mapping[str, float | None]
    """By source; null where it is not finite."""
    seconds: float
    """Training stood still."""
    ended_s: float


@dataclass(frozen=True)
class Rewound:
    """What a resume found in the records: steps to be trained again, how long they and looks took, missing lines."""

    redone_steps: int
    redone_s: float
    missing: int


class Records:
    """The files of one run, on the first rank; elsewhere nothing is written. `first_step` is the first with a line."""

    def __init__(self, output: Path, *, is_first: bool, first_step: int = 0) -> None:
        self.output = output
        self.is_first = is_first
        self.first_step = first_step
        self._metrics = Lines(output / "metrics.jsonl")
        self._looks = Lines(output / "held_out.jsonl")
        self._events = Lines(output / "events.jsonl")
        self._status = StatusLine()
        self._recent: deque[dict[str, object]] = deque(maxlen=RECENT_STEPS)
        self._bits_per_byte: Mapping[str, float | None] = {}

    def rewind(self, step: int) -> Rewound:
        """Keep the lines of the steps before `step` and of the weights up to it; drop those that are made again."""
        if not self.is_first:
            return Rewound(0, 0.0, 0)
        redone, num_kept = _cut(self._metrics.path, lambda line: line["step"] < step)
        looks, _ = _cut(self._looks.path, lambda line: line["step"] <= step)
        took_s = sum(line["step_s"] + line["data_s"] + line["stall_s"] for line in redone)
        took_s += sum(line["seconds"] for line in looks)
        return Rewound(len(redone), round(took_s, 3), step - self.first_step - num_kept)

    def step(self, metrics: StepMetrics, *, num_steps: int) -> None:
        """Append a step's line, and now and then say on stderr where the run is."""
        if not self.is_first:
            return
        line = asdict(metrics)
        self._metrics.append(line)
        self._recent.append(line)
        if self._status.is_due(is_last=metrics.step + 1 == num_steps):
            self._status.write(make_status(list(self._recent), num_steps, self._bits_per_byte))

    def held_out(self, line: HeldOutLine) -> None:
        """Append a look at the held-out text."""
        self._bits_per_byte = line.bits_per_byte
        if self.is_first:
            self._looks.append(asdict(line))

    def newest_held_out(self) -> int | None:
        """The step of the newest look at the held-out text, on the first rank."""
        lines = last_lines(self._looks.path) if self.is_first else []
        return int(json.loads(lines[-1])["step"]) if lines else None

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


def append_event(lines: Lines, event: str, step: int | None, **details: object) -> None:
    """Append an event, with the time."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    lines.append({"time": now, "event": event, "step": step, **details})


def _cut(path: Path, keep: Callable[[dict[str, Any]], bool]) -> tuple[list[dict[str, Any]], int]:
    """Drop the last lines, back to one that is to be kept; returns those that were whole, and how many are left."""
    path.touch()
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    dropped: list[dict[str, Any]] = []
    while lines:  # from the end: a run of weeks has millions of lines, of which few are dropped
        line = json.loads(lines[-1]) if lines[-1].endswith("\n") else None
        if line is not None and keep(line):
            break
        dropped += [] if line is None else [line]
        lines.pop()
    os.truncate(path, sum(len(line.encode()) for line in lines))
    return dropped[::-1], len(lines)
