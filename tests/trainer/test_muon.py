"""Muon over sharded matrices: equal to torch's on whole ones, resumed to the same bits, refused where it is another."""

import dataclasses
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from domainlm.trainer.assemble import assemble
from domainlm.trainer.config import OptimizerConfig
from domainlm.trainer.job import Place, TrainJob
from domainlm.trainer.loop import Run
from domainlm.trainer.muon import ShardedMuon
from domainlm.trainer.ranks import Ranks

from .conftest import Trained, World, environment
from .test_matrix import run_all


def muon_job(world: World, name: str, **place: float) -> TrainJob:
    config = dataclasses.replace(world.job(name).config, optimizer=OptimizerConfig(name="muon"))
    return world.job(name, config=config, place=Place(device="cpu", microbatch_sequences=2, **place))  # type: ignore[arg-type]


def test_it_moves_a_whole_matrix_as_torchs_muon_with_adamws_scale_does() -> None:
    generator = torch.Generator().manual_seed(0)
    ours = torch.randn(24, 16, generator=generator)
    theirs = nn.Parameter(ours.clone())
    muon = ShardedMuon({"m": ours}, {"m": ours}, momentum=0.9)
    torchs = torch.optim.Muon([theirs], lr=0.02, weight_decay=0.1, momentum=0.9, adjust_lr_fn="match_rms_adamw")
    for _ in range(4):
        gradient = torch.randn(24, 16, generator=generator)
        theirs.grad = gradient.clone()
        torchs.step()
        muon.step({"m": gradient}, lr=0.02, weight_decay=0.1)
    torch.testing.assert_close(ours, theirs.detach(), rtol=0, atol=4 * 0.02 * 0.2 * 24**0.5 * 2**-8)  # bf16's rounding


def test_an_update_has_the_root_mean_square_of_adamws() -> None:
    """About 0.2 of the rate, whatever the shape: five steps leave singular values between 0.7 and 1.2."""
    for shape in ((64, 16), (16, 64), (32, 32)):
        matrix = torch.zeros(shape)
        gradient = torch.randn(shape, generator=torch.Generator().manual_seed(3))
        ShardedMuon({"m": matrix}, {"m": matrix}, momentum=0.95).step({"m": gradient}, lr=1.0, weight_decay=0.0)
        assert 0.13 < float(matrix.square().mean().sqrt()) < 0.24


def test_rows_on_four_ranks_flat_or_hybrid_move_as_whole_matrices_do() -> None:
    program = [sys.executable, str(Path(__file__).with_name("muon_ranks.py"))]
    done = subprocess.run(program, env=environment(), capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-4000:]


def test_matrices_of_layers_have_one_moment_and_all_else_two(world: World, ranks: Ranks) -> None:
    optimizer = assemble(muon_job(world, "moments"), ranks).optimizer
    moments = {kind: set(by_name) for kind, by_name in optimizer.moments().items()}
    assert moments["exp_avg"] == moments["exp_avg_sq"]
    assert moments["exp_avg"] | moments["momentum"] == set(optimizer.parameters)
    assert not moments["exp_avg"] & moments["momentum"]
    kinds = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert {name.split(".")[-2] for name in moments["momentum"]} == kinds


@pytest.fixture(scope="module")
def stopped(world: World) -> Path:
    """A run of two ranks that was stopped in its middle."""
    job = muon_job(world, "muon-stopped")
    run_all({"2": [job]}, 9)
    return job.output


def test_a_checkpoint_goes_on_to_the_same_bits_or_on_other_ranks_to_the_same_curve(
    world: World, stopped: Path, ranks: Ranks
) -> None:
    whole, *resumed = (muon_job(world, f"muon-{name}") for name in ("whole", "on-2", "on-4", "on-1"))
    for job in resumed:
        shutil.copytree(stopped, job.output)
    run_all({"2": [whole, resumed[0]], "4": [resumed[1]]}, -1)
    Run(resumed[2], ranks, assemble(resumed[2], ranks)).train()
    expected = Trained(0, "", whole.output)
    losses = [float(loss or 99) for loss in expected.curve()]
    assert losses[-1] < losses[0] - 0.3
    for job in resumed:
        run = Trained(0, "", job.output)
        assert [line["event"] for line in run.events if line["event"] == "resume"] == ["resume"]
        assert run.curve() == pytest.approx(losses, rel=2e-3)  # five steps in bf16 enlarge rounding
    assert Trained(0, "", resumed[0].output).weights == expected.weights


def test_a_checkpoint_of_another_optimizer_is_refused(world: World, ranks: Ranks, stopped: Path) -> None:
    job = world.job("muon-other")
    shutil.copytree(stopped, job.output)
    with pytest.raises(ValueError, match=r"belongs to another run: config.optimizer.name was 'muon' and is 'adamw'"):
        Run(job, ranks, assemble(job, ranks)).train()
