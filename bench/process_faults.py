"""Faults of processes and machines; a function's docstring is its line of the fault table."""

import json
import signal
import socket
import subprocess
import time
from collections.abc import Callable

from bench.faultbench import CLOSE, Bench, Found, halfway, next_step_s
from bench.faultworld import Running, kill, weights


def killed(bench: Bench, who: Callable[[Running], list[int]], number: int = signal.SIGKILL, **place: object) -> Found:
    """Signal some processes in the middle of a run, and see how it ends."""
    job = bench.job(**place)
    expected = weights(bench.untouched.output)
    with bench.running(job) as run:
        halfway(run)
        fault_s = time.time()
        for pid in who(run):
            kill(pid, number)
        try:
            code = run.wait(45 if bench.plain else 120)
        except subprocess.TimeoutExpired:
            return Found(False, "nothing for 45 s", None, False)
        same = weights(job.output) == expected
        what = ", ".join(dict.fromkeys(e["event"] for e in run.events if e["event"] in ("hang", "crash", "resume")))
        return Found(code == 0 and same, what or f"exit code {code}", next_step_s(run, fault_s), same)


def kill_worker(bench: Bench) -> Found:
    """kill -9 of a rank"""
    return killed(bench, lambda run: run.ranks()[1:])


def kill_launcher(bench: Bench) -> Found:
    """kill -9 of the launcher"""
    return killed(bench, lambda run: [run.process.pid if bench.plain else run.launcher()])


def stop_worker(bench: Bench) -> Found:
    """SIGSTOP of a rank"""
    return killed(bench, lambda run: run.ranks()[1:], signal.SIGSTOP, hang_after_s=8.0)


def kill_everything(bench: Bench) -> Found:
    """kill -9 of everything, supervisor too; the same command again"""
    job = bench.job()
    expected = weights(bench.untouched.output)
    with bench.running(job) as run:
        halfway(run)
        fault_s = time.time()
        for pid in (run.process.pid, run.launcher(), *run.ranks()):
            kill(pid)
    with bench.running(job) as run:
        code = run.wait()
        same = weights(job.output) == expected
        return Found(code == 0 and same, "the new start resumed", next_step_s(run, fault_s), same)


def terminate(bench: Bench) -> Found:
    """SIGTERM to the supervisor; the same command again"""
    job = bench.job()
    expected = weights(bench.untouched.output)
    with bench.running(job) as run:
        halfway(run)
        run.process.terminate()
        code = run.wait()
        saved = json.loads((job.output / "preempted.json").read_text())["step"] == len(run.metrics)
    fault_s = time.time()
    with bench.running(job) as run:
        again = run.wait()
        same = weights(job.output) == expected
        good = (code == 75 or bench.plain) and saved and again == 0 and same
        return Found(good, f"checkpoint of the very step, exit code {code}", next_step_s(run, fault_s), same)


def lose_node(bench: Bench) -> Found:
    """one of two nodes lost for good (`--nodes 1:2`)"""
    job = bench.job()
    _ = bench.untouched
    where = {"processes": 1, "nodes": "1:2", "rendezvous": f"localhost:{_free_port()}", "last_call_s": 4}
    with bench.world.running(job, **where) as first, bench.world.running(job, **where) as second:
        halfway(first)
        fault_s = time.time()
        for pid in (second.process.pid, second.launcher(), *second.ranks()):
            kill(pid)
        code = first.wait()
        ranks = [line["num_ranks"] for line in first.events if line["event"] in ("start", "resume")]
        close = bench.deviation(first)
        what = f"relaunched on what is left, ranks {' -> '.join(map(str, ranks))}"
        good = code == 0 and ranks[0] == 2 and ranks[-1] == 1 and close < CLOSE
        return Found(good, what, next_step_s(first, fault_s), None, f"loss to {close:.0e}")


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        port: int = listener.getsockname()[1]
        return port
