"""What makes training faster changes rounding at most, and graphs are few."""

import dataclasses
from typing import Any

import pytest
import torch
from torch._dynamo.utils import counters

from domainlm.trainer.assemble import assemble
from domainlm.trainer.fsdp import accumulate
from domainlm.trainer.job import Place, outcome
from domainlm.trainer.loop import Run
from domainlm.trainer.optimizer import local
from domainlm.trainer.ranks import Ranks

from .conftest import World
from .test_run import run_here


@pytest.mark.filterwarnings("ignore")  # of torch about itself, as it compiles
def test_compiled_training_is_eager_training_to_rounding_and_resumes_to_the_bit(world: World, ranks: Ranks) -> None:
    """With activations recomputed, which the compiler has to plan. A compiled graph takes 10 s: all in one test."""
    torch._dynamo.reset()
    counters.clear()
    config = dataclasses.replace(world.job("").config, z_loss=1e-4)
    place = Place(device="cpu", microbatch_sequences=2, compile="always", activation_checkpointing="selective")
    whole = run_here(world.job("compiled", config=config, place=place), ranks)

    # 24 steps of 4 microbatches, 2 layers: a graph for the layers, one for the loss.
    assert counters["stats"]["unique_graphs"] == 2
    assert not counters["graph_break"]

    eager = run_here(world.job("not-compiled", config=config), ranks)
    assert whole.curve("digest") == eager.curve("digest")
    assert whole.curve() == pytest.approx(eager.curve(), rel=1e-4)

    job = world.job("compiled-in-two", config=config, place=place)
    first = Run(job, ranks, assemble(job, ranks))
    step = first._step

    def stopping(batch: Any, *, data_s: float = 0.0) -> Any:
        first.stop_asked = batch.step == 9
        return step(batch, data_s=data_s)

    first._step = stopping  # type: ignore[method-assign]
    first.train()
    assert outcome(job.output) == "preempted"
    resumed = run_here(job, ranks)
    assert resumed.curve() == whole.curve()
    assert resumed.weights == whole.weights


def test_keeping_parameters_whole_within_a_step_changes_no_bit(world: World, ranks: Ranks) -> None:
    config = dataclasses.replace(world.job("").config, precision="bf16")
    parts = assemble(world.job("whole", config=config), ranks)
    assert parts.model.keeps_whole
    batch, gradients = parts.loader.batch(0), []
    for keeps_whole in (True, False):
        parts.model.keeps_whole = keeps_whole
        for first in range(0, 8, 2):
            accumulate(parts.model, is_last=first == 6)
            (parts.model(*batch.part(slice(first, first + 2))) / batch.num_targets).backward()
        gradients.append([local(p.grad).clone() for p in parts.model.parameters() if p.grad is not None])
        parts.optimizer.drop_gradients()
    for whole, gathered in zip(*gradients, strict=True):
        assert torch.equal(whole, gathered)
