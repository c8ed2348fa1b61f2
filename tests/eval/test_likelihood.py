"""Shared contexts give the log-likelihoods of plain rows, whatever attention the family has."""

import random

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, MistralConfig, PreTrainedConfig, Qwen3Config

from domainlm.eval.likelihood import Branches, Window, score_branches, score_windows

SIZES = {
    "vocab_size": 320,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "initializer_range": 0.2,
}
FAMILIES = {
    "llama": LlamaConfig(**SIZES),
    "qwen3": Qwen3Config(**SIZES, head_dim=8),
    "mistral, window 8": MistralConfig(**SIZES, sliding_window=8),
}


@pytest.mark.parametrize("config", FAMILIES.values(), ids=FAMILIES)
def test_a_shared_context_gives_what_separate_rows_give(config: PreTrainedConfig) -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    draw = random.Random(0)
    tokens = lambda number: tuple(draw.choices(range(320), k=number))  # noqa: E731
    rows = [Branches(tokens(number), (tokens(1), tokens(6), tokens(3))) for number in (21, 13, 7)]
    for row, scores in zip(rows, score_branches(model, rows), strict=True):
        for continuation, score in zip(row.continuations, scores, strict=True):
            plain = score_windows(model, [Window(row.context + continuation, len(continuation))])
            assert score == pytest.approx(plain[0], abs=1e-4)


def test_windows_of_a_large_vocabulary_are_scored_in_several_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(FAMILIES["llama"]).eval()
    rows = [Window(tuple(range(n, n + 12)), 5) for n in range(5)]
    whole = score_windows(model, rows)
    monkeypatch.setattr("domainlm.eval.likelihood.MAX_LOGITS", 2 * 12 * 320)
    assert score_windows(model, rows) == pytest.approx(whole, abs=1e-5)
