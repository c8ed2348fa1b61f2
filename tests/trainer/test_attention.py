"""Attention within documents: every way to it gives the same. One rank, in this process."""

from typing import get_args

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig

from domainlm.trainer.attention import DOCUMENT_FAMILIES, attention_for, document_attention, document_bounds
from domainlm.trainer.job import Attention
from domainlm.trainer.model import without_dropout
from domainlm.trainer.optimizer import local
from domainlm.trainer.ranks import Ranks

from .test_model import FAMILIES, SIZES, built, random_tokens, tiny

LENGTHS = (9, 5, 18)
WINDOWS = [
    ("mistral", {"sliding_window": 6}),
    ("phi3", {"sliding_window": 6}),
    ("gemma3_text", {"sliding_window": 6}),
    ("gemma3_text", {"sliding_window": 6, "layer_types": ["sliding_attention", "full_attention"]}),
    ("qwen2", {"use_sliding_window": True, "sliding_window": 6, "max_window_layers": 1}),
]


def windowed(family: str, changes: dict[str, object]) -> PreTrainedConfig:
    return without_dropout(AutoConfig.for_model(family, **{**SIZES, **changes}))


def packed() -> tuple[Tensor, Tensor]:
    """Two sequences of 32 tokens, of three documents and of two, the last one of a single token."""
    other = torch.cat([torch.arange(31), torch.arange(1)])
    positions = torch.stack([torch.cat([torch.arange(length) for length in LENGTHS]), other])
    return random_tokens(64).view(2, 32), positions


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("attention", [one for one in get_args(Attention) if one != "fa4"])  # needs a GPU
@pytest.mark.filterwarnings(
    "ignore"
)  # of torch and transformers about themselves, and that flex attention is not compiled
def test_packed_documents_equal_separate_ones(family: str, attention: Attention, ranks: Ranks) -> None:
    config = tiny(family)
    if attention == "flex_attention" and not AutoModelForCausalLM._model_mapping[type(config)]._supports_flex_attn:
        assert attention_for(config, torch.device("cuda"), bf16=False) == "sdpa"
        return
    model = built(config, ranks, attention=attention)
    documents = [random_tokens(length) for length in LENGTHS]
    tokens, positions = torch.cat(documents)[None], torch.cat([torch.arange(length) for length in LENGTHS])[None]
    torch.compiler.set_stance("force_eager")  # flex attention compiles itself, which takes 7 s a family on a CPU
    try:
        with torch.no_grad():
            alone = sum(model(d[None], torch.arange(len(d))[None], d[None]).item() for d in documents)
            together = model(tokens, positions, tokens).item()
            smeared = model(tokens, torch.arange(32)[None], tokens).item()
    finally:
        torch.compiler.set_stance("default")
    assert together == pytest.approx(alone, rel=1e-5)
    assert smeared != pytest.approx(alone, rel=1e-5)


@pytest.mark.parametrize(("family", "changes"), [*((family, {}) for family in FAMILIES), *WINDOWS])
def test_bounds_give_the_loss_and_gradients_of_a_dense_mask(
    family: str, changes: dict[str, object], ranks: Ranks
) -> None:
    tokens, positions = packed()
    losses, gradients = [], []
    for attention in ("sdpa", "documents"):
        model = built(windowed(family, changes), ranks, attention=attention)  # type: ignore[arg-type]
        loss = model(tokens, positions, tokens, document_bounds(positions))
        loss.backward()
        losses.append(loss.item())
        gradients.append(torch.cat([local(p.grad).flatten() for p in model.parameters() if p.grad is not None]))
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-4, atol=1e-4)


def test_a_window_hides_what_lies_before_it(ranks: Ranks) -> None:
    tokens, positions = packed()
    with torch.no_grad():
        near, far = (
            built(windowed("mistral", {"sliding_window": window}), ranks)(tokens, positions, tokens).item()
            for window in (6, 32)
        )
    assert near != pytest.approx(far, rel=1e-5)


def test_bounds_are_the_starts_of_documents_and_the_end() -> None:
    _, positions = packed()
    assert document_bounds(positions).tolist() == [0, 9, 14, 32, 63, 64]
    assert document_bounds(positions).dtype == torch.int32


def test_a_family_that_masks_otherwise_keeps_the_masks_of_transformers() -> None:
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert all(attention_for(tiny(family), cpu, bf16=True) == "documents" for family in FAMILIES)
    assert set(FAMILIES) == DOCUMENT_FAMILIES
    chunked = tiny("llama")
    chunked.layer_types = ["chunked_attention", "full_attention"]
    capped = tiny("gemma3_text")
    capped.attn_logit_softcapping = 50.0
    for config in (tiny("gemma2"), tiny("granite"), chunked, capped):
        assert attention_for(config, cpu, bf16=True) == "sdpa"
        assert attention_for(config, cuda, bf16=True) == "flex_attention"
    with pytest.raises(ValueError, match="granite masks otherwise as it is configured"):
        attention_for(tiny("granite"), cpu, bf16=True, asked="documents")
    assert attention_for(tiny("llama"), cpu, bf16=True, asked="sdpa") == "sdpa"
    assert attention_for(tiny("llama"), cuda, bf16=False) == "flex_attention"  # flash kernels take no fp32
    assert attention_for(windowed("llama", {"head_dim": 20}), cuda, bf16=True) == "flex_attention"
    assert attention_for(windowed("llama", {"head_dim": 12}), cuda, bf16=True) == "sdpa"
    with pytest.raises(ValueError, match="do not take its heads"):
        attention_for(tiny("llama"), cpu, bf16=True, asked="flex_attention")  # no backward on a CPU


@pytest.mark.parametrize(
    "asked", [{"softcap": 50.0}, {"s_aux": torch.ones(4)}, {"dropout": 0.1}, {"cu_seq_lens_q": None}]
)
def test_what_document_attention_does_not_compute_is_refused(asked: dict[str, object]) -> None:
    part = torch.ones(1, 4, 8, 8)
    given = {"cu_seq_lens_q": torch.tensor([0, 8], dtype=torch.int32), **asked}
    with pytest.raises(ValueError, match=r"Linear asks for .*, which document attention does not compute"):
        document_attention(nn.Linear(1, 1), part, part, part, None, **given)  # type: ignore[arg-type]
