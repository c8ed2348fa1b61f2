"""Kernels: functions over arrays that numba compiles when they are first called, and whose machine code it keeps.

numba takes kept code for current if the file of the kernel is unchanged, whatever became of those it calls. So the code
lies in a folder named by the digest of all files of `domainlm.tasks`: `~/.cache/domainlm/kernels-<digest>`, or below
NUMBA_CACHE_DIR where that is set.
"""

import os
from collections.abc import Callable, Iterable
from hashlib import sha256
from pathlib import Path
from typing import ParamSpec, TypeVar, cast

from numba import config, njit

P = ParamSpec("P")
R = TypeVar("R")


def kernel(function: Callable[P, R]) -> Callable[P, R]:
    """Compile when first called, keep the machine code on disk, run without the interpreter's lock."""
    before, config.CACHE_DIR = config.CACHE_DIR, str(FOLDER)
    try:
        return cast("Callable[P, R]", njit(cache=True, nogil=True)(function))
    finally:
        config.CACHE_DIR = before


def code_folder(sources: Iterable[Path]) -> Path:
    """Where the machine code of kernels in these files is kept."""
    digest = sha256(b"".join(path.read_bytes() for path in sorted(sources))).hexdigest()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "domainlm"
    return Path(os.environ.get("NUMBA_CACHE_DIR") or cache) / f"kernels-{digest[:16]}"


FOLDER = code_folder(Path(__file__).parents[1].rglob("*.py"))
