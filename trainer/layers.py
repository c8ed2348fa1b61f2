"""What is done to each transformer layer before it is sharded: recompute its activations, then compile it.

The order matters: the compiler must see the recomputation to plan it, and FSDP's hooks must stay outside of both. Each
layer is compiled by itself, so that all layers of a kind share one graph, which is compiled in seconds, not minutes.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

from .job import Recompute
from .model import LanguageModel

# What takes long to compute: matrix products and attention. All else (norms, rotations, activations) is read from
# memory about as fast as it is computed again.
KEPT = (
    "aten::mm",
    "aten::addmm",
    "aten::bmm",
    "aten::_scaled_dot_product_flash_attention",
    "aten::_scaled_dot_product_flash_attention_for_cpu",
    "aten::_scaled_dot_product_efficient_attention",
    "aten::_scaled_dot_product_cudnn_attention",
    "torch_attn::_varlen_attn",
    "domainlm::document_attention",
    "domainlm::fa4_attention",
    "flex_attention",
)

# Graphs of the code that all layers share: kinds of layers, times shapes of microbatches (whole, last, one sequence),
# times two for forwards without a backward. Beyond it torch would go on eagerly, and say so only in the log.
RECOMPILE_LIMIT = 32


def recompute_activations(model: LanguageModel, how: Recompute) -> None:
    """Compute activations again in the backward pass: all but each layer's input, or all but what is `KEPT`."""
    if how == "none":
        return
    options: dict[str, Any] = {"use_reentrant": False, "preserve_rng_state": False}
    if how == "selective":
        options["context_fn"] = partial(create_selective_checkpoint_contexts, _policy)
    for layer in model.layers:
        layer.forward = _checkpointed(layer.forward, options)


def compile_layers(model: LanguageModel) -> None:
    """Compile each layer, and the loss of a chunk. Shapes are static but for the number of documents."""
    torch._dynamo.config.recompile_limit = RECOMPILE_LIMIT
    for layer in model.layers:
        layer.forward = torch.compile(layer.forward, dynamic=False)
    model.compiles_loss = True


def _checkpointed(forward: Callable[..., Any], options: dict[str, Any]) -> Callable[..., Any]:
    def checkpointed(*arguments: Any, **named: Any) -> Any:
        return checkpoint(forward, *arguments, **named, **options)

    return checkpointed


def _policy(context: Any, operation: Any, *arguments: Any, **named: Any) -> CheckpointPolicy:
    name = operation.name() if callable(getattr(operation, "name", None)) else str(operation)
    keep = name.partition(".")[0] in KEPT
    return CheckpointPolicy.MUST_SAVE if keep else CheckpointPolicy.PREFER_RECOMPUTE
