"""Any Hugging Face decoder: packing, export, continuing. One rank, in this process."""

import dataclasses
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig

from domainlm.trainer.assemble import assemble
from domainlm.trainer.config import ModelConfig, TrainConfig
from domainlm.trainer.export import export
from domainlm.trainer.flops import flops_per_token, peak_flops
from domainlm.trainer.fsdp import shard
from domainlm.trainer.job import Attention, Place
from domainlm.trainer.model import (
    LanguageModel,
    build_on_meta,
    fresh_config,
    fresh_weights,
    given_weights,
    materialise,
    without_dropout,
)
from domainlm.trainer.optimizer import ShardedOptimizer, local
from domainlm.trainer.ranks import Ranks

from .conftest import TINY, VOCAB, World

SIZES = {"vocab_size": VOCAB, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
         "num_key_value_heads": 2, "intermediate_size": 48, "max_position_embeddings": 64, "bos_token_id": 0,
         "eos_token_id": 1, "pad_token_id": 1, "head_dim": 16}  # fmt: skip
FAMILIES = [
    "llama",
    "qwen2",
    "qwen3",
    "gemma",
    "gemma3_text",
    "olmo2",
    "mistral",
    "phi3",
    "smollm3",
    "gpt_neox",
    "gpt2",
]


def tiny(family: str) -> PreTrainedConfig:
    config = AutoConfig.for_model(family, **SIZES)
    return without_dropout(config)


def built(
    config: PreTrainedConfig, ranks: Ranks, *, bf16: bool = False, attention: Attention = "documents"
) -> LanguageModel:
    model = build_on_meta(config, z_loss=0.0, attention=attention)
    shard(model, ranks.mesh, bf16=bf16)
    materialise(model, ranks.device, fresh_weights(config, seed=3))
    return model


def random_tokens(length: int) -> torch.Tensor:
    return torch.randint(2, VOCAB, (length,), generator=torch.Generator().manual_seed(length))


@pytest.mark.parametrize("family", FAMILIES)
def test_an_export_opens_with_equal_logits_and_trains_on(
    family: str, ranks: Ranks, world: World, tmp_path: Path
) -> None:
    config = tiny(family)
    model = built(config, ranks)
    optimizer = ShardedOptimizer(model, TrainConfig().optimizer)
    export(tmp_path / "model", optimizer, config, world.root / "tokenizer", precision="fp32", ranks=ranks)
    opened = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    tokens = torch.arange(20)[None] % VOCAB
    positions = torch.arange(20)[None]
    with torch.no_grad():
        loss = model(tokens, positions, tokens)
        logits = opened(tokens).logits[0]
    plain = torch.nn.functional.cross_entropy(logits, tokens[0], reduction="sum")
    torch.testing.assert_close(loss, plain, rtol=1e-5, atol=1e-5)

    again = build_on_meta(config, z_loss=0.0)
    shard(again, ranks.mesh, bf16=False)
    materialise(again, ranks.device, given_weights(tmp_path / "model"))
    with torch.no_grad():
        assert again(tokens, positions, tokens).item() == loss.item()


def test_a_microbatch_with_and_without_boundaries_is_the_sum_of_its_sequences(ranks: Ranks) -> None:
    model = built(tiny("llama"), ranks)
    tokens = random_tokens(32).view(2, 16)
    positions = torch.stack([torch.arange(16), torch.cat([torch.arange(6), torch.arange(10)])])
    with torch.no_grad():
        both = model(tokens, positions, tokens).item()
        each = sum(model(tokens[i : i + 1], positions[i : i + 1], tokens[i : i + 1]).item() for i in range(2))
    assert both == pytest.approx(each, rel=1e-5)


@pytest.mark.parametrize("preset", ["llama-6m", "llama-3b", "qwen3-10m", "qwen3-0.6b", "qwen3-7b"])
def test_a_preset_is_the_model_of_its_family_with_the_parameters_that_its_shape_counts(preset: str) -> None:
    model = ModelConfig(preset=preset)  # type: ignore[arg-type]
    config = fresh_config(model, vocab_size=4096, bos_id=0, eos_id=1)
    built = build_on_meta(config, z_loss=0.0)
    assert type(built.causal).__name__ == {"llama": "LlamaForCausalLM", "qwen3": "Qwen3ForCausalLM"}[model.shape.family]
    assert sum(p.numel() for p in built.parameters()) == model.shape.num_parameters(4096)


def test_initial_weights_follow_from_the_seed_alone(ranks: Ranks) -> None:
    config = fresh_config(TINY, vocab_size=VOCAB, bos_id=0, eos_id=1)
    shape = torch.Size([48, 32])
    sources = [fresh_weights(config, seed) for seed in (1, 1, 2)]
    first, same, other = (source("model.layers.0.mlp.up_proj.weight", shape) for source in sources)
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    assert not torch.equal(first, sources[0]("model.layers.1.mlp.up_proj.weight", shape))
    assert torch.equal(sources[0]("model.norm.weight", torch.Size([32])), torch.ones(32))


def test_a_head_that_the_loss_cannot_compute_is_refused() -> None:
    config = AutoConfig.for_model("granite", logits_scaling=2.0, **SIZES)
    with pytest.raises(ValueError, match="GraniteForCausalLM has logits_scaling"):
        build_on_meta(config, z_loss=0.0)


def test_norms_biases_and_embeddings_have_no_weight_decay(ranks: Ranks) -> None:
    model = built(tiny("qwen2"), ranks)
    optimizer = ShardedOptimizer(model, TrainConfig().optimizer)
    names = {id(shard): name for name, shard in optimizer.shards.items()}
    bare = {names[id(p)] for p in optimizer.adamw.param_groups[1]["params"]}
    assert {name.rsplit(".", 2)[-2] for name in bare if "layers.0" in name} == {
        "input_layernorm", "post_attention_layernorm", "q_proj", "k_proj", "v_proj"}  # fmt: skip
    assert "model.embed_tokens.weight" in bare
    assert "lm_head.weight" not in bare


def test_flops_follow_the_formula_and_an_unknown_device_has_no_peak(ranks: Ranks) -> None:
    config = fresh_config(TINY, vocab_size=VOCAB, bos_id=0, eos_id=1)
    model = build_on_meta(config, z_loss=0.0)
    num_parameters = TINY.shape.num_parameters(VOCAB)
    assert flops_per_token(model, config, 32) == 6 * num_parameters + 6 * 2 * 32 * 32
    untied = fresh_config(dataclasses.replace(TINY, tie_embeddings=False), vocab_size=VOCAB, bos_id=0, eos_id=1)
    assert flops_per_token(build_on_meta(untied, z_loss=0.0), untied, 32) == flops_per_token(model, config, 32)
    assert peak_flops(torch.device("cpu")) is None


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_activation_checkpointing_changes_no_bit(ranks: Ranks, world: World, precision: str) -> None:
    config = TrainConfig(model=TINY, precision=precision)  # type: ignore[arg-type]
    gradients = []
    for activation_checkpointing in ("none", "selective", "full"):
        place = Place(device="cpu", activation_checkpointing=activation_checkpointing)
        parts = assemble(world.job("memory", config=config, place=place), ranks)
        batch = parts.loader.batch(0)
        (parts.model(batch.input_ids, batch.position_ids, batch.targets) / batch.num_targets).backward()
        gradients.append([local(p.grad) for p in parts.model.parameters() if p.grad is not None])
    assert len(gradients[0]) == len(list(parts.model.parameters()))
    for plain, selective, full in zip(*gradients, strict=True):
        assert torch.equal(plain, selective)
        assert torch.equal(plain, full)
