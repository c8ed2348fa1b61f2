"""Signs of life: `signs/rank-00000.json`, whose time is renewed at every step, and `signs/rank-00000.end.json`.

A rank that hangs takes the others along within a step, since they wait for it. So a run hangs when no rank has given a
sign for some time, and the process that is stopped, or whose sign is the oldest, is the one to name.
The end file says why a rank ended by itself; torchrun's exit code does not.
"""

import json
import os
import socket
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from . import strict
from .files import write_json

Kind = Literal["out_of_memory", "refused", "error"]
SIGNS = "signs"


class Heart:
    """The signs of life of this rank."""

    def __init__(self, output: Path, rank: int) -> None:
        self.path = output / SIGNS / f"rank-{rank:05d}.json"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_json(self.path, {"rank": rank, "pid": os.getpid(), "host": socket.gethostname()})

    def beat(self) -> None:
        """Say that this rank is alive. Takes no room on the disk."""
        os.utime(self.path)


@dataclass(frozen=True)
class Sign:
    """What is known of a rank from outside."""

    rank: int
    host: str
    age_s: float
    state: str
    """Of the process, as Linux has it: T is stopped, Z and - are dead, R and S are fine; ? is on another machine."""

    def __str__(self) -> str:
        return f"rank {self.rank} on {self.host}: last sign {self.age_s:.0f} s ago, process state {self.state}"


@dataclass(frozen=True)
class End:
    """Why a rank ended by itself."""

    rank: int
    kind: Kind
    message: str


def save_end(end: End, output: Path) -> None:
    """Leave a word for the supervisor; where the disk is full, the log has it all the same."""
    (output / SIGNS).mkdir(parents=True, exist_ok=True)
    write_json(output / SIGNS / f"rank-{end.rank:05d}.end.json", asdict(end))


def read_ends(output: Path) -> list[End]:
    """Why ranks have ended since `clear_ends`."""
    return [strict.load(End, path) for path in sorted((output / SIGNS).glob("rank-*.end.json"))]


def clear_ends(output: Path) -> None:
    """Forget the ends of the attempt before."""
    for path in (output / SIGNS).glob("rank-*.end.json"):
        path.unlink(missing_ok=True)


def newest_sign_s(output: Path) -> float:
    """When any rank last gave a sign, in the file system's clock; 0 if none ever did."""
    return max((path.stat().st_mtime for path in _beats(output)), default=0.0)


def read_signs(output: Path, since_s: float) -> list[Sign]:
    """The ranks that have given a sign since `since_s`: the suspicious first, stopped before silent."""
    signs = []
    for path in _beats(output):
        if path.stat().st_mtime >= since_s:
            who = json.loads(path.read_text(encoding="utf-8"))
            age_s = round(time.time() - path.stat().st_mtime, 1)
            signs.append(Sign(who["rank"], who["host"], age_s, _state(who["host"], who["pid"])))
    return sorted(signs, key=lambda sign: (sign.state not in ("T", "t", "D"), -sign.age_s))


def _beats(output: Path) -> list[Path]:
    return [path for path in sorted((output / SIGNS).glob("rank-*.json")) if not path.name.endswith(".end.json")]


def _state(host: str, pid: int) -> str:
    if host != socket.gethostname():
        return "?"
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "-"
