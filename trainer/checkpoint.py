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
the checkpoint, or drops it if the disk did not take a part. All ranks see one file system.
"""

import json
import shutil
import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from .files import write_atomically, write_json
from .optimizer import ShardedOptimizer
from .ranks import Ranks
from .shards import file_sha256
from .tensors import checkpoint_bytes, load, save, staged

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
    skipped: dict[str, str]
    """Steps before `step` that touched no parameter, and why."""
    window: list[float]
    """Losses that the guard compares the next one with."""
    high_steps: list[int]
    """Steps just before this one whose losses were high."""


def has_checkpoints(output: Path) -> bool:
    """Whether a run has left any in its output directory, good or not."""
    return any((output / "checkpoints").glob("step-*"))


class Checkpointer:
    """Writes and reads the checkpoints of one run. A disk without room fails a checkpoint, never the run."""

    def __init__(self, directory: Path, ranks: Ranks, *, keep: int, keep_every: int | None = None) -> None:
        self.directory = directory
        self.ranks = ranks
        self.keep = keep
        self.keep_every = keep_every
        self._step: int | None = None
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    @property
    def in_progress(self) -> bool:
        """Whether a checkpoint has begun and is neither complete nor given up."""
        return self._step is not None

    @property
    def is_over(self) -> bool:
        """Whether this rank's writing has come to an end, good or bad."""
        return self._thread is not None and not self._thread.is_alive()

    @property
    def has_failed(self) -> bool:
        """Whether the disk did not take this rank's part. Raises what else the writing thread raised."""
        if self._error is not None and not isinstance(self._error, OSError):
            raise self._error
        return self._error is not None

    @property
    def step(self) -> int:
        """The step of the checkpoint that has begun."""
        if self._step is None:
            raise RuntimeError("no checkpoint has begun; call begin first.")
        return self._step

    @property
    def newest_step(self) -> int | None:
        """The step of the newest complete checkpoint."""
        return next((_step(path) for path in self._complete_ones()), None)

    @property
    def failure(self) -> str:
        """Why it failed, as far as this rank knows."""
        return str(self._error or "another rank has no room for its part")

    def begin(self, state: State, optimizer: ShardedOptimizer, problem: OSError | None = None) -> None:
        """Copy this rank's part and start writing it; all ranks must later `complete` it, or `abandon` it.

        A `problem` that this rank has already makes it fail, in the same way as one while writing.
        """
        tensors, metadata = staged(optimizer)
        self._step, self._error = state.step, problem
        path = self.directory / _name(state.step)
        self._thread = threading.Thread(target=self._write, args=(path, state, tensors, metadata), name="checkpoint")
        self._thread.start()

    def wait(self) -> bool:
        """Wait until every rank has written its part; False if one could not."""
        if self._thread is not None:
            self._thread.join()
        return not any(self.ranks.gather(self.has_failed))

    def complete(self) -> Path:
        """Make the checkpoint that all ranks have written the latest one, and drop what need not be kept.

        Raises:
            OSError: the disk had no room for the manifest, on the first rank only; `abandon` it.
        """
        path = self.directory / _name(self.step)
        if self.ranks.is_first:
            _write_manifest(path, self.ranks.num_ranks)
            write_atomically(self.directory / "LATEST", path.name + "\n")
            for old in set(self.directory.glob("step-*")) - self._kept():
                shutil.rmtree(old)
        self._step = self._thread = None
        return path

    def abandon(self) -> None:
        """Give up what has begun, and leave nothing of it. All ranks have ended their writing."""
        path, self._step, self._thread, self._error = self.directory / _name(self.step), None, None, None
        if self.ranks.is_first and path.exists():
            shutil.rmtree(path)

    def make_room(self, optimizer: ShardedOptimizer) -> list[str]:
        """Drop old checkpoints, but never the newest, if the next one would not fit otherwise; returns their names."""
        if not self.ranks.is_first:
            return []
        needed = checkpoint_bytes(optimizer)
        dropped: list[str] = []
        for path in reversed(self._complete_ones()[1:]):
            if shutil.disk_usage(self.directory).free >= needed:
                break
            shutil.rmtree(path)
            dropped.append(path.name)
        return dropped

    def clear(self, left_out: Collection[int]) -> None:
        """Delete what a crash left incomplete, and those that have trained on steps which are left out now."""
        if self.ranks.is_first:
            for path in self.directory.glob("step-*"):
                if not (path / "manifest.json").is_file() or not _leaves_out(path, left_out):
                    shutil.rmtree(path)
        self.ranks.barrier()

    def load_latest(
        self, optimizer: ShardedOptimizer, identity: Json | None, *, on_damaged: Callable[[Path, str], None]
    ) -> State | None:
        """Load the newest checkpoint whose bytes are right into parameters and moments; None if there is none.

        It must have the `identity`, where one is given.

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
            state = _read_state(path)
            if identity is not None:
                _check_identity(path, state.identity, identity)
            load(path, optimizer)
            optimizer.num_updates = state.num_updates
            return state
        return None

    def _write(self, path: Path, state: State, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
        if self._error is not None:
            return
        try:
            path.mkdir(parents=True, exist_ok=True)
            if self.ranks.is_first:
                write_json(path / "state.json", vars(state))
            file = path / f"rank-{self.ranks.rank:05d}.safetensors"
            save(tensors, file, metadata)
            write_json(file.with_suffix(".json"), {"bytes": file.stat().st_size, "sha256": file_sha256(file)})
        except BaseException as error:  # noqa: BLE001 - judged by `has_failed` in the training thread
            self._error = error

    def _kept(self) -> set[Path]:
        """The newest, and the first at or after each multiple of `keep_every` steps."""
        complete = self._complete_ones()
        kept = set(complete[: self.keep])
        if self.keep_every is not None:
            firsts = {_step(path) // self.keep_every: path for path in complete if _step(path) >= self.keep_every}
            kept |= set(firsts.values())  # newest first, so that the oldest of each span is what stays
        return kept

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


def _step(path: Path) -> int:
    return int(path.name.removeprefix("step-"))


def _read_state(path: Path) -> State:
    return State(**json.loads((path / "state.json").read_text(encoding="utf-8")))


def _leaves_out(path: Path, steps: Collection[int]) -> bool:
    """Whether a checkpoint has trained on none of `steps`. One that cannot be read is for `load_latest` to judge."""
    try:
        state = _read_state(path)
    except (OSError, ValueError, TypeError):
        return True
    return all(step >= state.step or str(step) in state.skipped for step in steps)


def _name(step: int) -> str:
    return f"step-{step:08d}"


def _check_identity(path: Path, found: Json, wanted: Json) -> None:
    changed = differences(found, wanted)
    if changed:
        raise ValueError(
            f"checkpoint {path} belongs to another run: {'; '.join(changed)}. Give another `output` directory, "
            f"restore the config, or delete {path.parent} to start again."
        )


def differences(found: Json, wanted: Json) -> list[str]:
    """What differs between two identities, a text each that begins with its path."""
    before, now = _flat(found), _flat(wanted)
    paths = sorted(before.keys() | now.keys())
    return [f"{p} was {before.get(p)!r} and is {now.get(p)!r}" for p in paths if before.get(p) != now.get(p)]


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
    write_json(path / "manifest.json", {"files": files})
