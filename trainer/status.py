"""The live line: how far a run is, its loss, its speed, the time that is left, its newest bits per byte.

    step 1,200 of 4,000  30 %  loss 2.914  182,300 tokens/s  MFU 41.3 %  25 min left  held out 1.021 bits/byte

`StatusLine` writes it to stderr, as text that renews itself on a terminal and as a JSON line elsewhere; `read_status`
makes it from the files of a run, for whoever watches from outside.
"""

import contextlib
import json
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

from .files import last_lines

EVERY_S = {True: 0.5, False: 2.0}  # on a terminal, elsewhere
CLEAR = "\x1b[2K"


@dataclass(frozen=True)
class Status:
    """Where a run is."""

    step: int
    """Steps done."""
    steps: int
    tokens: int
    loss: float | None
    tokens_per_s: float
    mfu: float | None
    left_s: float
    """Time left at the mean pace of the last steps."""
    held_out: Mapping[str, float | None]
    """Newest bits per byte by source; empty before the first look."""

    def text(self) -> str:
        """For a terminal."""
        return f"step {self.step:,} of {self.steps:,}  {self.step / self.steps:.0%}  {self.figures()}"

    def figures(self, between: str = "  ") -> str:
        """The same without the progress, which others show as a bar."""
        told = ["loss not finite" if self.loss is None else f"loss {self.loss:.3f}"]
        told.append(f"{self.tokens_per_s:,.0f} tokens/s")
        told += [] if self.mfu is None else [f"MFU {self.mfu:.1%}"]
        told.append(f"{short_time(self.left_s)} left")
        bits = [value for value in self.held_out.values() if value is not None]
        if bits:
            over = f" over {len(bits)} sources" if len(bits) > 1 else ""
            told.append(f"held out {statistics.fmean(bits):.3f} bits/byte{over}")
        return between.join(told)


class StatusLine:
    """Writes the line now and then."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = sys.stderr if stream is None else stream
        self.on_terminal = self.stream.isatty()
        self._next_s = 0.0

    def is_due(self, *, is_last: bool) -> bool:
        """Whether it is time for another; the last is always told."""
        return is_last or time.monotonic() >= self._next_s

    def write(self, status: Status) -> None:
        """Write it."""
        self._next_s = time.monotonic() + EVERY_S[self.on_terminal]
        text = json.dumps(asdict(status)) + "\n"
        if self.on_terminal:
            text = f"{CLEAR}{status.text()}" + ("\n" if status.step == status.steps else "\r")
        with contextlib.suppress(OSError):  # the log may lie on the full disk
            self.stream.write(text)
            self.stream.flush()


def read_status(output: Path, num_steps: int) -> Status | None:
    """What the newest lines of a run's files say; None before the first step."""
    steps = [json.loads(line) for line in last_lines(output / "metrics.jsonl")]
    looks = [json.loads(line) for line in last_lines(output / "held_out.jsonl")]
    return make_status(steps, num_steps, looks[-1]["bits_per_byte"] if looks else {}) if steps else None


def make_status(steps: Sequence[Mapping[str, Any]], num_steps: int, held_out: Mapping[str, float | None]) -> Status:
    """From the last lines of metrics.jsonl, and the newest bits per byte."""
    last = steps[-1]
    took_s = [s["step_s"] + s["data_s"] + s["stall_s"] for s in steps if s["tokens_per_s"] is not None]
    done = last["step"] + 1
    return Status(
        step=done,
        steps=num_steps,
        tokens=last["tokens"],
        loss=last["loss"],
        tokens_per_s=last["tokens_per_s"] or 0.0,
        mfu=last["mfu"],
        left_s=round(statistics.fmean(took_s) * (num_steps - done), 1) if took_s else 0.0,
        held_out=held_out,
    )


def short_time(seconds: float) -> str:
    """Seconds as people say them, without what does not matter."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds / 60:.0f} min"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min"
