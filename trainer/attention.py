"""Attention within documents, by what the place can do: where a kernel takes the boundaries, no T x T mask is made.

Four ways to the same result; `attention_for` picks the first that fits the family and the place:

    fa4             boundaries instead of a mask: FlashAttention 4, where it is installed (Hopper, Blackwell)
    documents       the same: `varlen_attn` on CUDA, one causal SDPA a document on a CPU
    flex_attention  transformers' own: a compiled block mask, of whatever the family masks (CUDA)
    sdpa            transformers' own: a dense mask, anywhere

The first two are for families whose attention is causal within a document, with a sliding window or without, and which
hand window and scale to the attention function; a family is added by its name here, and the packing test proves it.
Whatever else they are handed (soft caps, sinks, a position bias), they refuse.

Shape legend: B sequences, T tokens, N = B*T, H heads, K key heads, D head size, E documents of a microbatch.
"""

import inspect
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn.attention.varlen import varlen_attn
from transformers import AttentionInterface, AutoModelForCausalLM, PreTrainedConfig

from .cpu_attention import attend_one_by_one
from .fa4 import fa4_attention, fa4_takes
from .job import Attention

DOCUMENT_FAMILIES = frozenset(
    {"llama", "qwen2", "qwen3", "gemma", "gemma3_text", "olmo2", "mistral", "phi3", "smollm3", "gpt_neox", "gpt2"}
)
BY_BOUNDS: tuple[Attention, ...] = ("fa4", "documents")
LAYER_TYPES = frozenset({"full_attention", "sliding_attention"})
NEEDED_CAPABILITY = (8, 0)  # Ampere: flash attention
LARGEST_HEAD = 256
SMALLEST_FLEX_HEAD = 16
VARLEN_OPTIONS = frozenset(inspect.signature(varlen_attn).parameters)


def attention_for(
    config: PreTrainedConfig, device: torch.device, *, bf16: bool, asked: Literal["auto", Attention] = "auto"
) -> Attention:
    """The attention that was asked for, or the first that computes what the family means, on this device.

    Raises:
        ValueError: what was asked for would compute something else, or does not run there.
    """
    by_bounds = _masks_by_documents_alone(config) and (device.type == "cpu" or _bounds_take(config, device, bf16=bf16))
    takes: dict[Attention, bool] = {
        "fa4": by_bounds and device.type == "cuda" and fa4_takes(device, _head_size(config)),
        "documents": by_bounds,
        "flex_attention": _flex_takes(config, device),
        "sdpa": True,
    }
    if asked == "auto":
        return next(attention for attention, fits in takes.items() if fits)
    if not takes[asked]:
        raise ValueError(
            f"place.attention is {asked!r}, but {config.model_type} masks otherwise as it is configured, or the "
            f"kernels of {device.type} do not take its heads in this precision, or are not installed; take 'auto'."
        )
    return asked


def document_bounds(position_ids: Tensor) -> Tensor:
    """Where each document of a microbatch [B, T] begins in its N tokens, and N: int32 [E + 1].

    On a CPU for the loader's tensors: on a GPU the number of documents would have to be waited for.
    """
    starts = torch.nonzero(position_ids.flatten() == 0).flatten()
    return torch.cat([starts, starts.new_tensor([position_ids.numel()])]).int()


def document_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    cu_seq_lens_q: Tensor | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """An attention function of transformers: query [B, H, T, D], key and value [B, K, T, D] to [B, T, H, D].

    `cu_seq_lens_q` are the `document_bounds`, by the name under which transformers hands such a thing to its layers.
    """
    _check(module, attention_mask, dropout, cu_seq_lens_q, others)
    batch, heads, length, size = query.shape
    packed = [tensor.transpose(1, 2).flatten(0, 1) for tensor in (query, key, value)]
    scale = size**-0.5 if scaling is None else scaling
    left = -1 if sliding_window is None else sliding_window - 1  # tokens before one's own
    attend = _varlen if query.is_cuda else _one_by_one
    attend = _fa4 if cast(PreTrainedConfig, module.config)._attn_implementation == "fa4" else attend
    out = attend(packed, cast(Tensor, cu_seq_lens_q), length, scale, left)
    return out.view(batch, length, heads, size), None


for name in BY_BOUNDS:
    AttentionInterface.register(name, document_attention)


def _check(
    module: nn.Module, mask: Tensor | None, dropout: float, bounds: Tensor | None, others: dict[str, Any]
) -> None:
    wrong = [name for name in ("softcap", "s_aux", "position_bias") if others.get(name) is not None]
    wrong += ["a mask"] if mask is not None else []
    wrong += ["dropout"] if dropout else []
    wrong += [] if getattr(module, "is_causal", True) else ["attention in both directions"]
    wrong += [] if bounds is not None else ["no document bounds"]
    if wrong:
        raise ValueError(
            f"{type(module).__name__} asks for {', '.join(wrong)}, which document attention does not compute; take its "
            "family out of DOCUMENT_FAMILIES."
        )


def _masks_by_documents_alone(config: PreTrainedConfig) -> bool:
    """Whether the family is known, and not configured to something else."""
    types = getattr(config, "layer_types", None) or ()
    soft_cap = getattr(config, "attn_logit_softcapping", None)
    both_ways = getattr(config, "use_bidirectional_attention", None)
    return config.model_type in DOCUMENT_FAMILIES and LAYER_TYPES.issuperset(types) and not (soft_cap or both_ways)


def _head_size(config: PreTrainedConfig) -> int:
    size: int = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return size


def _flex_takes(config: PreTrainedConfig, device: torch.device) -> bool:
    if device.type != "cuda":  # on a CPU it has no backward
        return False
    supported: bool = AutoModelForCausalLM._model_mapping[type(config)]._supports_flex_attn
    return supported and _head_size(config) >= SMALLEST_FLEX_HEAD


def _bounds_take(config: PreTrainedConfig, device: torch.device, *, bf16: bool) -> bool:
    size = _head_size(config)
    fits = bf16 and size % 8 == 0 and size <= LARGEST_HEAD
    return fits and "window_size" in VARLEN_OPTIONS and torch.cuda.get_device_capability(device) >= NEEDED_CAPABILITY


def _varlen(packed: list[Tensor], bounds: Tensor, longest: int, scale: float, left: int) -> Tensor:
    """On CUDA: flash attention that takes the bounds. `longest` bounds all documents, so that it never changes."""
    query, key, value = packed
    options: dict[str, Any] = {"scale": scale, "window_size": (left, 0)}
    if "enable_gqa" in VARLEN_OPTIONS:  # since torch 2.12; before, groups need no word
        options["enable_gqa"] = query.shape[1] != key.shape[1]
    return cast(Tensor, varlen_attn(query, key, value, bounds, bounds, longest, longest, **options))


def _fa4(packed: list[Tensor], bounds: Tensor, longest: int, scale: float, left: int) -> Tensor:
    """On CUDA: FlashAttention 4."""
    query, key, value = packed
    return cast(Tensor, fa4_attention(query, key, value, bounds, longest, scale, left)[0])


def _one_by_one(packed: list[Tensor], bounds: Tensor, longest: int, scale: float, left: int) -> Tensor:
    """On a CPU: each document by itself."""
    query, key, value = _ungrouped(packed)
    return cast(Tensor, attend_one_by_one(query, key, value, bounds, scale, left)[0])


def _ungrouped(packed: list[Tensor]) -> list[Tensor]:
    """Keys and values once for each query head."""
    query, *others = packed
    groups = query.shape[1] // others[0].shape[1]
    return [query, *(other.repeat_interleave(groups, dim=1) if groups > 1 else other for other in others)]
