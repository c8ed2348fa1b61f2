"""Document attention by FlashAttention 4 (`pip install domainlm[fa4]`), which is written for Hopper and Blackwell.

torch's own `varlen_attn` is FlashAttention 2, whose kernels are those of Ampere. One operation to torch.compile. What
the package exports is called under its own names; it returns more or fewer values from one beta to the next, of which
the first two have always been these.

Shape legend: N tokens of a microbatch, H heads, K key heads, D head size, E documents.
"""

import functools
import importlib
import importlib.util
import os
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

CAPABILITIES = (9, 10)  # major: Hopper, Blackwell
HEADS = (64, 96, 128)
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "domainlm" / "fa4"


def fa4_takes(device: torch.device, head_size: int) -> bool:
    """Whether FlashAttention 4 is installed and has kernels for heads of this size on this device."""
    names = ("flash_attn", "flash_attn.cute")  # older ones have the first, too
    is_installed = all(importlib.util.find_spec(name) is not None for name in names)
    return is_installed and head_size in HEADS and torch.cuda.get_device_capability(device)[0] in CAPABILITIES


@torch.library.custom_op("domainlm::fa4_attention", mutates_args=(), device_types="cuda")
def fa4_attention(
    query: Tensor, key: Tensor, value: Tensor, bounds: Tensor, longest: int, scale: float, left: int
) -> tuple[Tensor, Tensor]:
    """Causal attention within each document; no token sees more than `left` before it, if that is not negative.

    Query [N, H, D], key and value [N, K, D], bounds int32 [E + 1], no document longer than `longest`. Returns
    [N, H, D], and the logarithms of the softmax's denominators [H, N], which the backward pass needs.
    """
    tensors = [tensor.contiguous() for tensor in (query, key, value)]
    more = {"max_seqlen_q": longest, "max_seqlen_k": longest, "return_lse": True}
    out, log_sums, *_ = _kernels()._flash_attn_fwd(*tensors, **_options(bounds, scale, left), **more)
    return out, log_sums


@fa4_attention.register_fake
def _shapes(
    query: Tensor, key: Tensor, value: Tensor, bounds: Tensor, longest: int, scale: float, left: int
) -> tuple[Tensor, Tensor]:
    log_sums = query.new_empty((query.shape[1], query.shape[0]), dtype=torch.float32)
    return torch.empty_like(query, memory_format=torch.contiguous_format), log_sums


@torch.library.custom_op("domainlm::fa4_attention_backward", mutates_args=(), device_types="cuda")
def _backward(
    gradient: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    out: Tensor,
    log_sums: Tensor,
    bounds: Tensor,
    longest: int,
    scale: float,
    left: int,
) -> tuple[Tensor, Tensor, Tensor]:
    tensors = [tensor.contiguous() for tensor in (query, key, value, out, gradient, log_sums)]
    more = {"max_seqlen_q": longest, "max_seqlen_k": longest}
    more["deterministic"] = torch.are_deterministic_algorithms_enabled()
    for_query, for_key, for_value, *_ = _kernels()._flash_attn_bwd(*tensors, **_options(bounds, scale, left), **more)
    return for_query, for_key, for_value


@_backward.register_fake
def _backward_shapes(
    gradient: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    out: Tensor,
    log_sums: Tensor,
    bounds: Tensor,
    longest: int,
    scale: float,
    left: int,
) -> tuple[Tensor, Tensor, Tensor]:
    query, key, value = (torch.empty_like(t, memory_format=torch.contiguous_format) for t in (query, key, value))
    return query, key, value


def _remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, ctx.longest, ctx.scale, ctx.left = inputs
    ctx.save_for_backward(*tensors, *output)


def _differentiate(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    query, key, value, bounds, out, log_sums = ctx.saved_tensors
    options = (bounds, ctx.longest, ctx.scale, ctx.left)
    return *_backward(gradient, query, key, value, out, log_sums, *options), None, None, None, None


fa4_attention.register_autograd(_differentiate, setup_context=_remember)


@functools.cache
def _kernels() -> ModuleType:
    """The package, which compiles each kernel when it is first called: 20 s that a restart does not pay again."""
    os.environ.setdefault("FLASH_ATTENTION_CUTE_DSL_CACHE_ENABLED", "1")
    os.environ.setdefault("FLASH_ATTENTION_CUTE_DSL_CACHE_DIR", str(CACHE))  # by default in /tmp, where anyone writes
    return importlib.import_module("flash_attn.cute.interface")


def _options(bounds: Tensor, scale: float, left: int) -> dict[str, Any]:
    """What forward and backward are told alike: a window is causal by its right side."""
    options: dict[str, Any] = {"cu_seqlens_q": bounds, "cu_seqlens_k": bounds, "softmax_scale": scale}
    return options | ({"causal": True} if left < 0 else {"window_size_left": left, "window_size_right": 0})
