"""Train a job and let nobody get up at night: `python -m trainer.unattended --config train.json --processes 8`.

It stands above torch's elastic agent and starts the whole of it again: after a crash, with backoff; when no rank gives
a sign of life; with half the microbatch when memory runs out; without a node that is lost (`--nodes 1:2 --rendezvous
host:port`, the same command on every node). Agent and ranks are forks of it (`launcher.py`), so that a restart imports
nothing. It stops when trying again is of no use: so many crashes without a new checkpoint (`crash-report.json` says
what, when, and the last lines of the log), a job that cannot work, a run that has stopped.
Exit code: 0 done, 75 stopped by SIGTERM with a checkpoint, 2 refused, 3 stopped, 1 crashed too often.
"""

import argparse
import gc
import logging
import os
import shutil
import signal
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import FrameType

from .crashes import Crash, CrashLoop, tail
from .files import Lines, last_lines
from .heartbeat import SIGNS, clear_ends, newest_sign_s, read_ends, read_signs
from .job import EXIT_DONE, EXIT_FAILED, EXIT_PREEMPTED, EXIT_REFUSED, EXIT_STOPPED, TrainJob, load_job, outcome
from .launch import Launch, add_arguments, environment, given_launch
from .microbatch import Microbatch, halved, load_microbatch, save_microbatch
from .mixture import load_mixture
from .records import append_event
from .supervisor import supervise
from .track import TrackerProcess

log = logging.getLogger(__name__)

START_S = 180.0  # from the launch to the first sign of a rank, which has nothing to import
ENDINGS = {"done": EXIT_DONE, "preempted": EXIT_PREEMPTED, "stopped": EXIT_STOPPED}


class Unattended:
    """One job, from here to its end."""

    def __init__(self, config: Path, launch: Launch) -> None:
        self.config = config
        self.launch = launch
        self.job: TrainJob = load_job(config)
        self.output = self.job.output
        self.output.mkdir(parents=True, exist_ok=True)
        self.events = Lines(self.output / "events.jsonl")
        self.loop = CrashLoop(launch.max_restarts, launch.backoff_s)
        self.tracker = TrackerProcess(config, self.output, launch.tracking)
        self.stop_asked = False
        self._hung = ""
        self._sign = (0.0, 0.0, False)  # newest sign, when it was first seen, whether it is of this attempt

    def run(self) -> int:
        """Attempt after attempt; returns the exit code."""
        if outcome(self.output) == "done":
            return EXIT_DONE
        for name in ("preempted.json", "stopped.json"):  # of the start before, which this one goes on from
            (self.output / name).unlink(missing_ok=True)
        try:
            self._preload()
            code = self._fit_memory()
            while code is None:
                if self.stop_asked:
                    return EXIT_FAILED
                ended_with = self._attempt("trainer")
                code = self._judge(ended_with)
        finally:
            self.tracker.stop()
        return code

    def ask_to_stop(self, number: int, frame: FrameType | None) -> None:
        """Signal handler: the ranks get time for a checkpoint."""
        self.stop_asked = True

    def _preload(self) -> None:
        """Import for all ranks of all attempts; what is wrong with the job they will say themselves."""
        from .launcher import preload

        try:
            preload(self.job)
        except (ValueError, KeyError, OSError) as error:
            log.warning("%s", error)
        gc.collect()
        gc.freeze()  # so that the pages of what is imported stay shared

    def _attempt(self, program: str) -> int:
        """The ranks, once; the exit code tells little."""
        from .launcher import launch_ranks  # torch, which reads the environment that `main` has set

        clear_ends(self.output)
        self.tracker.start()
        self._hung, self._sign = "", (newest_sign_s(self.output), time.monotonic(), False)
        self._event("launch", program=program, processes=self.launch.processes, nodes=self.launch.nodes)
        return supervise(
            partial(launch_ranks, self.launch, self.config, program),
            log=self.output / "train.log",
            should_stop=lambda: self.stop_asked,
            is_hung=self._is_hung,
            poll_s=0.2,
            grace_s=self.launch.grace_s,
        )

    def _is_hung(self) -> bool:
        """Whether no rank has given a sign for too long. Says so before they are killed, while their states tell."""
        newest, seen_s, begun = self._sign
        now = newest_sign_s(self.output)
        if now != newest:
            self._sign = (now, time.monotonic(), True)
            return False
        limit_s = self.job.place.hang_after_s if begun else START_S
        if time.monotonic() - seen_s <= limit_s or (not begun and self.launch.waits_for_nodes):
            return False
        signs = read_signs(self.output, time.time() - (time.monotonic() - seen_s) - 10) if begun else []
        self._hung = f"no sign of life for {limit_s:.0f} s; {'; '.join(map(str, signs[:3])) or 'no rank began'}"
        self._event("hang", ranks=[str(sign) for sign in signs[:8]], after_s=limit_s)
        return True

    def _judge(self, ended_with: int) -> int | None:
        """What follows from the end of an attempt: an exit code, or another attempt."""
        ending = outcome(self.output)
        if ending == "done":
            shutil.rmtree(self.output / SIGNS, ignore_errors=True)  # the ranks are leaving; nobody asks for them now
        if ending != "failed":
            return ENDINGS[ending]
        if self.stop_asked:
            return EXIT_FAILED
        ends = read_ends(self.output)
        if any(end.kind == "refused" for end in ends):
            return EXIT_REFUSED
        if any(end.kind == "out_of_memory" for end in ends) and self._take_half():
            return None
        told = [f"rank {end.rank}: {end.message}" for end in ends]
        what = (
            self._hung
            or "; ".join(told[:3])
            or f"the launcher ended with {ended_with}, no rank said why: it was killed"
        )
        if not self._sign[2] and self.launch.waits_for_nodes:
            self._event("waiting", reason="the other nodes are not there", ended_with=ended_with)
            self._sleep(self.launch.backoff_s)
            return None
        return self._crashed(what)

    def _crashed(self, what: str) -> int | None:
        crash = Crash(datetime.now(UTC).isoformat(timespec="seconds"), self._last_step(), what, tail(self._log))
        latest = self.output / "checkpoints" / "LATEST"
        self.loop.add(crash, latest.read_text(encoding="utf-8") if latest.is_file() else "")
        num = len(self.loop.crashes)
        self._event("crash", what=what, silent_s=self._silent_s(), crashes=num, wait_s=self.loop.wait_s)
        log.error("CRASH %d at step %s: %s", num, crash.step, what)
        if self.loop.is_over:
            self._event("crash_loop", crashes=num)
            sys.stderr.write(self.loop.report(self.output) + "\n")
            return EXIT_FAILED
        self._sleep(self.loop.wait_s)
        return EXIT_FAILED if self.stop_asked else None

    def _fit_memory(self) -> int | None:
        """Try the microbatch, halved until it fits, in processes of their own; an exit code if none can."""
        if not self._should_probe():
            return None
        while not (microbatch := load_microbatch(self.job)).proven and not self.stop_asked:
            code = self._attempt("trainer.probe")
            ends = read_ends(self.output)
            if code == 0:
                self._keep(replace(microbatch, proven=True))
                self._event("probe", microbatch_sequences=microbatch.sequences)
            elif any(end.kind == "refused" for end in ends):
                return EXIT_REFUSED
            elif not any(end.kind == "out_of_memory" for end in ends):
                self._event("probe_failed", what="; ".join(end.message for end in ends) or self._hung or str(code))
                return None  # the run itself will say it better
            elif not self._take_half():
                return self._crashed(ends[0].message) or EXIT_FAILED
        return None

    def _should_probe(self) -> bool:
        place = self.job.place
        has_gpu = place.device != "cpu" and any(Path(node).exists() for node in ("/dev/nvidiactl", "/dev/kfd"))
        return place.probe_memory == "always" or (place.probe_memory == "auto" and has_gpu)

    def _take_half(self) -> bool:
        """Go on with half the microbatch; False if it is one sequence already."""
        before = load_microbatch(self.job)
        mixture, least_nodes = load_mixture(self.job.mixture), int(self.launch.nodes.partition(":")[0])
        # A rank forwards no more sequences at once than it has.
        per_rank = max(1, mixture.batch_sequences // (self.launch.processes * least_nodes))
        after = halved(replace(before, sequences=min(before.sequences, per_rank)))
        self._event(
            "out_of_memory",
            silent_s=self._silent_s(),
            microbatch_sequences=before.sequences,
            next_microbatch_sequences=after.sequences if after else None,
            advice=None
            if after
            else "one sequence does not fit: activation_checkpointing full, more ranks or shard_ranks, a smaller model",
        )
        if after is not None:
            self._keep(after)
        return after is not None

    def _keep(self, microbatch: Microbatch) -> None:
        save_microbatch(microbatch, self.output)

    @property
    def _log(self) -> Path:
        return self.output / "train.log"

    def _last_step(self) -> int | None:
        lines = last_lines(self.output / "metrics.jsonl")
        return int(lines[-1].split('"step":')[1].split(",")[0]) if lines else None

    def _silent_s(self) -> float:
        """Seconds since the last step."""
        metrics = self.output / "metrics.jsonl"
        return round(time.time() - metrics.stat().st_mtime, 3) if metrics.is_file() else 0.0

    def _sleep(self, seconds: float) -> None:
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s and not self.stop_asked:
            time.sleep(0.05)

    def _event(self, event: str, **details: object) -> None:
        append_event(self.events, event, self._last_step(), **details)


def main() -> int:
    """Parse the command line, and stay until the job has ended."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    parser = argparse.ArgumentParser(prog="trainer.unattended", description="Train one job, whatever happens.")
    add_arguments(parser)
    arguments = parser.parse_args()
    try:
        launch = given_launch(arguments)
        os.environ.update(environment(launch))
        unattended = Unattended(arguments.config, launch)
    except (ValueError, FileNotFoundError) as error:
        sys.stderr.write(f"error: {error}\n")
        return EXIT_REFUSED
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, unattended.ask_to_stop)
    return unattended.run()


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
