"""Cross-entropy of a head without its logits: computed in chunks of tokens, gradients made on the way.

Shape legend: N tokens, C tokens of a chunk, D model width, V vocabulary. Peak memory is one chunk of logits, not N x V.
"""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

# Logits of one chunk. On a CPU 32 MB in fp32, which its caches bear; on a GPU enough rows for its matrix units, and for
# the sum of the head's gradient, which is read and written once a chunk, to be cheap: 0.5 GB in bf16.
CPU_ELEMENTS = 2**23
CUDA_ELEMENTS = 2**28

Scores = Callable[[Tensor, Tensor, float], tuple[Tensor, Tensor, Tensor]]


def summed_cross_entropy(
    hidden: Tensor, weight: Tensor, targets: Tensor, *, z_loss: float = 0.0, compiled: bool = False
) -> Tensor:
    """Sum of -log softmax(hidden @ weight.T)[target] over targets >= 0, in fp32.

    Args:
        hidden: [N, D].
        weight: [V, D], the head.
        targets: [N]; negative ones are masked.
        z_loss: adds z_loss * log(sum exp logits)^2 per target.
        compiled: fuse what is done to a chunk's logits, which are then read twice and written once.
    """
    rows = max(64, (CUDA_ELEMENTS if hidden.is_cuda else CPU_ELEMENTS) // weight.shape[0])
    scores = _compiled_scores() if compiled else _scores
    loss: Tensor = _SummedCrossEntropy.apply(hidden, weight, targets, z_loss, rows, scores)  # type: ignore[no-untyped-call]
    return loss


class _SummedCrossEntropy(torch.autograd.Function):
    """The gradient of a sum needs no incoming value but a scale, so the forward makes it chunk by chunk."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, z_loss: float, rows: int, scores: Scores
    ) -> Tensor:
        loss = torch.zeros((), dtype=torch.float32, device=hidden.device)
        needs_grad = any(ctx.needs_input_grad[:2])
        grad_hidden = torch.empty_like(hidden) if needs_grad else None
        grad_weight = None
        for start in range(0, len(hidden), rows):
            chunk = slice(start, start + rows)
            part, grad_logits, grad_target = scores(hidden[chunk] @ weight.T, targets[chunk], z_loss)
            loss += part
            if grad_hidden is not None:
                grad_logits.scatter_(1, targets[chunk].clamp_min(0)[:, None], grad_target)
                torch.mm(grad_logits, weight, out=grad_hidden[chunk])
                product = (grad_logits.T @ hidden[chunk]).float()
                grad_weight = product if grad_weight is None else grad_weight.add_(product)
        if grad_weight is not None:
            ctx.save_for_backward(grad_hidden, grad_weight.to(weight.dtype))
        return loss

    @staticmethod
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor | None, ...]:
        grad_hidden, grad_weight = ctx.saved_tensors
        gradients = (grad_hidden * scale.to(grad_hidden.dtype), grad_weight * scale.to(grad_weight.dtype))
        return *gradients, None, None, None, None


def _scores(logits: Tensor, targets: Tensor, z_loss: float) -> tuple[Tensor, Tensor, Tensor]:
    """Loss of a chunk; its gradient for the logits [C, V] as if there were no targets, and for the targets' [C, 1].

    In two parts, because the second is put into the first at one place a row: the first is then made in one go.
    """
    # On a CPU four times as fast as logsumexp and a difference.
    log_probabilities = logits.log_softmax(-1, dtype=torch.float32)
    kept = (targets >= 0)[:, None]
    index = targets.clamp_min(0)[:, None]
    log_probability = log_probabilities.gather(1, index)
    log_sum = logits.gather(1, index).float() - log_probability
    loss = torch.where(kept, z_loss * log_sum.square() - log_probability, 0.0).sum()
    factor = torch.where(kept, 1 + 2 * z_loss * log_sum, 0.0)
    grad_target = log_probability.exp() * factor - kept.float()
    # In place: on a CPU, memory for a chunk is dear to get.
    grad_logits = log_probabilities.exp_().mul_(factor).to(logits.dtype)
    return loss, grad_logits, grad_target.to(logits.dtype)


@functools.cache
def _compiled_scores() -> Scores:
    scores: Scores = torch.compile(_scores, dynamic=False)
    return scores
