"""Where the seconds before the first step go: marks of a process on its way from its start, told by the `resume` event.

A process starts once, so the marks are the module's.
"""

import os
import sys
import time
from pathlib import Path

_marks: dict[str, float] = {}


def mark(part: str) -> None:
    """What has been going on since the last mark, or since this process was started, was `part`; on Linux."""
    if sys.platform == "linux":
        _marks[part] = time.clock_gettime(time.CLOCK_BOOTTIME)


def told() -> dict[str, float]:
    """Seconds of each part, in their order; none in a process that has set no mark."""
    parts, before = {}, _started() if _marks else 0.0
    for part, at in _marks.items():
        parts[part], before = round(at - before, 3), at
    return parts


def _started() -> float:
    """When the kernel started this process, in seconds since boot (proc(5): field 22, after the name in brackets)."""
    fields = Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return int(fields[19]) / os.sysconf("SC_CLK_TCK")
