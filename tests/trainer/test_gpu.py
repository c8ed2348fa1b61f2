"""What only a GPU can show: `pytest -m gpu`."""

import dataclasses
import json
import os
import signal
import subprocess

import pytest
import torch
from torch._dynamo.utils import counters
from transformers import AutoModelForCausalLM

from domainlm.trainer.assemble import assemble
from domainlm.trainer.attention import attention_for, document_bounds
from domainlm.trainer.fsdp import accumulate
from domainlm.trainer.job import Attention, Place
from domainlm.trainer.launch import Launch, unattended_command
from domainlm.trainer.loader import on_device
from domainlm.trainer.loop import Run
from domainlm.trainer.optimizer import local
from domainlm.trainer.ranks import Ranks, join

from .conftest import TINY, World, command, environment
from .test_attention import WINDOWS, packed, windowed
from .test_faults import events, ranks_below, wait_until
from .test_model import FAMILIES, built
from .test_run import run_here

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def gpu() -> Ranks:
    """This process as the only rank, on the first GPU. Run apart from the tests whose rank is on the CPU."""
    return join("cuda")


@pytest.mark.parametrize(("family", "changes"), [*((family, {}) for family in FAMILIES), *WINDOWS])
@pytest.mark.parametrize("attention", ["documents", "flex_attention"])
@pytest.mark.filterwarnings("ignore")  # of torch and transformers about themselves, as they compile
def test_other_attentions_give_the_loss_and_gradients_of_a_dense_mask(
    family: str, changes: dict[str, object], attention: Attention, gpu: Ranks
) -> None:
    config = windowed(family, changes)
    assert attention_for(config, gpu.device, bf16=True) == "documents"  # heads of 16 are too small for the others
    if attention == "flex_attention" and not AutoModelForCausalLM._model_mapping[type(config)]._supports_flex_attn:
        return
    compare(family, changes, attention, gpu)


@pytest.mark.fa4
@pytest.mark.parametrize("head_dim", [64, 128])
@pytest.mark.parametrize(("family", "changes"), [("llama", {}), ("llama", {"num_key_value_heads": 4}), *WINDOWS[:1]])
@pytest.mark.filterwarnings("ignore")
def test_flash_attention_4_gives_the_loss_and_gradients_of_a_dense_mask(
    family: str, changes: dict[str, object], head_dim: int, gpu: Ranks
) -> None:
    changes = {**changes, "head_dim": head_dim}
    assert attention_for(windowed(family, changes), gpu.device, bf16=True) == "fa4"
    compare(family, changes, "fa4", gpu)


def compare(family: str, changes: dict[str, object], attention: Attention, gpu: Ranks) -> None:
    tokens, positions = packed()
    results = []
    for one in ("sdpa", attention):
        model = built(windowed(family, changes), gpu, bf16=True, attention=one)
        loss = model(*on_device([tokens, positions, tokens, document_bounds(positions)], gpu.device))
        loss.backward()
        gradients = [local(p.grad).flatten() for p in model.parameters() if p.grad is not None]
        results.append((loss.item(), torch.cat(gradients)))
    (loss, gradient), (other_loss, other_gradient) = results
    assert other_loss == pytest.approx(loss, rel=2e-3)
    assert float((gradient - other_gradient).norm() / gradient.norm()) < 0.05


@pytest.mark.parametrize("attention", ["documents", "flex_attention"])
@pytest.mark.filterwarnings("ignore")
def test_graphs_are_few_whatever_the_documents(attention: Attention, gpu: Ranks, world: World) -> None:
    torch._dynamo.reset()
    counters.clear()
    model = dataclasses.replace(TINY, heads=2, kv_heads=1)  # flex attention takes no smaller ones than 16
    config = dataclasses.replace(world.job("").config, model=model, precision="bf16")
    place = Place(device="cuda", microbatch_sequences=2, compile="always", attention=attention)
    run_here(world.job(f"gpu-graphs-{attention}", config=config, place=place), gpu)
    assert counters["stats"]["unique_graphs"] <= 5  # layers, loss, and what flex attention compiles of its own


@pytest.mark.filterwarnings("ignore")
def test_compiled_training_follows_eager_training(gpu: Ranks, world: World) -> None:
    config = dataclasses.replace(world.job("").config, precision="bf16")
    curves = []
    for compile in ("never", "always"):
        place = Place(device="cuda", microbatch_sequences=2, compile=compile)  # type: ignore[arg-type]
        curves.append(run_here(world.job(f"gpu-{compile}", config=config, place=place), gpu).curve())
    assert curves[1] == pytest.approx(curves[0], rel=0.02)


@pytest.mark.filterwarnings("ignore")
def test_forward_and_backward_never_wait_for_the_device(gpu: Ranks, world: World) -> None:
    config = dataclasses.replace(world.job("").config, precision="bf16")
    place = Place(device="cuda", microbatch_sequences=2)
    parts = assemble(world.job("gpu-sync", config=config, place=place), gpu)
    run = Run(world.job("gpu-sync", config=config, place=place), gpu, parts)
    run._forward_backward(parts.loader.batch(0))  # compiles
    parts.optimizer.drop_gradients()
    accumulate(parts.model, is_last=True)
    torch.cuda.set_sync_debug_mode("error")
    try:
        loss = run._forward_backward(parts.loader.batch(1))
        parts.optimizer.squared_norm()
        with pytest.raises(RuntimeError, match="synchronizing"):
            loss.item()  # what waits is found
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_a_killed_run_goes_on_on_all_gpus_from_forks_of_a_supervisor_that_knows_no_device(world: World) -> None:
    ranks = torch.cuda.device_count()
    config = dataclasses.replace(world.job("").config, precision="bf16")
    place = Place(device="cuda", microbatch_sequences=1, checkpoint_every_s=0.05)
    job = world.job("gpu-killed", config=config, place=place)
    command(job, ranks)  # writes train.json
    launched = unattended_command(job.output.with_suffix(".json"), Launch(ranks))
    supervisor = subprocess.Popen(launched, env=environment())
    wait_until(lambda: "checkpoint" in events(job), seconds=200)
    os.kill(ranks_below(supervisor.pid)[-1], signal.SIGKILL)
    assert supervisor.wait(200) == 0
    assert "crash" in events(job)
    assert events(job)[-1] == "done"
    lines = [json.loads(line) for line in (job.output / "events.jsonl").read_text().splitlines()]
    resumed = [(line["num_ranks"], line["device"]) for line in lines if line["event"] == "resume"]
    assert resumed == [(ranks, "cuda:0")]
