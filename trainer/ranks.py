"""The ranks of a run: who they are, what they add up, how they end.

NCCL on CUDA, gloo on CPU; without torchrun there is one rank.
"""

import os
import sys
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NoReturn

import torch
import torch.distributed as dist
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

    def sum(self, values: list[float]) -> list[float]:
        """The values added up over the ranks, in fp64."""
        if self.num_ranks == 1:
            return values
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
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


def join(device: str) -> Ranks:
    """Join the process group that torchrun describes in the environment; without one, be the only rank."""
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
    mesh = init_device_mesh(kind, (dist.get_world_size(),), mesh_dim_names=("shard",))
    return Ranks(dist.get_rank(), dist.get_world_size(), chosen, mesh)


def _attempt() -> str:
    """Keeps the ranks of a restart from connecting to the addresses of the dead ones, which are still in the store.

    torchrun shares its store with the ranks and tells attempts apart no more (pytorch #135712). Each node counts its
    own restarts (#108158), so on several nodes set TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 for torchrun instead.
    """
    if os.environ["WORLD_SIZE"] != os.environ.get("LOCAL_WORLD_SIZE"):
        return "attempt"
    return f"attempt-{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"


def leave(ranks: Ranks, code: int) -> NoReturn:
    """End this process with `code` when all ranks are here.

    gloo aborts in its destructors in 1 to 3 of 10 ordinary exits, which torchrun takes for a failure.
    """
    ranks.barrier()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
