"""Crashes of a run, and when there were too many: so many in a row without a new checkpoint in between."""

from dataclasses import asdict, dataclass, field
from pathlib import Path

from .files import last_lines, write_json

SHOWN_LINES = 30
MAX_BACKOFF_S = 60.0


@dataclass(frozen=True)
class Crash:
    """What happened, when, and what the log said last."""

    time: str
    step: int | None
    what: str
    last_lines: list[str]


@dataclass
class CrashLoop:
    """Counts the crashes since the newest checkpoint was made."""

    max_restarts: int
    backoff_s: float = 1.0
    crashes: list[Crash] = field(default_factory=list)
    _newest: str = ""

    def add(self, crash: Crash, newest_checkpoint: str) -> None:
        """One more; those from before the newest checkpoint are forgiven."""
        if newest_checkpoint != self._newest:
            self.crashes, self._newest = [], newest_checkpoint
        self.crashes.append(crash)

    @property
    def is_over(self) -> bool:
        """Whether it is of no use to try again."""
        return len(self.crashes) > self.max_restarts

    @property
    def wait_s(self) -> float:
        """Before the next try: none after the first crash, then twice as long each time."""
        return min(MAX_BACKOFF_S, self.backoff_s * 2 ** (len(self.crashes) - 2)) if len(self.crashes) > 1 else 0.0

    def report(self, output: Path) -> str:
        """Write `crash-report.json`, and say in words what is in it."""
        write_json(output / "crash-report.json", {"crashes": [asdict(crash) for crash in self.crashes]})
        told = "\n".join(f"  {crash.time} at step {crash.step}: {crash.what}" for crash in self.crashes)
        tail = "\n".join(f"  | {line}" for line in self.crashes[-1].last_lines)
        return (
            f"{len(self.crashes)} crashes without a new checkpoint; the run is given up.\n{told}\n"
            f"The end of {output / 'train.log'} at the last one:\n{tail}"
        )


def tail(log: Path) -> list[str]:
    """The last lines of a log."""
    return last_lines(log)[-SHOWN_LINES:]
