"""Goodput: the share of the wall time that made the model, and where every other second went.

    python -m trainer.goodput OUTPUT [--json]

Computed from metrics.jsonl, held_out.jsonl and events.jsonl over all starts of a run. The parts add up to the wall time
exactly: from each launch to the first step it is `startup` (with `restore` and `probe` apart), then steps, waits and
stalls as the steps say, `held out` for looks at the held-out text, `redone` for what was lost with a crash or undone by
a rollback, `detect` until a crash or a hang was noticed, `idle` until the next launch, `export` at the end; `other` is
what is left.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

Line = Mapping[str, Any]


@dataclass(frozen=True)
class Straggler:
    """A rank that was found slow."""

    rank: int
    times: int
    worst_ratio: float


@dataclass(frozen=True)
class Goodput:
    """Seconds of a run's wall time by what they were spent on."""

    wall_s: float
    step_s: float
    """Steps whose updates are in the model."""
    data_s: float
    """Waiting for the loader."""
    checkpoint_stall_s: float
    held_out_s: float
    """Looking at the held-out text."""
    startup_s: float
    restore_s: float
    probe_s: float
    redone_s: float
    """Steps that were lost with a crash or undone by a rollback, and the rollback itself."""
    detect_s: float
    """From the last step before a crash, a hang or an end of memory until it was noticed."""
    idle_s: float
    """From then to the next launch."""
    export_s: float
    other_s: float
    starts: int
    stragglers: tuple[Straggler, ...]

    @property
    def share(self) -> float:
        """Time in steps over wall time."""
        return self.step_s / self.wall_s if self.wall_s else 0.0


def goodput(output: Path) -> Goodput:
    """Where the time of the run in `output` went, so far.

    Raises:
        ValueError: it has not begun.
    """
    events, steps, looks = (_lines(output / f"{name}.jsonl") for name in ("events", "metrics", "held_out"))
    if not events:
        raise ValueError(f"{output} has no events.jsonl; give the output directory of a run that has begun.")
    begun_s = _time(events[0])
    ended_s = max([_time(events[-1]), *(line["ended_s"] for line in (*steps[-1:], *looks[-1:]))])
    wall_s = ended_s - begun_s
    attempts = _attempts(events)
    step_s, data_s, stall_s = (sum(step[key] for step in steps) for key in ("step_s", "data_s", "stall_s"))
    known = {
        "step_s": step_s,
        "data_s": data_s,
        "checkpoint_stall_s": stall_s,
        "held_out_s": sum(look["seconds"] for look in looks),
        "startup_s": sum(_startup_s(attempt) for attempt in attempts),
        "restore_s": _total(events, "restore_s"),
        "probe_s": sum(_probe_s(attempt) for attempt in attempts),
        "redone_s": _total(events, "redone_s") + _total([e for e in events if _is(e, "spike")], "seconds"),
        "detect_s": sum(_detect_s(attempt) for attempt in attempts),
        "idle_s": sum(_time(later[0]) - _time(earlier[-1]) for earlier, later in pairwise(attempts)),
        "export_s": _export_s(events, [*steps[-1:], *looks[-1:]]),
    }  # fmt: skip
    starts = sum(_is(event, "start", "resume") for event in events)
    other_s = wall_s - sum(known.values())
    return Goodput(wall_s=wall_s, **known, other_s=other_s, starts=starts, stragglers=_stragglers(events))


def told(found: Goodput) -> str:
    """The same for people."""
    parts = {name.removesuffix("_s"): value for name, value in asdict(found).items() if name.endswith("_s")}
    del parts["wall"]
    lines = [f"{found.share:.1%} of {found.wall_s:,.1f} s in steps, {found.starts} starts"]
    lines += [f"  {name.replace('_', ' '):<18}{seconds:>12,.2f} s" for name, seconds in parts.items()]
    lines += [f"  rank {s.rank} was slow {s.times} times, {s.worst_ratio:.1f} x the median" for s in found.stragglers]
    return "\n".join(lines)


def _attempts(events: Sequence[Line]) -> list[list[Line]]:
    """The events from each launch to the next; without a supervisor each start is one."""
    opening = "launch" if any(_is(event, "launch") for event in events) else "resume"
    attempts: list[list[Line]] = [[]]
    for event in events:
        if _is(event, opening) and attempts[-1]:
            attempts.append([])
        attempts[-1].append(event)
    return attempts


def _startup_s(attempt: Sequence[Line]) -> float:
    """From the launch to the first step, without the restore. All of it, if no step was reached."""
    if attempt[0].get("program") == "trainer.probe":
        return 0.0
    ready = next((event for event in attempt if _is(event, "start", "resume")), None)
    until = attempt[-1] if ready is None else ready
    return _time(until) - _time(attempt[0]) - (0.0 if ready is None else float(ready["restore_s"]))


def _probe_s(attempt: Sequence[Line]) -> float:
    return _time(attempt[-1]) - _time(attempt[0]) if attempt[0].get("program") == "trainer.probe" else 0.0


def _detect_s(attempt: Sequence[Line]) -> float:
    ready = next((event for event in attempt if _is(event, "start", "resume")), None)
    end = next((event for event in attempt if "silent_s" in event), None)
    return min(float(end["silent_s"]), _time(end) - _time(ready)) if ready and end else 0.0


def _export_s(events: Sequence[Line], last: Sequence[Line]) -> float:
    """From the end of the last step, or of the look after it, to the end of the run."""
    done = next((event for event in events if _is(event, "done")), None)
    return max(0.0, _time(done) - max(line["ended_s"] for line in last)) if done and last else 0.0


def _stragglers(events: Sequence[Line]) -> tuple[Straggler, ...]:
    found: dict[int, list[float]] = {}
    for event in events:
        if _is(event, "straggler"):
            found.setdefault(event["rank"], []).append(event["ratio"])
    return tuple(Straggler(rank, len(ratios), max(ratios)) for rank, ratios in sorted(found.items()))


def _total(events: Sequence[Line], key: str) -> float:
    return sum(float(event.get(key, 0.0)) for event in events)


def _is(event: Line, *names: str) -> bool:
    return event["event"] in names


def _time(event: Line) -> float:
    return datetime.fromisoformat(event["time"]).timestamp()


def _lines(path: Path) -> list[Line]:
    """Whole lines of a file that may still grow."""
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]


def main() -> int:
    """Parse the command line, and print where the time went."""
    parser = argparse.ArgumentParser(prog="trainer.goodput", description="Where the time of a run went.")
    parser.add_argument("output", type=Path, help="output directory of a run")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    arguments = parser.parse_args()
    try:
        found = goodput(arguments.output)
    except ValueError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    sys.stdout.write((json.dumps({"share": found.share, **asdict(found)}) if arguments.json else told(found)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
