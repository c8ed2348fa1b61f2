"""Run by test_muon.py on four ranks: the rows that each rank ends with are those of whole matrices, bit for bit."""

import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor

from domainlm.trainer.launch import Launch
from domainlm.trainer.launcher import run_ranks
from domainlm.trainer.muon import ShardedMuon
from domainlm.trainer.ranks import join

SHAPES = [(8, 6), (7, 5), (8, 6), (3, 12), (8, 6), (7, 5), (8, 6), (8, 6)]  # 7 rows, 3 rows: uneven, and empty


def moved(placed: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The matrices after three steps with made-up gradients."""
    shards = {name: p.to_local() if isinstance(p, DTensor) else p for name, p in placed.items()}
    muon = ShardedMuon(placed, shards, momentum=0.95)
    generator = torch.Generator().manual_seed(1)
    for _ in range(3):
        gradients = {name: torch.randn(p.shape, generator=generator) for name, p in placed.items()}
        for name, p in placed.items():
            if isinstance(p, DTensor):
                cut = distribute_tensor(gradients[name], p.device_mesh, p.placements, src_data_rank=None)
                gradients[name] = cut.to_local()
        muon.step(gradients, lr=0.1, weight_decay=0.1)
    return {name: p.full_tensor() if isinstance(p, DTensor) else p for name, p in placed.items()}


def compare() -> int:
    ranks = join("cpu")
    generator = torch.Generator().manual_seed(0)
    whole = {str(number): torch.randn(shape, generator=generator) for number, shape in enumerate(SHAPES)}
    expected = moved({name: matrix.clone() for name, matrix in whole.items()})
    flat = (ranks.mesh, [Shard(0)])
    hybrid = (init_device_mesh("cpu", (2, 2), mesh_dim_names=("replicate", "shard")), [Replicate(), Shard(0)])
    for mesh, placements in (flat, hybrid):
        cut = {n: distribute_tensor(m.clone(), mesh, placements, src_data_rank=None) for n, m in whole.items()}
        for name, matrix in moved(cut).items():
            assert torch.equal(matrix, expected[name]), f"{placements} {name}"
    ranks.barrier()
    return 0


if __name__ == "__main__":
    run_ranks(Launch(4), compare)
