"""Checkpoints: written beside the training, checked by sha256, readable by any number of ranks.

    checkpoints/
      LATEST                    "step-00000100", replaced atomically after everything below is on disk
      step-00000100/            a leading `damaged-` where a digest was wrong
        rank-00000.safetensors  this rank's rows of parameters and moments; metadata: first row, full shape
        rank-00000.json         size and sha256 of that file
        state.json              step (the one integer that is the position in the data), updates, identity of the run
        manifest.json           sha256 of all files above; its presence means complete

Tensors are safetensors, all else is JSON: nothing read here can run code. (torch.distributed.checkpoint keeps its
metadata and tensors in pickles and checks neither.) A rank stages a copy in memory, a thread writes it, and training
goes on; the ranks tell each other in their one sum a step that they have written, and the first one then completes
the checkpoint. All ranks see one file system.
"""

import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.distributed.tensor import DTensor, Shard

from .optimizer import ShardedAdamW, local
from .ranks import Ranks
from .shards import file_sha256

Json = dict[str, Any]


@dataclass(frozen=True)
class State:
    """What a checkpoint says beside its tensors."""

    step: int
    """Steps done: the next one is number `step`."""
    num_updates: int
    """Updates done: steps without those that were skipped."""
    identity: Json
    """What the run is; another identity is refused."""


class Checkpointer:
    """Writes and reads the checkpoints of one run."""

    def __init__(self, directory: Path, ranks: Ranks, *, keep: int) -> None:
        self.directory = directory
        self.ranks = ranks
        self.keep = keep
        self._step: int | None = None
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    @property
    def in_progress(self) -> bool:
        """Whether a checkpoint has begun and is not complete."""
        return self._step is not None

    @property
    def written(self) -> bool:
        """Whether this rank's part of it is on disk. Raises what the writing thread raised."""
        if self._error is not None:
            raise self._error
        return self._thread is not None and not self._thread.is_alive()

    def begin(self, state: State, optimizer: ShardedAdamW) -> None:
        """Copy this rank's part and start writing it; the first rank must later `complete` it."""
        path = self.directory / _name(state.step)
        if self.ranks.is_first:
            shutil.rmtree(path, ignore_errors=True)  # an incomplete or damaged one of the same step
            path.mkdir(parents=True)
            _write_json(path / "state.json", vars(state))
        self.ranks.barrier()
        tensors, metadata = _staged(optimizer)
        self._step = state.step
        self._thread = threading.Thread(target=self._write, args=(path, tensors, metadata), name="checkpoint")
        self._thread.start()

    def wait(self) -> None:
        """Wait until every rank has written its part."""
        if self._thread is not None:
            self._thread.join()
        _ = self.written
        self.ranks.barrier()

    def complete(self) -> Path:
        """Make the checkpoint that all ranks have written the latest one, and drop the oldest."""
        if self._step is None:
            raise RuntimeError("no checkpoint has begun; call begin first.")
        path, self._step, self._thread = self.directory / _name(self._step), None, None
        if self.ranks.is_first:
            _write_manifest(path, self.ranks.num_ranks)
            _write_atomically(self.directory / "LATEST", path.name)
            kept = self._complete_ones()[: self.keep]
            for old in set(self.directory.glob("step-*")) - set(kept):  # older ones, and those a crash left incomplete
                shutil.rmtree(old)
        return path

    def load_latest(
        self, optimizer: ShardedAdamW, identity: Json, *, on_damaged: Callable[[Path, str], None]
    ) -> State | None:
        """Load the newest checkpoint whose bytes are right into parameters and moments; None if there is none.

        Those found damaged on the way are set aside as `damaged-step-...`.

        Raises:
            ValueError: it belongs to a run with another config, mixture or model.
        """
        for path in self._complete_ones():
            problems = [p for found in self.ranks.gather(self._damage(path)) for p in found]
            if problems:
                on_damaged(path, "; ".join(sorted(problems)))
                if self.ranks.is_first:
                    path.rename(path.with_name(f"damaged-{path.name}"))  # so that it takes no place among those kept
                continue
            state = State(**json.loads((path / "state.json").read_text(encoding="utf-8")))
            _check_identity(path, state.identity, identity)
            _load(path, optimizer)
            optimizer.num_updates = state.num_updates
            return state
        return None

    def _write(self, path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
        try:
            file = path / f"rank-{self.ranks.rank:05d}.safetensors"
            save_file(tensors, file, metadata=metadata)
            _fsync(file)
            _write_json(file.with_suffix(".json"), {"bytes": file.stat().st_size, "sha256": file_sha256(file)})
        except BaseException as error:  # noqa: BLE001 - raised again by `written` in the training thread
            self._error = error

    def _complete_ones(self) -> list[Path]:
        """Newest first. LATEST is for people and scripts; a manifest is what makes a checkpoint complete."""
        return sorted((path.parent for path in self.directory.glob("step-*/manifest.json")), reverse=True)

    def _damage(self, path: Path) -> list[str]:
        """What is wrong with this rank's part of the files; each rank checks every num_ranks-th."""
        files = json.loads((path / "manifest.json").read_text(encoding="utf-8"))["files"]
        mine = sorted(files)[self.ranks.rank :: self.ranks.num_ranks]
        missing = [f"{name} is missing" for name in mine if not (path / name).is_file()]
        present = [name for name in mine if (path / name).is_file()]
        wrong = [f"{name} has another sha256" for name in present if file_sha256(path / name) != files[name]]
        return missing + wrong


def _name(step: int) -> str:
    return f"step-{step:08d}"


def _staged(optimizer: ShardedAdamW) -> tuple[dict[str, Tensor], dict[str, str]]:
    """This rank's rows of all tensors, copied to memory, and which rows of which shape they are."""
    tensors, metadata = {}, {}
    for name, parameter, tensor in _tensors(optimizer):
        first, _ = rows(parameter)
        tensors[name] = tensor.detach().to("cpu", copy=True).contiguous()
        metadata[name] = json.dumps({"first_row": first, "shape": list(parameter.shape)})
    return tensors, metadata


def _tensors(optimizer: ShardedAdamW) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Name in the file, parameter it belongs to, this rank's part."""
    moments = optimizer.moments()
    for name, parameter in optimizer.parameters.items():
        yield f"parameter/{name}", parameter, local(parameter.detach())
        for key in ("exp_avg", "exp_avg_sq"):
            yield f"{key}/{name}", parameter, moments[f"{key}/{name}"]


def rows(parameter: Tensor) -> tuple[int, int]:
    """First row and row after the last of this rank's part: FSDP shards the first dimension in equal chunks."""
    num = parameter.shape[0]
    if not isinstance(parameter, DTensor):
        return 0, num
    if list(parameter.placements) != [Shard(0)]:
        raise ValueError(f"a parameter is placed as {parameter.placements}, but checkpoints know [Shard(0)] only.")
    mesh = parameter.device_mesh
    chunk = -(-num // mesh.size())
    first = min(num, mesh.get_local_rank() * chunk)
    return first, min(num, first + chunk)


def _load(path: Path, optimizer: ShardedAdamW) -> None:
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
    return {name: json.loads(text)["first_row"] for name, text in metadata.items()}


def _check_identity(path: Path, found: Json, wanted: Json) -> None:
    before, now = _flat(found), _flat(wanted)
    changed = [f"{key} was {before.get(key)!r} and is {now.get(key)!r}" for key in sorted(before.keys() | now.keys())
               if before.get(key) != now.get(key)]  # fmt: skip
    if changed:
        raise ValueError(
            f"checkpoint {path} belongs to another run: {'; '.join(changed)}. Give another `output` directory, "
            f"restore the config, or delete {path.parent} to start again."
        )


def _flat(value: Json, prefix: str = "") -> Json:
    flat: Json = {}
    for key, item in value.items():
        flat |= _flat(item, f"{prefix}{key}.") if isinstance(item, dict) else {prefix + key: item}
    return flat


def _write_manifest(path: Path, num_ranks: int) -> None:
    files = {}
    for rank in range(num_ranks):
        record = path / f"rank-{rank:05d}.json"
        files[f"rank-{rank:05d}.safetensors"] = json.loads(record.read_text(encoding="utf-8"))["sha256"]
        files[record.name] = file_sha256(record)
    files["state.json"] = file_sha256(path / "state.json")
    _write_json(path / "manifest.json.partial", {"files": files})
    (path / "manifest.json.partial").replace(path / "manifest.json")
    _fsync(path)


def _write_atomically(path: Path, text: str) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text + "\n", encoding="utf-8")
    _fsync(partial)
    partial.replace(path)
    _fsync(path.parent)


def _write_json(path: Path, value: Json) -> None:
    path.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    _fsync(path)


def _fsync(path: Path) -> None:
    """Force a file's bytes, or a directory's entries, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
