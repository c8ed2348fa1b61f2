"""Stages whose work is done by a program of its own: its environment, its log, and how its failure is told.

The program runs under `domainlm.trainer.supervisor`: a cancelled stage stops it, a killed one takes it along.
"""

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from domainlm.tasks import progress
from domainlm.tasks.runtime import Runtime
from domainlm.trainer.files import last_lines
from domainlm.trainer.supervisor import supervise

SHOWN_LINES = 20
ERROR = "error: "  # how a line begins by which a program of ours refuses its job


class Preempted(RuntimeError):
    """The work was asked to stop and left what it needs to go on from there."""


class ProcessFailed(RuntimeError):
    """A program that a stage runs came to no good end; the message has the last lines of its log."""


class Refused(ValueError):
    """The program looked at what it was given and found that it cannot work; the message is its own."""


def run_program(what: str, command: Sequence[str], *, log: Path, runtime: Runtime, on_poll: Callable[[], None]) -> int:
    """Run to the end, output appended to `log`; returns the exit code. A watcher that wants to stop stops it.

    Raises:
        Refused: it wrote an `error:` line. torchrun would start it again as often as it may, to the same end.
    """
    start = log.stat().st_size if log.exists() else 0

    def look() -> None:
        on_poll()
        for line in last_lines(log, start):
            if line.startswith(ERROR):
                raise Refused(f"{what} refused: {line.removeprefix(ERROR)}")

    environment = {**os.environ, **program_environment(runtime)}
    code = supervise(command, log=log, env=environment, should_stop=progress.stop_requested, on_poll=look)
    look()
    return code


def program_environment(runtime: Runtime) -> Mapping[str, str]:
    """What a training or evaluation process finds set: its threads, and no way out to any network."""
    return {
        "OMP_NUM_THREADS": str(runtime.threads),
        # Idle threads that spin made a 20 s evaluation last 10 minutes, beside other work. A few microseconds do not,
        # and without them each operation wakes its threads anew: 72 ms a step of the demo, not 52 (libgomp, 2 cores).
        "OMP_WAIT_POLICY": "PASSIVE",
        "GOMP_SPINCOUNT": "1000",
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "DO_NOT_TRACK": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONUNBUFFERED": "1",
    }


def python_module(name: str, config: Path) -> list[str]:
    """`python -m name --config config` with this interpreter."""
    return [sys.executable, "-m", name, "--config", str(config)]


def failure(what: str, code: int, log: Path) -> ProcessFailed:
    """The error for a program that ended with `code`, with the last lines of its log."""
    how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
    shown = "\n".join(f"  {line}" for line in last_lines(log)[-SHOWN_LINES:])
    return ProcessFailed(f"{what} {how}. The end of {log}:\n{shown}")


def last_object(path: Path, key: str) -> Mapping[str, object] | None:
    """The last line of a file that is a JSON object with `key`, or None."""
    for line in reversed(last_lines(path)):
        if line.startswith("{") and f'"{key}"' in line:
            found: Mapping[str, object] = json.loads(line)
            return found
    return None
