"""Resume: any number of processes after any other, and what checkpoints cost: `python -m bench.resume [--json]`.

The matrix: runs of 1, 2 and 4 processes on the small world of `bench.faults` are stopped by SIGTERM on the way, and
each checkpoint goes on with 1, 2 and 4. Every cell is a real start by `torchrun -m trainer`; its seconds are from the
start of the command to the end of the first step that it trains. "Same bits": the weights at the end are those of a run
of as many processes that nobody stopped. Sequences are compared by the digest of every step.

The cost, on a model of `--preset` (125M parameters by default) on one process under `trainer.unattended`: how long
training stands still for a checkpoint, as a share of the default interval; how long it takes to the end of the next
step after kill -9 of the rank, and after kill -9 of everything, from the same command; and what of that each part
takes. It is measured on a GPU where there is one; `--cost` leaves the matrix out.
`--docs FILE` puts the tables between the marks in a Markdown file.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path
from typing import Literal

import torch

from bench.faultworld import ROOT, Running, World, kill, read_lines, wait_until, weights
from trainer.config import ModelConfig
from trainer.job import Place, TrainJob, save_job

SIZES = (1, 2, 4)
Device = Literal["cpu", "cuda"]
STOP_AFTER = 12  # steps
SHOWN = {
    "imports": "Python and its imports, in the rank",
    "join": "the device and the process group",
    "assemble": "checks, model, optimizer",
}
MARKS = ("<!-- made by bench.resume -->", "<!-- end of bench.resume -->")


@dataclass(frozen=True)
class Cell:
    """A checkpoint of `before` processes that goes on with `after`."""

    before: int
    after: int
    next_step_s: float
    same_sequences: bool
    loss_apart: float
    same_bits: bool


@dataclass(frozen=True)
class Restart:
    """From an instant to the end of the first step after it."""

    next_step_s: float
    startup_s: dict[str, float]
    """Of which: the parts of the rank's start (`trainer.startup`)."""
    restore_s: float
    """Of which: checking and loading the checkpoint."""
    loader_s: float
    """Of which: waiting for the first batch."""
    step_s: float
    """Of which: the step itself, and its graphs, from torch's cache."""

    @property
    def rest_s(self) -> float:
        """Of which: all else, until the rank's process is there."""
        return self.next_step_s - sum(self.startup_s.values()) - self.restore_s - self.loader_s - self.step_s


@dataclass(frozen=True)
class Cost:
    """What checkpoints cost on a model, and restarts."""

    preset: str
    parameters: int
    checkpoint_bytes: int
    stall_s: float
    """Training stands still for one checkpoint."""
    stall_share: float
    """Of the default interval."""
    crash: Restart
    """After kill -9 of the rank."""
    command: Restart
    """After kill -9 of everything: the same command again."""


def main() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--preset", default="llama-125m")
    parser.add_argument("--cost", action="store_true", help="only what checkpoints cost")
    parser.add_argument("--cuda", action="store_true", help="the matrix on GPUs, with as many processes as there are")
    parser.add_argument("--docs", type=Path, help="Markdown file to put the tables into")
    arguments = parser.parse_args()
    if arguments.cost and arguments.docs:
        parser.error("--docs writes both tables; leave --cost away.")
    folder = Path(tempfile.mkdtemp(prefix="resume-"))
    try:
        world = World(folder / "world")
        cost = measure(world, arguments.preset)
        sys.stderr.write(f"{cost}\n")
        sizes = [size for size in SIZES if size <= torch.cuda.device_count()] if arguments.cuda else SIZES
        cells = [] if arguments.cost else matrix(world, sizes, "cuda" if arguments.cuda else "cpu")
    finally:
        shutil.rmtree(folder)
    text = tables(cells, cost)
    print(text)
    if arguments.docs:
        before, _, rest = arguments.docs.read_text().partition(MARKS[0])
        arguments.docs.write_text(f"{before}{MARKS[0]}\n{text}\n{MARKS[1]}{rest.partition(MARKS[1])[2]}")
    if arguments.json:
        good = all(cell.same_sequences and cell.loss_apart < 1e-4 for cell in cells) if cells else None
        print(json.dumps({"same_result": good, "cells": [asdict(c) for c in cells], "cost": asdict(cost)}))


def matrix(world: World, sizes: Sequence[int], device: Device) -> list[Cell]:
    """Stop and resume, in every combination."""
    for size in sizes:
        run(calm(world, f"whole-{size}", device), size)
        run(calm(world, f"stopped-{size}", device), size, stop_after=STOP_AFTER)
    whole = {size: calm(world, f"whole-{size}", device).output for size in sizes}
    return [resume(world, before, after, whole, device) for before in sizes for after in sizes]


def calm(world: World, name: str, device: Device) -> TrainJob:
    """A job whose rounding does not grow (`bench.rounding`): a tenth of the learning rate."""
    job = world.job(name, checkpoint_every_s=1e6, device=device, compile="never")
    return replace(job, config=replace(job.config, peak_lr=1e-3))


def resume(world: World, before: int, after: int, whole: dict[int, Path], device: Device) -> Cell:
    """One cell."""
    job = calm(world, f"from-{before}-to-{after}", device)
    shutil.copytree(calm(world, f"stopped-{before}", device).output, job.output)
    began_s = time.time()
    run(job, after)
    ours, theirs = (read_lines(path / "metrics.jsonl") for path in (job.output, whole[after]))
    first = next(line["step"] for line in read_lines(job.output / "events.jsonl") if line["event"] == "resume")
    return Cell(
        before=before,
        after=after,
        next_step_s=ours[first]["ended_s"] - began_s,
        same_sequences=[line["digest"] for line in ours] == [line["digest"] for line in theirs],
        loss_apart=max(abs(a["loss"] - b["loss"]) / b["loss"] for a, b in zip(ours, theirs, strict=True)),
        same_bits=weights(job.output) == weights(whole[after]) != "",
    )


def measure(world: World, preset: str) -> Cost:
    """Three checkpoints of a large model, a crash, and a new start."""
    job = world.job("large", device="auto", compile="auto", checkpoint_every_s=1e-3, microbatch_sequences=4)
    precision: Literal["bf16", "fp32"] = "bf16" if torch.cuda.is_available() else "fp32"
    job = replace(job, config=replace(job.config, model=ModelConfig(preset=preset), precision=precision))
    with world.running(job, processes=1) as training:
        wait_until(lambda: training.count("checkpoint") >= 3, 300)
        lines, saved = training.metrics, training.count("checkpoint")
        began_s = time.time()
        kill(training.ranks()[0])
        crash = restarted(training, 0, began_s)
    began_s = time.time()
    with world.running(job, processes=1) as training:
        command = restarted(training, 1, began_s)
    checkpoint = max((job.output / "checkpoints").glob("step-*"))
    stall_s = sum(line["stall_s"] for line in lines) / saved
    return Cost(
        preset=preset,
        parameters=ModelConfig(preset=preset).shape.num_parameters(world.mixture.vocab_size),
        checkpoint_bytes=sum(path.stat().st_size for path in checkpoint.iterdir()),
        stall_s=stall_s,
        stall_share=stall_s / Place().checkpoint_every_s,
        crash=crash,
        command=command,
    )


def restarted(training: Running, number: int, began_s: float) -> Restart:
    """The resume of this number, and the first step after it."""
    wait_until(lambda: training.count("resume") > number, 300)
    resume = [line for line in training.events if line["event"] == "resume"][number]
    wait_until(lambda: len(training.metrics) > resume["step"], 300)
    first = training.metrics[resume["step"]]
    return Restart(
        next_step_s=first["ended_s"] - began_s,
        startup_s=resume["startup_s"],
        restore_s=resume["restore_s"],
        loader_s=first["data_s"],
        step_s=first["step_s"],
    )


def run(job: TrainJob, processes: int, *, stop_after: int = 0, stop: Callable[[], object] | None = None) -> None:
    """Train to the end, or until it is time to stop, with a checkpoint."""
    config = job.output.with_suffix(".json")
    save_job(job, config)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "PYTHONWARNINGS": "ignore"}
    if stop_after:
        stop = lambda: len(read_lines(job.output / "metrics.jsonl")) >= stop_after  # noqa: E731
    with job.output.with_suffix(".log").open("ab") as log:
        process = subprocess.Popen(
            [*launcher, "-m", "trainer", "--config", str(config)], cwd=ROOT, env=env, stdout=log, stderr=log
        )
        try:
            if stop is not None:
                wait_until(stop, 300)
                process.terminate()
            process.wait(300)
        finally:
            process.kill()
            process.wait()
    if stop is None and not (job.output / "done.json").is_file():
        raise RuntimeError(f"a run failed: {config.with_suffix('.log').read_text()[-2000:]}")


def tables(cells: list[Cell], cost: Cost) -> str:
    """Both in Markdown."""
    sizes = sorted({cell.before for cell in cells})
    head = "| from \\ to | " + " | ".join(f"{size} process{'es' * (size > 1)}" for size in sizes) + " |"
    lines = [head, "|---|" + "---|" * len(sizes)] if cells else []
    for before in sizes:
        row = [told(cell) for cell in cells if cell.before == before]
        lines.append(f"| {before} | " + " | ".join(row) + " |")
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine()
    megabytes = cost.checkpoint_bytes / 1e6
    return "\n".join(
        [
            *lines,
            *([""] if lines else []),
            f"| {cost.preset}, {cost.parameters / 1e6:.0f}M parameters, {megabytes:,.0f} MB a checkpoint | |",
            "|---|---:|",
            f"| training stands still for a checkpoint | {cost.stall_s:.2f} s |",
            f"| of the default interval of {Place().checkpoint_every_s:.0f} s | {cost.stall_share:.2%} |",
            "",
            "| to the end of the next step | after kill -9 of a rank | of everything: the command again |",
            "|---|---:|---:|",
            *(f"| {part} | {one:.2f} s | {other:.2f} s |" for part, one, other in parts(cost.crash, cost.command)),
            "",
            f"By `python -m bench.resume`, {date.today()}, torch {torch.__version__}, {device}, "
            f"{os.cpu_count()} cores.",
        ]
    )


def parts(*restarts: Restart) -> list[tuple[str, float, float]]:
    """What they took, and of that each part."""
    rows = {
        "all of it": [one.next_step_s for one in restarts],
        "until the rank is there": [one.rest_s for one in restarts],
    }
    rows |= {SHOWN[part]: [one.startup_s[part] for one in restarts] for part in SHOWN}
    rows["checking and loading the checkpoint"] = [one.restore_s for one in restarts]
    rows["the loader"] = [one.loader_s for one in restarts]
    rows["the step, and its graphs from torch's cache"] = [one.step_s for one in restarts]
    return [(part, one, other) for part, (one, other) in rows.items()]


def told(cell: Cell) -> str:
    """A cell in a few words."""
    sequences = "same sequences" if cell.same_sequences else "OTHER SEQUENCES"
    bits = "same bits" if cell.same_bits else f"loss to {cell.loss_apart:.0e}"
    return f"{sequences}, {bits}, {cell.next_step_s:.1f} s"


if __name__ == "__main__":
    main()
