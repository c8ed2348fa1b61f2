"""Shared by all tests: one embedded Prefect server, and the directory of real text."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

if TYPE_CHECKING:
    from domainlm.trainer.ranks import Ranks

# The same examples in every run, so that a failure is the change's own; `pytest --hypothesis-profile=search` looks for
# new ones, and what it finds becomes an `@example`.
settings.register_profile("suite", derandomize=True, deadline=None)
settings.register_profile("search", max_examples=2_000, deadline=None)
settings.load_profile("suite")


# With pytest-xdist: these share a fixture that takes half a minute, so that one process runs them all; other files go
# to whichever process is free. What takes longest starts first, for the processes to end together.
TOGETHER = {
    "tests/deployments/": "a server, a worker and a build",
    "tests/flows/test_a": "a build by the flow",
    "tests/flows/test_build": "a build by the flow",
    "tests/flows/test_readme": "a build by the flow",
    "tests/tasks/test_evaluate": "a build stage by stage",
    "tests/tasks/test_publish": "a build stage by stage",
    "tests/tasks/test_train.": "a build stage by stage",
    "tests/trainer/test_faults": "a run of two ranks",
    "tests/trainer/test_matrix": "a run of two ranks",
}
FIRST = ("tests/trainer/test_unattended", *TOGETHER, "tests/tasks/test_engine", "tests/trainer/test_supervisor")


class Together(LoadScopeScheduling):
    """Tests of a file, and of files that share what is costly, in one process."""

    def _split_scope(self, nodeid: str) -> str:
        return next((shared for path, shared in TOGETHER.items() if nodeid.startswith(path)), nodeid.split("::")[0])


@pytest.hookimpl(optionalhook=True)  # -p no:xdist
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Together:
    """What `-n 2` deals tests out by, whatever `--dist` says."""
    config.option.loadscopereorder = False
    return Together(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first."""
    places = {path: place for place, path in enumerate(FIRST)}
    items.sort(key=lambda item: next((n for path, n in places.items() if item.nodeid.startswith(path)), len(FIRST)))


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[None]:
    """A real Prefect server with a database of its own, for the flows that run in this process."""
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
    from prefect.testing.utilities import prefect_test_harness

    quiet = temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None})
    with prefect_test_harness(server_startup_timeout=180), quiet:
        yield


@pytest.fixture(scope="session")
def ranks() -> "Iterator[Ranks]":
    """This process as the only rank: a process can join once."""
    import torch
    import torch.distributed as dist

    from domainlm.trainer.ranks import join

    torch.set_num_threads(1)
    yield join("cpu")
    dist.destroy_process_group()


@pytest.fixture(scope="session")
def realdata() -> Path:
    """The directory of real text; a test that needs it fails where it is not there."""
    where = os.environ.get("REALDATA")
    assert where, "this test needs real text: REALDATA=/path/to/realdata (see the Makefile's test-real)"
    path = Path(where)
    assert (path / "biomed").is_dir(), f"REALDATA={where} has no biomed/: it is not the directory of real text"
    return path
