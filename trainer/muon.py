"""Muon: hidden matrices move by their momentum, orthogonalised (Jordan et al. 2024), at AdamW's learning rate.

    momentum <- lerp(momentum, gradient, 1 - mu), update <- Nesterov's look ahead      on each rank's rows
    O <- five Newton-Schulz steps on the update                                        on whole matrices
    matrix <- matrix * (1 - lr * decay) - lr * 0.2 * sqrt(max(rows, columns)) * O      on each rank's rows

The factor gives an update the root mean square that AdamW's have, so that rate and weight decay can be kept (Liu et al.
2025, section 2.2). `torch.optim.Muon` does the middle and the factor; it knows whole matrices only.

Of as many matrices of a shape as there are ranks, each rank makes one whole: an all-to-all brings it the rows of all
ranks, another takes its result back. Both carry bf16, in which Newton-Schulz is computed anyhow. So of N ranks each
sends 4 bytes for every N-th element of the matrices, where FSDP moves 8 for every element (gathered twice in bf16,
reduced once in fp32), and does the N-th part of the work. Ranks with the same rows (HSDP) do the same work.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, Shard


@dataclass(frozen=True)
class Matrix:
    """A matrix in rows over ranks: the shape of the whole, this rank's rows, and how many rows each rank has."""

    name: str
    shape: tuple[int, int]
    rows: Tensor
    momentum: Tensor
    rank_rows: tuple[int, ...]
    group: dist.ProcessGroup | None


class ShardedMuon:
    """Muon of one rank, over matrices whose rows it holds a part of."""

    def __init__(self, parameters: Mapping[str, Tensor], shards: Mapping[str, Tensor], *, momentum: float) -> None:
        self.mu = momentum
        self.matrices = [_matrix(name, parameter, shards[name]) for name, parameter in parameters.items()]

    def moments(self) -> dict[str, Tensor]:
        """This rank's rows of the momentum, by parameter."""
        return {matrix.name: matrix.momentum for matrix in self.matrices}

    @torch.no_grad()
    def step(self, gradients: Mapping[str, Tensor], *, lr: float, weight_decay: float) -> None:
        """Update the rows of all matrices, given the rows of their gradients."""
        for matrices in self._rounds():
            updates = [self._look_ahead(matrix, gradients[matrix.name]).bfloat16() for matrix in matrices]
            for matrix, change in zip(matrices, _orthogonalised(matrices, updates, lr), strict=True):
                matrix.rows.mul_(1 - lr * weight_decay).add_(change)

    def _look_ahead(self, matrix: Matrix, gradient: Tensor) -> Tensor:
        matrix.momentum.lerp_(gradient, 1 - self.mu)
        return gradient.lerp(matrix.momentum, self.mu)

    def _rounds(self) -> Iterator[list[Matrix]]:
        """As many matrices of one shape at a time as there are ranks that share them."""
        alike: dict[object, list[Matrix]] = {}
        for matrix in self.matrices:
            alike.setdefault((matrix.shape, matrix.rank_rows, matrix.group), []).append(matrix)
        for matrices in alike.values():
            size = len(matrices[0].rank_rows)
            for first in range(0, len(matrices), size):
                yield matrices[first : first + size]


def _matrix(name: str, parameter: Tensor, rows: Tensor) -> Matrix:
    """How a parameter lies on the ranks: whole, or cut along its rows over one dimension of a mesh."""
    whole = (parameter.shape[0], parameter.shape[1])
    rank_rows: tuple[int, ...] = (whole[0],)
    group = None
    if isinstance(parameter, DTensor):
        cut = [dim for dim, placement in enumerate(parameter.placements) if placement == Shard(0)]
        if len(cut) != 1 or any(placement.is_partial() for placement in parameter.placements):
            raise ValueError(
                f"{name} is placed as {parameter.placements}, but Muon knows rows over one dimension of the mesh only; "
                f"take optimizer.name adamw."
            )
        num_ranks = parameter.device_mesh.size(cut[0])
        chunk = -(-whole[0] // num_ranks)  # as FSDP cuts: equal chunks, the last ones shorter or empty
        rank_rows = tuple(max(0, min(chunk, whole[0] - rank * chunk)) for rank in range(num_ranks))
        group = parameter.device_mesh.get_group(cut[0]) if num_ranks > 1 else None
    return Matrix(name, whole, rows, torch.zeros_like(rows), rank_rows, group)


def _orthogonalised(matrices: list[Matrix], updates: list[Tensor], lr: float) -> list[Tensor]:
    """What is added to this rank's rows of each matrix."""
    first = matrices[0]
    if first.group is None:
        return [_change(updates[0], lr)]
    mine, columns = dist.get_rank(first.group), first.shape[1]
    is_owner = mine < len(matrices)
    sizes = [rows * columns for rows in first.rank_rows]
    to_owners = [sizes[mine] if rank < len(matrices) else 0 for rank in range(len(sizes))]
    from_all = sizes if is_owner else [0] * len(sizes)
    whole = _exchange(torch.cat([update.flatten() for update in updates]), to_owners, from_all, first.group)
    change = _change(whole.view(first.shape), lr).flatten() if is_owner else whole
    rows = _exchange(change, from_all, to_owners, first.group)
    return list(rows.view(len(matrices), first.rank_rows[mine], columns).unbind())


def _exchange(values: Tensor, sent: list[int], received: list[int], group: dist.ProcessGroup) -> Tensor:
    """All-to-all: `sent[r]` of the values go to rank r, `received[r]` come from it."""
    found = values.new_empty(sum(received))
    dist.all_to_all_single(found, values, received, sent, group=group)
    return found


def _change(update: Tensor, lr: float) -> Tensor:
    """What is added to a whole matrix: torch's Muon from zero, without the momentum and the decay done here."""
    matrix = nn.Parameter(torch.zeros_like(update))
    matrix.grad = update
    muon = torch.optim.Muon(
        [matrix], lr=lr, weight_decay=0.0, momentum=0.0, nesterov=False, adjust_lr_fn="match_rms_adamw"
    )
    muon.step()  # type: ignore[no-untyped-call]
    return matrix.detach()
