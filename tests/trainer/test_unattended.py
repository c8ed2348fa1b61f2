"""Faults under `trainer.unattended`, injected for real by `bench.faults` into processes of their own."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent

if TYPE_CHECKING:
    from bench.faultbench import Bench

# The others are in test_faults.py and test_supervisor.py, without a supervisor.
SCENARIOS = [
    "kill_launcher", "kill_everything", "stop_worker", "lose_node", "nan_batch", "nan_run", "loss_spike",
    "spike_without_end", "memory_at_start", "memory_in_run", "full_disk", "crash_loop",
]  # fmt: skip


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Bench]":
    """A world to break, in a plain checkout as a GPU node has it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT))
        from bench.faultbench import Bench
        from bench.faultworld import World

        yield Bench(World(tmp_path_factory.mktemp("faults") / "world"))
    for name in [name for name in sys.modules if name.partition(".")[0] in ("bench", "trainer")]:
        del sys.modules[name]


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_run_comes_to_the_end_that_it_should_have(name: str, bench: "Bench") -> None:
    from bench import scenarios

    found = scenarios.ALL[name](bench)
    assert found.survived, found
    assert found.same_bits is not False
