"""The ranks of a run: who they are, what they add up, how they end.

NCCL on CUDA, gloo on CPU; without torchrun there is one rank. The mesh has one dimension, "shard", or two, "replica"
and "shard": several groups of ranks then hold all parameters, each group once.
"""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NoReturn

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.rendezvous import rendezvous

# A rank that hangs is noticed after this long; loading the largest model takes less.
COLLECTIVE_TIMEOUT = timedelta(minutes=5)


@dataclass(frozen=True)
class Ranks:
    """This process among all of the run."""

    rank: int
    num_ranks: int
    device: torch.device
    mesh: DeviceMesh

    @property
    def is_first(self) -> bool:
        """Whether this rank writes what is written once."""
        return self.rank == 0

    @property
    def replica(self) -> int:
        """Which of the groups that each hold all parameters this rank is in."""
        return 0 if self.mesh.ndim == 1 else self.mesh.get_local_rank("replica")

    def sum(self, values: list[float], on_device: Sequence[Tensor] = ()) -> list[float]:
        """The values, and the scalars on this rank's device, added up over the ranks, in fp64.

        The device is waited for once, here.
        """
        scalars = torch.stack([scalar.double() for scalar in on_device]) if on_device else None
        if self.num_ranks == 1:
            return [*values, *([] if scalars is None else scalars.tolist())]
        known = torch.tensor(values, dtype=torch.float64, pin_memory=self.device.type == "cuda")
        total = known.to(self.device, non_blocking=True)
        total = total if scalars is None else torch.cat([total, scalars])
        dist.all_reduce(total)
        return total.tolist()

    def gather(self, value: Any) -> list[Any]:
        """The value of every rank, on every rank."""
        values: list[Any] = [None] * self.num_ranks
        dist.all_gather_object(values, value)
        return values

    def barrier(self) -> None:
        """Wait for all ranks."""
        if self.num_ranks > 1:
            dist.barrier()


def join(device: str, *, shard_ranks: int | None = None) -> Ranks:
    """Join the process group that torchrun describes in the environment; without one, be the only rank.

    Raises:
        ValueError: there is no such device, or the ranks do not divide into groups of `shard_ranks`.
    """
    kind = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    if kind == "cuda" and not torch.cuda.is_available():
        raise ValueError("place.device is 'cuda', but torch sees no CUDA device here; take 'auto' or 'cpu'.")
    chosen = torch.device(kind, int(os.environ.get("LOCAL_RANK", "0"))) if kind == "cuda" else torch.device("cpu")
    if kind == "cuda":
        torch.cuda.set_device(chosen)
    backend = "cpu:gloo,cuda:nccl" if kind == "cuda" else "gloo"
    if "RANK" in os.environ:
        store, rank, num_ranks = next(rendezvous("env://", timeout=COLLECTIVE_TIMEOUT))
        store = dist.PrefixStore(_attempt(), store)  # type: ignore[attr-defined]
        dist.init_process_group(backend, store=store, rank=rank, world_size=num_ranks, timeout=COLLECTIVE_TIMEOUT)
    else:
        store = dist.HashStore()  # type: ignore[attr-defined]
        dist.init_process_group(backend, store=store, rank=0, world_size=1)
    return Ranks(dist.get_rank(), dist.get_world_size(), chosen, _mesh(kind, shard_ranks))


def _mesh(kind: str, shard_ranks: int | None) -> DeviceMesh:
    num_ranks = dist.get_world_size()
    size = _ranks_of_a_node() if shard_ranks is None else shard_ranks
    if num_ranks % size:
        raise ValueError(
            f"{num_ranks} ranks do not divide into groups of place.shard_ranks = {size}; take a divisor of {num_ranks}."
        )
    if size == num_ranks:
        return init_device_mesh(kind, (num_ranks,), mesh_dim_names=("shard",))
    return init_device_mesh(kind, (num_ranks // size, size), mesh_dim_names=("replica", "shard"))


def _ranks_of_a_node() -> int:
    """Ranks of each node if there are several nodes of equally many, else all: one rank alone may not hold a model."""
    num_ranks = dist.get_world_size()
    sizes: list[int] = [0] * num_ranks
    dist.all_gather_object(sizes, int(os.environ.get("LOCAL_WORLD_SIZE", num_ranks)))
    return sizes[0] if len(set(sizes)) == 1 and sizes[0] > 1 else num_ranks


def _attempt() -> str:
    """Keeps the ranks of a restart from connecting to the addresses of the dead ones, which are still in the store.

    torchrun shares its store with the ranks and tells attempts apart no more (pytorch #135712). Each node counts its
    own restarts (#108158), so on several nodes set TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 for torchrun instead.
    """
    if os.environ["WORLD_SIZE"] != os.environ.get("LOCAL_WORLD_SIZE"):
        return "attempt"
    return f"attempt-{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"


def end(code: int) -> NoReturn:
    """End this process, without its destructors: gloo aborts in them in 1 to 3 of 10 ordinary exits."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
