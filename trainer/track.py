"""Shows a run in a tracker: `python -m trainer.track --config train.json --tracker mlflow`, beside the run or after it.

It follows metrics.jsonl, held_out.jsonl and events.jsonl from outside, in a process of its own: a tracker that hangs,
fails or is away touches no step, and gets what it has missed when it is back. Each step and each look is told once,
however often the run or this process is started again: `tracking/<tracker>.json` says how far it is, and where the
tracker can tell, what it holds counts. Steps that are trained again after a crash or a rollback are not told again.
No path, host, text or id of a document is told. `trainer.unattended --tracker mlflow` starts it beside a run.
"""

import argparse
import json
import logging
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

from . import strict
from .files import hold, write_json
from .job import EXIT_DONE, EXIT_REFUSED, TrainJob, load_job, outcome
from .mixture import load_mixture
from .supervisor import tied
from .trackers import Ending, Row, Tracker, Tracking, add_arguments, given_tracking, open_tracker, options

log = logging.getLogger(__name__)

POLL_S = 1.0
MAX_BACKOFF_S = 60.0
LAST_S = 20.0  # a tracker may hold up the end of a run, but not for long
METRICS = ("tokens", "loss", "grad_norm", "lr", "tokens_per_s", "mfu", "step_s", "data_s", "stall_s")
PRIVATE = {"time", "event", "step", "documents", "ranks", "problem", "what"}  # of an event


@dataclass(frozen=True)
class Told:
    """How far the tracker has been told: tokens of the newest step and of the newest look, events."""

    run: str | None = None
    tokens: float = 0.0
    look_tokens: float = -1.0
    events: int = 0


class Lines:
    """The lines of a file that grows, and is now and then cut back."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._last, self._end = b"", 0

    def new(self) -> list[dict[str, Any]]:
        """Whole lines that were not read yet; all of them again where the file was cut back in between."""
        if not self.path.is_file():
            return []
        with self.path.open("rb") as file:
            file.seek(self._end - len(self._last))
            if file.read(len(self._last)) != self._last:
                self._last, self._end = b"", 0
            file.seek(self._end)
            data, newline, _ = file.read().rpartition(b"\n")
        if not newline:
            return []
        lines = data.split(b"\n")
        self._last, self._end = lines[-1] + newline, self._end + len(data) + 1
        return [json.loads(line) for line in lines]


class Follower:
    """Tells a tracker what a run writes."""

    def __init__(self, job: TrainJob, tracking: Tracking) -> None:
        output = job.output
        self.job = job
        self.tracking = tracking
        self.state = output / "tracking" / f"{tracking.kind}.json"
        self.told = strict.load(Told, self.state) if self.state.is_file() else Told()
        self.tracker: Tracker | None = None
        self._files = {name: Lines(output / f"{name}.jsonl") for name in ("metrics", "held_out", "events")}
        self._steps: list[Row] = []
        self._looks: list[Row] = []
        self._events: list[Mapping[str, Any]] = []
        self._num_events = 0

    def look(self) -> None:
        """Read what is new, and tell it. What raises has been told in part or not at all; look again later."""
        tracker = self.tracker or self._open()
        self._read()
        rows = [row for row in self._steps if row.values["tokens"] > self.told.tokens]
        looks = [row for row in self._looks if row.values["held_out/tokens"] > self.told.look_tokens]
        merged = sorted((*looks, *rows), key=lambda row: row.step)
        if merged:
            tracker.log(merged)
        for number, event in enumerate(self._events, start=self._num_events - len(self._events)):
            if number >= self.told.events:
                tracker.note(number, told_event(event))
        before = self.told
        self.told = replace(
            before,
            tokens=max([before.tokens, *(row.values["tokens"] for row in rows)]),
            look_tokens=max([before.look_tokens, *(row.values["held_out/tokens"] for row in looks)]),
            events=max(before.events, self._num_events),
        )
        self._steps, self._looks, self._events = [], [], []
        if self.told != before:
            write_json(self.state, asdict(self.told))

    def forget(self) -> None:
        """Ask the tracker anew how far it is."""
        self.tracker = None

    def close(self, ending: Ending) -> None:
        """Say how it ended."""
        if self.tracker is not None:
            self.tracker.close(ending)

    def _read(self) -> None:
        # Steps before looks: a look at the weights of step n is on disk before step n is.
        self._steps += [step_row(line) for line in self._files["metrics"].new()]
        self._looks += [look_row(line) for line in self._files["held_out"].new()]
        events = self._files["events"].new()  # never cut back
        self._events += events
        self._num_events += len(events)

    def _open(self) -> Tracker:
        """Go on with the run that was begun, from where the tracker is."""
        settings = told_settings(self.job) if self.told.run is None else {}
        folder = self.tracking.folder or self.state.parent
        tracker = open_tracker(self.tracking, folder, self.told.run, settings)
        tokens, look_tokens = tracker.newest("tokens"), tracker.newest("held_out/tokens")
        self.told = replace(
            self.told,
            run=tracker.run,
            tokens=self.told.tokens if tokens is None else max(self.told.tokens, tokens),
            look_tokens=self.told.look_tokens if look_tokens is None else max(self.told.look_tokens, look_tokens),
        )
        write_json(self.state, asdict(self.told))
        self.tracker = tracker
        return tracker


def step_row(line: Mapping[str, Any]) -> Row:
    """A step of metrics.jsonl."""
    return Row(line["step"], line["ended_s"], {name: line[name] for name in METRICS if line[name] is not None})


def look_row(line: Mapping[str, Any]) -> Row:
    """A look of held_out.jsonl, at the weights after `step` steps."""
    bits = {f"held_out/{name}": value for name, value in line["bits_per_byte"].items() if value is not None}
    return Row(line["step"], line["ended_s"], {"held_out/tokens": line["tokens"], **bits})


def told_event(event: Mapping[str, Any]) -> str:
    """An event in one line, without what may be private."""
    simple = (int, float, str, bool)
    details = [f"{k}={v}" for k, v in event.items() if k not in PRIVATE and isinstance(v, simple)]
    return " ".join([event["time"], event["event"], f"step={event['step']}", *details])


def told_settings(job: TrainJob) -> dict[str, str | float | bool | None]:
    """What the run is: its config and the sizes of its mixture; no path."""
    mixture = load_mixture(job.mixture)
    sizes = ("token_budget", "batch_tokens", "sequence_tokens", "vocab_size", "seed")
    shares = {f"mixture.share.{corpus.name}": corpus.share_ppm / 1e6 for corpus in mixture.corpora}
    return {**_flat(asdict(job.config), "config."), **{f"mixture.{n}": getattr(mixture, n) for n in sizes}, **shares}


def _flat(value: Mapping[str, Any], prefix: str) -> dict[str, str | float | bool | None]:
    flat: dict[str, str | float | bool | None] = {}
    for key, item in value.items():
        flat |= _flat(item, f"{prefix}{key}.") if isinstance(item, dict) else {prefix + key: item}
    return flat


class TrackerProcess:
    """This program beside a run: nobody waits for it, and it ends with the process that has started it."""

    def __init__(self, config: Path, output: Path, tracking: Tracking | None) -> None:
        self.config = config
        self.output = output
        self.tracking = tracking
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, unless it runs already or no tracker is wanted. Call it in the main thread."""
        if self.tracking is None or (self._process is not None and self._process.poll() is None):
            return
        package = __package__ or "trainer"
        command = [sys.executable, "-m", f"{package}.track", "--config", str(self.config), *options(self.tracking)]
        with (self.output / "tracker.log").open("ab") as told:
            self._process = subprocess.Popen(
                tied(command), stdin=subprocess.DEVNULL, stdout=told, stderr=told, start_new_session=True
            )

    def stop(self) -> None:
        """Let it tell the rest, for `LAST_S` at most."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(LAST_S)
        except subprocess.TimeoutExpired:
            log.warning("the tracker does not answer; `python -m trainer.track` tells it the rest.")
            self._process.kill()
            self._process.wait()


def follow(follower: Follower) -> Ending:
    """Until the run has ended or this process is asked to end; what fails is tried again, less and less often."""
    asked = False

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        asked = True

    signal.signal(signal.SIGTERM, ask)
    signal.signal(signal.SIGINT, ask)
    wait_s = POLL_S
    while True:
        ended = outcome(follower.job.output)  # before the look, so that the look sees all of it
        try:
            follower.look()
        except Exception as error:  # noqa: BLE001 - a tracker may fail in any way, and is asked again
            follower.forget()
            wait_s = min(MAX_BACKOFF_S, 2 * wait_s)
            log.warning("the tracker could not be told: %s. Next try in %.0f s.", error, wait_s)
            if asked:
                return "interrupted"
        else:
            wait_s = POLL_S
            if ended != "failed" or asked:
                return {"done": "done", "stopped": "stopped"}.get(ended, "interrupted")  # type: ignore[return-value]
        end_s = time.monotonic() + wait_s
        while time.monotonic() < end_s and not asked:
            time.sleep(0.05)


def main() -> int:
    """Parse the command line, and follow the run."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    parser = argparse.ArgumentParser(prog="trainer.track", description="Show a run in a tracker.")
    parser.add_argument("--config", type=Path, required=True, help="path of train.json")
    add_arguments(parser)
    arguments = parser.parse_args()
    try:
        tracking, job = given_tracking(arguments), load_job(arguments.config)
        if tracking is None:
            raise ValueError("no tracker is named; give `--tracker mlflow` or `--tracker wandb`.")
        # On several nodes each supervisor starts one; the others wait until the first is gone.
        hold(job.output / "tracking" / f"{tracking.kind}.lock", wait_s=float("inf"))
        follower = Follower(job, tracking)
    except (ValueError, FileNotFoundError) as error:
        sys.stderr.write(f"error: {error}\n")
        return EXIT_REFUSED
    follower.close(follow(follower))
    return EXIT_DONE


if __name__ == "__main__":
    sys.exit(main())
