"""By what a sealed directory was made: the commit, the uncommitted changes, the packages, the command, the time.

All of this is recorded and none of it is hashed: two machines that seal the same bytes agree on the content digest.
"""

import hashlib
import platform
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = (
    *("domainlm", "datasets", "datatrove", "lm-eval", "lxml", "numpy", "prefect", "pyarrow", "numba", "safetensors"),
    *("tokenizers", "torch", "transformers"),
)


@dataclass(frozen=True)
class Provenance:
    """When, how long, and with which code and packages a directory was sealed."""

    started: str
    seconds: float
    command: str
    commit: str | None
    dirty_digest: str | None
    lock_digest: str | None
    python: str
    packages: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Clock:
    """A running stopwatch that knows when it was started."""

    started: datetime
    started_s: float

    def provenance(self) -> Provenance:
        """The record as of now."""
        commit, dirty_digest, lock_digest = _checkout()
        return Provenance(
            started=self.started.isoformat(timespec="seconds"),
            seconds=round(time.perf_counter() - self.started_s, 3),
            command=Path(sys.argv[0]).name,
            commit=commit,
            dirty_digest=dirty_digest,
            lock_digest=lock_digest,
            python=platform.python_version(),
            packages=dict(_packages()),
        )


@contextmanager
def stopwatch() -> Iterator[Clock]:
    """Time what is done inside."""
    yield Clock(datetime.now(UTC), time.perf_counter())


@cache
def _packages() -> tuple[tuple[str, str], ...]:
    found = []
    for name in PACKAGES:
        try:
            found.append((name, version(name)))
        except PackageNotFoundError:  # a GPU node need not have them all
            found.append((name, "absent"))
    return tuple(found)


@cache
def _checkout() -> tuple[str | None, str | None, str | None]:
    """Commit, digest of uncommitted changes, digest of constraints.txt; Nones when not run from a checkout."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None, None, None
    commit = _git(root, "rev-parse", "HEAD").strip() or None
    diff = _git(root, "diff", "HEAD")
    lock = root / "constraints.txt"
    lock_digest = hashlib.sha256(lock.read_bytes()).hexdigest() if lock.exists() else None
    return commit, (hashlib.sha256(diff.encode()).hexdigest() if diff else None), lock_digest


def _git(root: Path, *arguments: str) -> str:
    """Output of a git command; empty where git is missing or refuses (provenance is then recorded as unknown)."""
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout if done.returncode == 0 else ""
