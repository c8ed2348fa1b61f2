"""The export: a plain Hugging Face directory with config, safetensors, generation config and tokenizer files."""

import shutil
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedConfig

from .files import TOKENIZER_FILES
from .optimizer import ShardedOptimizer
from .ranks import Ranks

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


def export(
    directory: Path,
    optimizer: ShardedOptimizer,
    config: PreTrainedConfig,
    tokenizer: Path,
    *,
    precision: Literal["bf16", "fp32"],
    ranks: Ranks,
) -> None:
    """Gather the weights and write `directory`; it appears whole or not at all."""
    weights: dict[str, Tensor] = {}
    for name, parameter in optimizer.parameters.items():
        full = parameter.full_tensor() if isinstance(parameter, DTensor) else parameter
        if ranks.is_first:
            weights[name] = full.detach().to("cpu", DTYPES[precision])
    if not ranks.is_first:
        return
    partial = directory.with_name(directory.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    with torch.device("meta"):
        causal = AutoModelForCausalLM.from_config(config, dtype=DTYPES[precision], trust_remote_code=False)
    causal.generation_config = GenerationConfig.from_model_config(causal.config)
    causal.save_pretrained(partial, state_dict=weights)
    _copy_tokenizer(tokenizer, partial)
    shutil.rmtree(directory, ignore_errors=True)
    partial.rename(directory)


def _copy_tokenizer(tokenizer: Path, target: Path) -> None:
    """The files by which `AutoTokenizer` opens a directory; weights and configs of a model beside them stay behind."""
    for name in TOKENIZER_FILES:
        if (tokenizer / name).is_file():
            shutil.copyfile(tokenizer / name, target / name)
