"""The tensors of a checkpoint: which rows a rank holds, how they get into its file, and out of any number of files."""

import json
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.distributed.tensor import DTensor, Replicate, Shard

from .files import fsync
from .optimizer import ShardedOptimizer, local


def staged(optimizer: ShardedOptimizer) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The rows that this rank writes of all tensors, copied to memory, and which rows of which shape they are."""
    tensors, where = {}, {}
    for name, parameter, tensor in _tensors(optimizer):
        (held, _), (first, last) = rows(parameter), written_rows(parameter)
        tensors[name] = tensor.detach()[first - held : last - held].to("cpu", copy=True).contiguous()
        where[name] = {"first_row": first, "shape": list(parameter.shape)}
    return tensors, {"rows": json.dumps(where, sort_keys=True)}  # one entry: safetensors writes several in any order


def checkpoint_bytes(optimizer: ShardedOptimizer) -> int:
    """Bytes of all ranks' tensors together, which are fp32."""
    return 4 * sum(parameter.numel() for _, parameter, _ in _tensors(optimizer))


def save(tensors: dict[str, Tensor], file: Path, metadata: dict[str, str]) -> None:
    """Write a rank's file and flush it.

    Raises:
        OSError: the disk did not take it.
    """
    try:
        save_file(tensors, file, metadata=metadata)
    except SafetensorError as error:
        if "I/O error" not in str(error):
            raise
        raise OSError(f"{file.name} could not be written: {error}") from error
    fsync(file)


def _tensors(optimizer: ShardedOptimizer) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Name in the file, parameter it belongs to, this rank's part."""
    for name, parameter in optimizer.parameters.items():
        yield f"parameter/{name}", parameter, local(parameter.detach())
    for kind, moments in optimizer.moments().items():
        for name, moment in moments.items():
            yield f"{kind}/{name}", optimizer.parameters[name], moment


def rows(parameter: Tensor) -> tuple[int, int]:
    """First row and row after the last of this rank's part: FSDP shards the first dimension in equal chunks."""
    num = parameter.shape[0]
    if not isinstance(parameter, DTensor):
        return 0, num
    if list(parameter.placements) not in ([Shard(0)], [Replicate(), Shard(0)]):
        raise ValueError(f"a parameter is placed as {parameter.placements}, but checkpoints know Shard(0) only.")
    mesh = parameter.device_mesh
    return _chunk(0, num, mesh.get_local_rank(mesh.ndim - 1), mesh.size(mesh.ndim - 1))


def written_rows(parameter: Tensor) -> tuple[int, int]:
    """Of this rank's rows those that it writes: replicas hold the same, and share the work."""
    first, last = rows(parameter)
    if not isinstance(parameter, DTensor) or parameter.device_mesh.ndim == 1:
        return first, last
    return _chunk(first, last, parameter.device_mesh.get_local_rank(0), parameter.device_mesh.size(0))


def _chunk(first: int, last: int, number: int, count: int) -> tuple[int, int]:
    """The chunk with this number, of `count` equal ones of which the last may be short or empty."""
    size = -(-(last - first) // count)
    begin = min(last, first + number * size)
    return begin, min(last, begin + size)


def load(path: Path, optimizer: ShardedOptimizer) -> None:
    """Fill this rank's rows from whichever ranks' files hold them."""
    files = [safe_open(file, framework="pt") for file in sorted(path.glob("rank-*.safetensors"))]
    first_rows = [_first_rows(file) for file in files]
    with torch.no_grad():
        for name, parameter, tensor in _tensors(optimizer):
            begin, end = rows(parameter)
            for file, firsts in zip(files, first_rows, strict=True):
                stored = file.get_slice(name)  # type: ignore[no-untyped-call]
                first, last = firsts[name], firsts[name] + stored.get_shape()[0]
                low, high = max(begin, first), min(end, last)
                if low < high:
                    tensor[low - begin : high - begin].copy_(stored[low - first : high - first])


def _first_rows(file: safe_open) -> dict[str, int]:
    """By tensor, which row of the whole is the file's first."""
    metadata: dict[str, str] = file.metadata()  # type: ignore[no-untyped-call]
    return {name: where["first_row"] for name, where in json.loads(metadata["rows"]).items()}
