"""What is fast, measured. Each file is one benchmark: `python -m bench.NAME [--json]`."""

import os


def usable_cores() -> int:
    """Those that this process may use: fewer than the machine has where it is pinned (`taskset`)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
