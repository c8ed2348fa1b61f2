"""Faults of data, memory, disks and code; a function's docstring is its line of the fault table."""

import contextlib
import json
import os
import resource
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from bench.faultbench import CLOSE, Bench, Found, halfway, next_step_s, seconds_of
from bench.faultworld import STEPS, Running, World, garbage, read_lines, wait_until, weights
from trainer.job import outcome
from trainer.ledger import Ledger
from trainer.mixture import load_mixture
from trainer.skips import Rollback, Skips, save_skips, untrained_steps


def nan_batch(bench: Bench) -> Found:
    """a NaN in one step, on one rank"""
    job = bench.job()
    with bench.running(job, fault={"kind": "nan", "steps": [30], "rank": 1}) as run:
        code = run.wait()
        done = json.loads((job.output / "done.json").read_text())
        lines = run.metrics
        usual = max(lines[29]["loss"], lines[28]["loss"]) * 2
        good = code == 0 and done["skipped"] == {"30": "non-finite"} and lines[31]["loss"] < usual
        took_s = lines[31]["ended_s"] - lines[30]["ended_s"]
        return Found(good, "no parameter touched, the next step is normal", took_s, None, "a step less")


def nan_run(bench: Bench) -> Found:
    """NaN without end"""
    job = bench.job()
    with bench.running(job, fault={"kind": "nan", "steps": list(range(30, STEPS)), "rank": 1}) as run:
        code = run.wait()
        stopped = json.loads((job.output / "stopped.json").read_text())
        named = {line["doc_id"] for line in read_lines(job.output / "quarantine.jsonl")}
        ledger = Ledger(bench.world.mixture, job.corpora)
        there = {row.doc_id for step in range(30, 35) for row in ledger.documents_of_step(step)}
        good = code == 3 and stopped["step"] == 34 and named == there
        return Found(good, f"stopped after 5 steps, {len(named)} documents named, exit code {code}", None, None)


def loss_spike(bench: Bench) -> Found:
    """a document of garbage makes the loss spike"""
    poisoned, document, steps = poisoned_world(bench, "poisoned", 1)
    job = poisoned.job("spiked", keep_checkpoints=3)
    with poisoned.running(job) as run:
        code = run.wait()
        spikes = [line for line in run.events if line["event"] == "spike"]
        named = {line["doc_id"] for line in read_lines(job.output / "quarantine.jsonl")}
        lines = run.metrics
    left_out = tuple(sorted({step for spike in spikes for step in spike["skipped_steps"]}))
    again = poisoned.job("without-from-the-start")
    again.output.mkdir()
    save_skips(Skips((Rollback(left_out[-1], left_out),)), again.output)
    with poisoned.running(again) as run:
        run.wait()
    same = weights(again.output) == weights(job.output) != ""
    ledger = Ledger(load_mixture(job.mixture), job.corpora, untrained_steps(job.output))
    accounts = ledger.accounting().corpora
    done = json.loads((job.output / "done.json").read_text())
    balanced = (sum(a.trained_tokens for a in accounts), sum(a.skipped_tokens for a in accounts)) == (
        done["tokens"], done["skipped_tokens"])  # fmt: skip
    untrained = not any(row.trained for row in ledger.steps_of_document(document))
    good = code == 0 and named == {document} and set(steps) <= set(left_out) and same and balanced and untrained
    what = f"{len(spikes)} rollbacks, without steps {list(left_out)}; `{', '.join(sorted(named))}` named"
    return Found(good, what, spikes[0]["seconds"] + lines[spikes[0]["to_step"]]["step_s"], same)


def spike_without_end(bench: Bench) -> Found:
    """garbage in many steps: spike after spike"""
    poisoned, _, _ = poisoned_world(bench, "drowned", 60)
    job = poisoned.job("drowned", keep_checkpoints=3)
    with poisoned.running(job) as run:
        code = run.wait()
        rollbacks = run.count("spike")
        reason = json.loads((job.output / "stopped.json").read_text())["reason"]
    good = code == 3 and rollbacks >= 3 and "after 3 rollbacks nearby" in reason
    return Found(good, f"{rollbacks} rollbacks, then a stop with the documents named, exit code {code}", None, None)


def memory_at_start(bench: Bench) -> Found:
    """the microbatch does not fit: found by the probe"""
    job = bench.job(probe_memory="always")
    _ = bench.untouched
    with bench.running(job, fault={"kind": "oom", "sequences": 1, "rank": 1}) as run:
        code = run.wait()
        names = [line["event"] for line in run.events]
        close = bench.deviation(run)
        before = "crash" not in names and names.index("out_of_memory") < names.index("start")
    good = code == 0 and before and close < CLOSE
    return Found(good, "microbatch 2 -> 1 before the run began", None, None, f"loss to {close:.0e}")


def memory_in_run(bench: Bench) -> Found:
    """out of memory in a run, on one rank"""
    job = bench.job()
    _ = bench.untouched
    with bench.running(job, fault={"kind": "oom", "sequences": 1, "from_step": 40, "rank": 1}) as run:
        try:
            code = run.wait(60 if bench.plain else 120)
        except subprocess.TimeoutExpired:
            return Found(False, "nothing for 60 s", None, False)
        lines = [line for line in run.events if line["event"] == "out_of_memory"]
        close = bench.deviation(run)
        if not lines:
            return Found(False, f"ended with {code}", None, None)
        seconds = next_step_s(run, seconds_of(lines[0]))
    good = code == 0 and close < CLOSE
    return Found(good, "restarted, microbatch 2 -> 1", seconds, None, f"loss to {close:.0e}")


def full_disk(bench: Bench) -> Found:
    """a disk that fills up and is freed again"""
    job = bench.job()
    expected = weights(bench.untouched.output)
    mount, how = _small_disk(job.output)
    try:
        with bench.running(job) as run:
            halfway(run)
            fault_s = time.time()
            free = _fill(job.output) if mount else _forbid_large_files(run)
            wait_until(lambda: _told(run, "CHECKPOINT FAILED"))
            steps = len(run.metrics)
            time.sleep(0.1)
            free()
            wait_until(lambda: run.count("checkpoint_failed") > 0)
            code = run.wait()
            events = run.events
            failed = [line for line in events if line["event"] == "checkpoint_failed"]
            later = [line for line in events if line["event"] == "checkpoint" and line["step"] > failed[-1]["step"]]
            whole = all((path / "manifest.json").is_file() for path in (job.output / "checkpoints").glob("step-*"))
            same = weights(job.output) == expected
            once = [line["event"] for line in events].count("start") == 1 and "crash" not in {
                e["event"] for e in events
            }
            lines = [line["step"] for line in run.metrics] == list(range(STEPS))
        good = code == 0 and same and once and bool(later) and whole and lines
        first = min(line["ended_s"] for line in read_lines(job.output / "metrics.jsonl") if line["ended_s"] > fault_s)
        what = f"{len(failed)} checkpoints failed from step {steps}, trained on, {len(later)} good ones after ({how})"
        return Found(good, what, first - fault_s, same)
    finally:
        if mount:
            subprocess.run(["umount", "-l", str(job.output)], check=True)


def flipped_bit(bench: Bench) -> Found:
    """a flipped bit in the newest checkpoint"""
    job = bench.job()
    expected = weights(bench.untouched.output)
    with bench.running(job) as run:
        halfway(run)
        run.process.terminate()
        run.wait()
    newest = job.output / "checkpoints" / (job.output / "checkpoints" / "LATEST").read_text().strip()
    data = bytearray((newest / "rank-00001.safetensors").read_bytes())
    data[len(data) // 2] ^= 1
    (newest / "rank-00001.safetensors").write_bytes(data)
    fault_s = time.time()
    with bench.running(job) as run:
        code = run.wait()
        named = [line["checkpoint"] for line in run.events if line["event"] == "damaged_checkpoint"]
        same = weights(job.output) == expected
        good = code == 0 and named == [newest.name] and same
        return Found(good, f"{newest.name} set aside, the one before used", next_step_s(run, fault_s), same)


def crash_loop(bench: Bench) -> Found:
    """the same crash again and again"""
    job = bench.job()
    with bench.running(job, fault={"kind": "crash", "steps": [40], "rank": 1}, max_restarts=2) as run:
        code = run.wait()
        crashes = run.count("crash")
    report = json.loads((job.output / "crash-report.json").read_text())["crashes"]
    told = all("injected crash at step 40" in crash["what"] and crash["last_lines"] for crash in report)
    good = code == 1 and len(report) == 3 and told and outcome(job.output) == "failed"
    return Found(good, f"given up after {crashes} crashes, with a report, exit code {code}", None, None)


def poisoned_world(bench: Bench, name: str, documents: int) -> tuple[World, str, list[int]]:
    """A copy of the world with garbage in some documents, the first of them, and its steps."""
    world = World(bench.world.root.parent / name)
    ledger = Ledger(world.mixture, {"notes": world.root / "corpus"})
    poisoned: list[str] = []
    for document in world.documents:
        steps = {row.step for row in ledger.steps_of_document(document.doc_id)}
        if len(document.tokens) > 40 and steps and min(steps) >= 60 and max(steps) <= 90:
            poisoned.append(document.doc_id)
    chosen = set(poisoned[:documents])
    world.write([garbage(doc) if doc.doc_id in chosen else doc for doc in world.documents])
    return world, poisoned[0], sorted({row.step for row in ledger.steps_of_document(poisoned[0])})


def _small_disk(folder: Path) -> tuple[bool, str]:
    """A file system of 64 MiB where this user may mount one."""
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=64m", "faults", str(folder)]
    if os.geteuid() == 0 and subprocess.run(mount, capture_output=True, check=False).returncode == 0:
        return True, "a real file system"
    return False, "by RLIMIT_FSIZE, as nothing can be mounted here"


def _fill(folder: Path) -> Callable[[], None]:
    """Leave no byte free; returns what frees it."""
    filler = folder / "filler"

    def free() -> None:
        filler.unlink()

    with filler.open("wb", buffering=0) as file:
        for size in (65536, 512):
            with contextlib.suppress(OSError):  # no room: that is what is wanted
                while True:
                    file.write(b"\0" * size)
    return free


def _forbid_large_files(run: Running) -> Callable[[], None]:
    """No file of a rank may grow beyond 4 KiB; returns what lifts it."""
    ranks = run.ranks()
    for pid in ranks:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))

    def free() -> None:
        for pid in ranks:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    return free


def _told(run: Running, words: str) -> bool:
    """Whether the supervisor's own log, which lies on another disk, or the run's has the words."""
    logs = (run.job.output.with_suffix(".log"), run.job.output / "train.log")
    return any(words in log.read_text(errors="replace") for log in logs if log.is_file())
