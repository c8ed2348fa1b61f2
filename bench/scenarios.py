"""The faults of `bench.faults` in the order of its table."""

from collections.abc import Callable

from bench import process_faults, run_faults
from bench.faultbench import Bench, Found

PROCESSES = ("kill_worker", "kill_launcher", "kill_everything", "stop_worker", "terminate", "lose_node")
RUN = (
    "nan_batch", "nan_run", "loss_spike", "spike_without_end", "memory_at_start", "memory_in_run", "full_disk",
    "flipped_bit", "crash_loop",
)  # fmt: skip
ALL: dict[str, Callable[[Bench], Found]] = {
    **{name: getattr(process_faults, name) for name in PROCESSES},
    **{name: getattr(run_faults, name) for name in RUN},
}
EXTERNAL = {
    "kill_worker",
    "kill_launcher",
    "kill_everything",
    "stop_worker",
    "terminate",
    "memory_in_run",
    "flipped_bit",
}
