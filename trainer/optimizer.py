"""The optimizer over this rank's shards: fused AdamW, or Muon for hidden matrices beside it; gradient norm, clipping.

It works on the local tensors behind the sharded parameters: the same update as on the whole ones, without the cost of
dispatching each operation through DTensor. Norms, biases and embeddings have no weight decay.
"""

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from .config import OptimizerConfig
from .model import LanguageModel
from .muon import ShardedMuon


class ShardedOptimizer:
    """The optimizer of one rank. `shards` are the parameters by name as plain tensors that share their memory."""

    def __init__(self, model: LanguageModel, config: OptimizerConfig) -> None:
        self.config = config
        self.parameters = dict(model.causal.named_parameters())
        self.shards = {name: nn.Parameter(local(p.detach())) for name, p in self.parameters.items()}
        hidden = _hidden_matrices(model) if config.name == "muon" else set()
        matrices = {name: p for name, p in self.parameters.items() if name in hidden}
        self.muon = ShardedMuon(matrices, self.shards, momentum=config.muon_momentum) if matrices else None
        self.adamw_shards = {name: p for name, p in self.shards.items() if name not in matrices}
        bare = {name for name in self.adamw_shards if not _decays(model, name)}
        decayed = [p for name, p in self.adamw_shards.items() if name not in bare]
        groups = [
            {"params": decayed, "weight_decay": config.weight_decay},
            {"params": [self.shards[name] for name in self.adamw_shards if name in bare], "weight_decay": 0.0},
        ]
        self.adamw = torch.optim.AdamW(groups, lr=0.0, betas=(config.beta1, config.beta2), eps=config.eps, fused=True)

    def squared_norm(self) -> Tensor:
        """Sum of this rank's squared gradients, in fp64: its total does not depend on the number of ranks."""
        norms = torch._foreach_norm(self._gradients(), dtype=torch.float64)
        return torch.stack(list(norms)).square().sum()

    def step(self, *, lr: float, grad_norm: float) -> None:
        """Clip to `grad_clip` given the norm over all ranks, update, and drop the gradients."""
        gradients = self._gradients()
        if grad_norm > self.config.grad_clip:
            torch._foreach_mul_(gradients, self.config.grad_clip / grad_norm)
        by_name = dict(zip(self.shards, gradients, strict=True))
        for name, shard in self.adamw_shards.items():
            shard.grad = by_name[name]
        for group in self.adamw.param_groups:
            group["lr"] = lr
        self.adamw.step()
        if self.muon is not None:
            self.muon.step(by_name, lr=lr, weight_decay=self.config.weight_decay)
        self.drop_gradients()

    def drop_gradients(self) -> None:
        """Forget the gradients; parameters and moments stay as they are."""
        for parameter, shard in zip(self.parameters.values(), self.shards.values(), strict=True):
            parameter.grad = shard.grad = None

    def moments(self) -> dict[str, dict[str, Tensor]]:
        """This rank's part of the moments by kind and parameter, made if needed.

        AdamW has `exp_avg` and `exp_avg_sq`, Muon `momentum` alone.
        """
        found: dict[str, dict[str, Tensor]] = {"exp_avg": {}, "exp_avg_sq": {}}
        for name, shard in self.adamw_shards.items():
            state = self.adamw.state[shard]
            if not state:
                state["step"] = torch.zeros((), dtype=torch.float32, device=shard.device)
                state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(shard), torch.zeros_like(shard)
            for kind, moments in found.items():
                moments[name] = state[kind].detach()
        return found if self.muon is None else {**found, "momentum": self.muon.moments()}

    @property
    def num_updates(self) -> int:
        """Updates so far; a skipped step is none."""
        states = [self.adamw.state[shard] for shard in self.adamw_shards.values()]
        return int(states[0]["step"]) if states[0] else 0

    @num_updates.setter
    def num_updates(self, value: int) -> None:
        self.moments()
        for shard in self.adamw_shards.values():
            self.adamw.state[shard]["step"].fill_(value)

    def forget(self) -> None:
        """Moments and number of updates as before the first step."""
        for moments in self.moments().values():
            for moment in moments.values():
                moment.zero_()
        self.num_updates = 0

    def _gradients(self) -> list[Tensor]:
        missing = [name for name, p in self.parameters.items() if p.grad is None]
        if missing:
            raise RuntimeError(f"no gradient reached {', '.join(missing[:3])}; the model does not use this parameter.")
        return [local(p.grad) for p in self.parameters.values() if p.grad is not None]


def local(tensor: Tensor) -> Tensor:
    """This rank's part of a sharded tensor, sharing its memory."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _hidden_matrices(model: LanguageModel) -> set[str]:
    """Matrices of the layers: those between hidden states, neither embedding nor head."""
    inside = {id(parameter) for parameter in model.layers.parameters() if parameter.ndim == 2}
    return {name for name, parameter in model.causal.named_parameters() if id(parameter) in inside}


def _decays(model: LanguageModel, name: str) -> bool:
    """Matrices decay, but not an embedding: a rare token's row would shrink between its gradients."""
    module = model.causal.get_submodule(name.rpartition(".")[0])
    return model.causal.get_parameter(name).ndim > 1 and not isinstance(module, nn.Embedding)
