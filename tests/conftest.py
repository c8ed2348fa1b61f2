"""Shared by all tests: one embedded Prefect server, and the directory of real text."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
from prefect.testing.utilities import prefect_test_harness

# The same examples in every run, so that a failure is the change's own; `pytest --hypothesis-profile=search` looks for
# new ones, and what it finds becomes an `@example`.
settings.register_profile("suite", derandomize=True, deadline=None)
settings.register_profile("search", max_examples=2_000, deadline=None)
settings.load_profile("suite")


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[None]:
    """A real Prefect server with a database of its own, for the flows that run in this process."""
    quiet = temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None})
    with prefect_test_harness(server_startup_timeout=180), quiet:
        yield


@pytest.fixture(scope="session")
def realdata() -> Path:
    """The directory of real text; a test that needs it fails where it is not there."""
    where = os.environ.get("REALDATA")
    assert where, "this test needs real text: REALDATA=/path/to/realdata (see the Makefile's test-real)"
    path = Path(where)
    assert (path / "biomed").is_dir(), f"REALDATA={where} has no biomed/: it is not the directory of real text"
    return path
