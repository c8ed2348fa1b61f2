"""Model FLOPs and MFU: causal, counted from the sizes, against the data sheet's dense bf16 peak.

Per trained token 6N + 6 L d S (PaLM, Chowdhery et al. 2022, appendix B, with attention halved because it is causal):
N parameters that multiply (all but an untied input embedding, which is a lookup), L layers, d heads x head size,
S sequence length. Documents do not see each other: S is the mean length of the document that a token is in, within its
sequence, and what is masked counts no more than recomputed activations do.
"""

import torch
from torch import Tensor
from transformers import PreTrainedConfig

from .model import LanguageModel

# Dense bf16 FLOP/s from NVIDIA's data sheets, by the name that torch reports; another name has no MFU, not a wrong one.
PEAK_FLOPS = {
    "NVIDIA A100-SXM4-40GB": 312e12,
    "NVIDIA A100-SXM4-80GB": 312e12,
    "NVIDIA A100 80GB PCIe": 312e12,
    "NVIDIA H100 80GB HBM3": 989e12,
    "NVIDIA H100 PCIe": 756e12,
    "NVIDIA H200": 989e12,
    "NVIDIA L40S": 362e12,
}


def attended(position_ids: Tensor) -> float:
    """The mean length of the document that a token is in: a token at position p sees p + 1, half of it on average."""
    return 2 * float(position_ids.double().mean()) + 1


def flops_per_token(model: LanguageModel, config: PreTrainedConfig, sequence_tokens: float) -> int:
    """FLOPs of forward and backward for one token, which sees half of so many tokens on average."""
    embedding, head = model.causal.get_input_embeddings().weight, model.head.weight
    num = sum(p.numel() for p in model.parameters()) - (0 if embedding is head else embedding.numel())
    width = config.num_attention_heads * getattr(config, "head_dim", config.hidden_size // config.num_attention_heads)
    return int(6 * num + 6 * config.num_hidden_layers * width * sequence_tokens)


def peak_flops(device: torch.device) -> float | None:
    """The peak of one device, None where its data sheet is not known here."""
    return PEAK_FLOPS.get(torch.cuda.get_device_name(device)) if device.type == "cuda" else None
