"""Sharding: FSDP2 over all ranks, a group a layer and one for the rest, so that tied embeddings share theirs.

Parameters, moments and gradient sums are fp32; forward and backward run in bf16 if the precision says so.
"""

from functools import partial
from typing import cast

import torch
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.utils.checkpoint import checkpoint

from .model import LanguageModel


def shard(model: LanguageModel, mesh: DeviceMesh, *, bf16: bool) -> None:
    """Wrap the layers and the root in place."""
    policy = MixedPrecisionPolicy(
        param_dtype=torch.bfloat16 if bf16 else None, reduce_dtype=torch.float32 if bf16 else None
    )
    for layer in model.layers:
        fully_shard(layer, mesh=mesh, mp_policy=policy)
    fully_shard(model, mesh=mesh, mp_policy=policy)


def recompute_activations(model: LanguageModel) -> None:
    """Keep only each layer's input, and compute the rest again in the backward pass; call before `shard`."""
    for layer in model.layers:
        layer.forward = partial(checkpoint, layer.forward, use_reentrant=False, preserve_rng_state=False)


def accumulate(model: LanguageModel, *, is_last: bool) -> None:
    """Say before a backward whether it is the step's last: gradients go over the network once a step."""
    cast(FSDPModule, model).set_requires_gradient_sync(is_last)


def reshard(model: LanguageModel) -> None:
    """Let go of the whole parameters that a forward without a backward has left in memory."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()
