"""Document attention on a CPU: one causal SDPA a document, where a dense mask would cost T x T for each sequence.

It is one operation to torch.compile, which would else make a graph for each set of bounds.

Shape legend: N tokens of a microbatch, L tokens of a document, H heads, D head size.
"""

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor


@torch.library.custom_op("domainlm::document_attention", mutates_args=(), device_types="cpu")
def attend_one_by_one(
    query: Tensor, key: Tensor, value: Tensor, bounds: Tensor, scale: float, left: int
) -> tuple[Tensor, Tensor]:
    """Causal attention within each document; no token sees more than `left` before it, if that is not negative.

    Query, key and value are [N, H, D] with as many heads each. Returns the like, and the logarithms of the softmax's
    denominators [N, H], which the backward pass needs.
    """
    out = torch.empty_like(query, memory_format=torch.contiguous_format)
    log_sums = query.new_empty(query.shape[:2], dtype=torch.float32)
    for rows in _documents(bounds):
        parts = [_heads_first(tensor[rows]) for tensor in (query, key, value)]
        options = _options(parts[0], left, scale)
        one, log_sum = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(*parts, **options)
        out[rows], log_sums[rows] = one[0].transpose(0, 1), log_sum[0].transpose(0, 1)
    return out, log_sums


@attend_one_by_one.register_fake
def _shapes(
    query: Tensor, key: Tensor, value: Tensor, bounds: Tensor, scale: float, left: int
) -> tuple[Tensor, Tensor]:
    log_sums = query.new_empty(query.shape[:2], dtype=torch.float32)
    return torch.empty_like(query, memory_format=torch.contiguous_format), log_sums


@torch.library.custom_op("domainlm::document_attention_backward", mutates_args=(), device_types="cpu")
def _backward(
    gradient: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    out: Tensor,
    log_sums: Tensor,
    bounds: Tensor,
    scale: float,
    left: int,
) -> tuple[Tensor, Tensor, Tensor]:
    gradients = [torch.empty_like(t, memory_format=torch.contiguous_format) for t in (query, key, value)]
    for rows in _documents(bounds):
        parts = [_heads_first(tensor[rows]) for tensor in (gradient, query, key, value, out)]
        options = _options(parts[1], left, scale)
        log_sum = log_sums[rows].transpose(0, 1)[None]
        ones = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(*parts, log_sum, **options)
        for whole, one in zip(gradients, ones, strict=True):
            whole[rows] = one[0].transpose(0, 1)
    return gradients[0], gradients[1], gradients[2]


@_backward.register_fake
def _backward_shapes(
    gradient: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    out: Tensor,
    log_sums: Tensor,
    bounds: Tensor,
    scale: float,
    left: int,
) -> tuple[Tensor, Tensor, Tensor]:
    query, key, value = (torch.empty_like(t, memory_format=torch.contiguous_format) for t in (query, key, value))
    return query, key, value


def _remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, ctx.scale, ctx.left = inputs
    ctx.save_for_backward(*tensors, *output)


def _differentiate(context: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    query, key, value, bounds, out, log_sums = context.saved_tensors
    gradients = _backward(gradient, query, key, value, out, log_sums, bounds, context.scale, context.left)
    return *gradients, None, None, None


attend_one_by_one.register_autograd(_differentiate, setup_context=_remember)


def _documents(bounds: Tensor) -> list[slice]:
    ends = bounds.tolist()
    return [slice(begin, end) for begin, end in pairwise(ends)]


def _heads_first(document: Tensor) -> Tensor:
    """[L, H, D] to [1, H, L, D]."""
    return document.transpose(0, 1)[None]


def _options(query: Tensor, left: int, scale: float) -> dict[str, Any]:
    """Causal, by a flag; only a document that is longer than the window needs a mask of its own."""
    length = query.shape[2]
    if left < 0 or length <= left + 1:
        return {"dropout_p": 0.0, "is_causal": True, "scale": scale}
    position = torch.arange(length)
    before = position[:, None] - position[None, :]
    hidden = (before < 0) | (before > left)
    mask = torch.zeros(length, length, dtype=query.dtype).masked_fill_(hidden, float("-inf"))
    return {"dropout_p": 0.0, "is_causal": False, "attn_mask": mask, "scale": scale}
