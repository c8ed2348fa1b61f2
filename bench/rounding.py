"""Why two runs that differ in their microbatch drift apart: `python -m bench.rounding [--json]`.

Two questions, on the small world of `bench.faults` (240 steps at its high learning rate, one rank, fp32):

1. Is any step wrong? At every step the gradient is computed from the very same weights with microbatches of 1, 2, 3
   and 4 sequences (3 does not divide the 4). If the scaling were wrong anywhere, they would differ by more than
   additions in another order do.
2. Does rounding grow by itself? The run is made again with another microbatch, and, with the same microbatch, from
   weights of which one single number was moved to the next float. If both drift apart in the same way, the drift is the
   run's own sensitivity, and says nothing about microbatches.
"""

import argparse
import json
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from bench.faultworld import STEPS, World
from trainer.assemble import assemble
from trainer.loader import RankBatch
from trainer.loop import Run
from trainer.ranks import Ranks, join

SIZES = (1, 2, 3, 4)
USUAL = 4
SHOWN = (1, 20, 40, 80, 120, 160, 200, 240)
ROUNDING = 1e-5  # of a gradient in fp32, relative to its largest number: a few hundred additions in another order


@dataclass(frozen=True)
class Drift:
    """How far two runs are apart at a step, relative to the loss."""

    step: int
    other_microbatch: float
    one_float_moved: float


def main() -> None:
    """Do the experiment, and print what it shows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    folder = Path(tempfile.mkdtemp(prefix="rounding-"))
    try:
        world, ranks = World(folder / "world"), join("cpu")
        worst = worst_step(new_run(world, ranks, "steps", USUAL))
        usual = losses(new_run(world, ranks, "usual", USUAL))
        other = losses(new_run(world, ranks, "other", 1))
        moved_run = new_run(world, ranks, "moved", USUAL)
        move_one_float(moved_run)
        moved = losses(moved_run)
    finally:
        shutil.rmtree(folder)
    drifts = [Drift(step, apart(usual, other, step), apart(usual, moved, step)) for step in SHOWN]
    print(f"{STEPS} steps, gradients from the same weights with microbatches of {SIZES}: at most {worst:.1e} apart,")
    print("relative to the largest number of each gradient.\n")
    print("| losses up to step | another microbatch | the same, one weight moved to the next float |")
    print("|---:|---:|---:|")
    for drift in drifts:
        print(f"| {drift.step} | {drift.other_microbatch:.0e} | {drift.one_float_moved:.0e} |")
    is_rounding = worst < ROUNDING and drifts[-1].other_microbatch < 100 * drifts[-1].one_float_moved
    print(f"\nIt is {'rounding that grows' if is_rounding else 'NOT rounding alone'}.")
    if arguments.json:
        print(json.dumps({"worst_step": worst, "is_rounding": is_rounding, "drifts": [vars(d) for d in drifts]}))


def new_run(world: World, ranks: Ranks, name: str, microbatch: int) -> Run:
    """A run at its first step."""
    job = world.job(name, microbatch_sequences=microbatch, checkpoint_every_s=1e9)
    job = replace(job, config=replace(job.config, guard=replace(job.config.guard, deviations=1e9)))
    return Run(job, ranks, assemble(job, ranks))


def batches(run: Run) -> Iterator[RankBatch]:
    """All its steps."""
    return run.parts.loader.batches(0)


def losses(run: Run) -> list[float]:
    """The loss of each step."""
    return [run._step(batch).loss for batch in batches(run)]


def worst_step(run: Run) -> float:
    """The largest difference of a gradient between microbatches, over all steps and parameters."""
    worst = 0.0
    for batch in batches(run):
        found = [gradients(run, batch, size) for size in SIZES]
        for tensors in zip(*found, strict=True):
            scale = float(tensors[0].abs().max())
            worst = max([worst, *(float((one - tensors[0]).abs().max()) / scale for one in tensors[1:] if scale)])
        run.microbatch = USUAL
        run._step(batch)
    return worst


def gradients(run: Run, batch: RankBatch, microbatch: int) -> list[Tensor]:
    """Those of a step, which is not made."""
    run.microbatch = microbatch
    run._forward_backward(batch)
    found = [gradient.clone() for gradient in run.parts.optimizer._gradients()]
    run.parts.optimizer.drop_gradients()
    return found


def move_one_float(run: Run) -> None:
    """One number of one weight to the next that fp32 knows."""
    shard = next(iter(run.parts.optimizer.shards.values()))
    with torch.no_grad():
        flat = shard.view(-1)
        flat[100] = torch.nextafter(flat[100], torch.tensor(float("inf")))


def apart(one: list[float], other: list[float], step: int) -> float:
    """The largest relative difference up to a step."""
    return max(abs(a - b) / a for a, b in zip(one[:step], other[:step], strict=True))


if __name__ == "__main__":
    main()
