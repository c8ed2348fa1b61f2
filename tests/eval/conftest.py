"""A tiny BPE tokenizer and tiny Llama models as Hugging Face directories, made here in a second."""

import os
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

VOCAB = 384
TEXT = [
    "Question: does the drug lower the blood pressure? Answer: yes, no or maybe.",
    "Abstract: forty patients received the drug and forty received placebo. Option A. B. C. D.",
]


def save_model(directory: Path, *, max_positions: int = 128, seed: int = 0) -> Path:
    """Write a two-layer Llama with random weights, large enough that its answers differ, and the tokenizer."""
    config = LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=max_positions,
        tie_word_embeddings=True,
        initializer_range=0.2,
        bos_token_id=0,
        eos_token_id=1,
    )
    torch.manual_seed(seed)
    LlamaForCausalLM(config).save_pretrained(directory)
    make_tokenizer().save_pretrained(directory)
    return directory


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE with <s> and </s>, and no template that would add them."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXT * 5, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="session")
def realdata() -> Path:
    """The folder of real text; a test that needs it fails without it."""
    folder = os.environ.get("REALDATA")
    if not folder:
        pytest.fail("set REALDATA to the folder of real text (benchmarks/medqa/test.jsonl, ...)")
    return Path(folder)
