"""Sharding: FSDP2, a group a layer and one for the rest, so that tied embeddings share theirs.

Parameters, moments and gradient sums are fp32; forward and backward run in bf16 if the precision says so. On a mesh of
two dimensions parameters are sharded within a row of it and replicated over the rows (HSDP): between nodes then go only
gradients, once a step.
"""

from itertools import pairwise
from typing import cast

import torch
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

from .model import LanguageModel

# Models up to this many parameters keep them whole from the first forward of a step to its last backward, at 2 bytes
# each: they are cast and gathered once a step instead of twice a microbatch.
KEEP_WHOLE = 2 * 10**9


def shard(model: LanguageModel, mesh: DeviceMesh, *, bf16: bool) -> None:
    """Wrap the layers and the root in place."""
    policy = MixedPrecisionPolicy(
        param_dtype=torch.bfloat16 if bf16 else None, reduce_dtype=torch.float32 if bf16 else None
    )
    model.keeps_whole = mesh.size(-1) == 1 or sum(p.numel() for p in model.parameters()) <= KEEP_WHOLE
    for layer in model.layers:
        fully_shard(layer, mesh=mesh, mp_policy=policy, reshard_after_forward=not model.keeps_whole)
    fully_shard(model, mesh=mesh, mp_policy=policy, reshard_after_forward=False)
    for one, following in pairwise(cast("list[FSDPModule]", list(model.layers))):
        one.set_modules_to_forward_prefetch([following])
        following.set_modules_to_backward_prefetch([one])


def accumulate(model: LanguageModel, *, is_last: bool) -> None:
    """Say before a backward whether it is the step's last.

    Models that are kept whole sum up whole gradients and send them once a step. Others could not hold them (4 bytes a
    parameter): they are scattered after every backward, and only what goes between replicas is sent once a step.
    """
    module = cast(FSDPModule, model)
    if model.keeps_whole:
        module.set_requires_gradient_sync(is_last)
        module.set_reshard_after_backward(is_last)
    else:
        module.set_requires_all_reduce(is_last)


def reshard(model: LanguageModel) -> None:
    """Let go of the whole parameters that a forward without a backward has left in memory."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()
