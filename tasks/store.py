"""The store: every stage's output in a sealed directory named by what decides its bytes.

    store/<recipe>/
      filter-pubmed-3f9a1c2e/       <stage>-<label>-<key8>, read-only once sealed
        manifest.json               written last; its presence means complete
        kept/00000.parquet ...
      train-c07a88e2.partial/       in progress; the same key resumes it
      .locks/train-c07a88e2         held by whoever builds it

A key is the sha256 of {stage, version, config, content digests of the inputs}; a stage rebuilt to the same bytes
therefore rebuilds nothing after it. A directory is sealed only if its books balance.
"""

import fcntl
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

from domainlm.tasks.manifest import (
    MANIFEST,
    MANIFEST_SCHEMA,
    Books,
    InputRecord,
    Manifest,
    Part,
    canonical_json,
    check_books,
    count_licenses,
    digest_of,
    is_below,
    list_outputs,
    sum_rows,
)
from domainlm.tasks.provenance import Provenance, stopwatch

log = logging.getLogger(__name__)


class NoRoom(OSError):
    """The disk cannot hold what a stage is about to write."""


@dataclass(frozen=True)
class Sealed:
    """A finished stage output."""

    path: Path
    manifest: Manifest

    @classmethod
    def load(cls, path: Path) -> "Sealed":
        """The sealed directory at `path`; raises FileNotFoundError where there is none."""
        if not (path / MANIFEST).is_file():
            raise FileNotFoundError(f"{path} is not a sealed directory: it has no {MANIFEST}.")
        return cls(path, Manifest.load(path / MANIFEST))

    def part(self, prefix: str = "") -> Part:
        """The content below `prefix` (a directory or one file), with a digest of its own: all content if empty."""
        outputs = [output for output in self.manifest.outputs if not output.record and is_below(output.path, prefix)]
        if not outputs:
            raise FileNotFoundError(f"{self.path} holds nothing below {prefix!r}; it has {self._top_level()}.")
        return Part(
            root=self.path,
            files=tuple(output.path for output in outputs),
            digest=digest_of((output.path, output.sha256) for output in outputs),
            bytes=sum(output.bytes for output in outputs),
            rows=sum_rows(output.rows for output in outputs),
            origin=self.path.name + (f"/{prefix}" if prefix else ""),
        )

    def _top_level(self) -> list[str]:
        return sorted({output.path.split("/")[0] for output in self.manifest.outputs})


@dataclass(frozen=True)
class Request:
    """What a stage is asked to build; its key decides whether the store has it already."""

    stage: str
    version: int
    label: str
    config: Mapping[str, object]
    inputs: Mapping[str, Part]
    disk_bytes: int = 0
    resumes: bool = False

    @property
    def key(self) -> str:
        """Sha256 over what decides the bytes."""
        inputs = {name: part.digest for name, part in self.inputs.items() if part.decides}
        identity = {"stage": self.stage, "version": self.version, "config": self.config, "inputs": inputs}
        return sha256(canonical_json(identity)).hexdigest()

    @property
    def name(self) -> str:
        """The directory's name: readable first, then eight digits of the key."""
        return "-".join(part for part in (self.stage, self.label, self.key[:8]) if part)


class Store:
    """Sealed directories of one recipe."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def find(self, request: Request) -> Sealed | None:
        """The sealed output of `request`, or None."""
        path = self.root / request.name
        if not (path / MANIFEST).exists():
            return None
        manifest = Manifest.load(path / MANIFEST)
        if manifest.key != request.key:
            raise ValueError(
                f"{path} has key {manifest.key}, not {request.key}: two keys share eight digits. Move it away."
            )
        return Sealed(path, manifest)

    def sealed(self, stage: str | None = None, label: str | None = None) -> list[Sealed]:
        """All sealed directories (of one stage, of one label), the oldest first."""
        manifests = sorted(self.root.glob(f"*/{MANIFEST}"))
        found = [Sealed.load(path.parent) for path in manifests if path.parent.suffix != ".partial"]
        found = [one for one in found if stage in (None, one.manifest.stage) and label in (None, one.manifest.label)]
        return sorted(found, key=lambda one: one.manifest.provenance.started)

    def build(self, request: Request, build: Callable[[Path], Books]) -> Sealed:
        """Reuse the sealed output of `request`, or have `build(directory)` write one and seal it.

        Killed at any moment this leaves either nothing or a `.partial` directory that the same key resumes (where the
        stage can) or begins afresh. Of two builders the second waits, and then reuses.
        """
        if found := self.find(request):
            return found
        self.root.mkdir(parents=True, exist_ok=True)
        with self._locked(request):
            if found := self.find(request):
                return found
            self._check_room(request)
            partial = self.root / f"{request.name}.partial"
            if partial.exists() and not request.resumes:
                shutil.rmtree(partial)
            partial.mkdir(exist_ok=True)
            with stopwatch() as clock:
                books = build(partial)
            return self._seal(request, partial, books, clock.provenance())

    def _seal(self, request: Request, partial: Path, books: Books, provenance: Provenance) -> Sealed:
        outputs = list_outputs(partial, books.records)
        check_books(request.name, request.inputs, books, outputs)
        manifest = Manifest(
            schema=MANIFEST_SCHEMA,
            stage=request.stage,
            label=request.label,
            version=request.version,
            key=request.key,
            digest=digest_of((output.path, output.sha256) for output in outputs if not output.record),
            config=request.config,
            inputs={name: InputRecord(part.origin, part.digest, part.decides) for name, part in request.inputs.items()},
            outputs=outputs,
            entered=dict(books.entered),
            fates=dict(books.fates),
            counts=dict(books.counts),
            licenses=count_licenses(partial),
            provenance=provenance,
        )
        write_atomically(partial / MANIFEST, json.dumps(asdict(manifest), indent=1, sort_keys=True) + "\n")
        for path in partial.rglob("*"):
            if path.is_file():
                path.chmod(0o444)
        final = self.root / request.name
        partial.rename(final)
        return Sealed(final, manifest)

    def _check_room(self, request: Request) -> None:
        free = shutil.disk_usage(self.root).free
        if free < request.disk_bytes:
            raise NoRoom(
                f"{request.name} needs about {request.disk_bytes / 1e9:.1f} GB and {self.root} has {free / 1e9:.1f} GB "
                "free. Free some room, or give another store (`--store`); nothing was started."
            )

    @contextmanager
    def _locked(self, request: Request) -> Iterator[None]:
        path = self.root / ".locks" / request.name
        path.parent.mkdir(exist_ok=True)
        lock = os.open(path, os.O_RDWR | os.O_CREAT)  # never unlinked: a waiter would then hold a file nobody else sees
        _locks.add(lock)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                log.info("%s is being built by someone else; waiting for it.", request.name)
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            _locks.discard(lock)
            os.close(lock)


_locks: set[int] = set()


def _let_go_of_locks() -> None:
    """A forked child holds no lock: one that outlives a killed builder would keep its key locked for ever."""
    for lock in _locks:
        os.close(lock)
    _locks.clear()


os.register_at_fork(after_in_child=_let_go_of_locks)


def write_atomically(path: Path, text: str) -> None:
    """Write `text` so that `path` is either absent, as before, or whole, also after a power cut."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("w") as handle:
        handle.write(text)
        handle.flush()
        os.fsync(handle.fileno())
    temporary.replace(path)
