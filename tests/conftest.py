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


# Fixtures that take seconds to minutes, the longest first. Tests that need one run in the same process, which makes it
# once; all others are kept together by file. What takes longest starts first, so that two processes end together.
SHARED = ("bench", "site", "prefect_server", "build", "uninterrupted")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Say which tests belong together (pytest-xdist's `--dist loadgroup`)."""
    for item in items:
        fixtures = getattr(item, "fixturenames", ())
        group = next((name for name in SHARED if name in fixtures), item.path.name)
        item.add_marker(pytest.mark.xdist_group(group))
    items.sort(key=lambda item: _place(item))


def _place(item: pytest.Item) -> int:
    group = str(next(item.iter_markers("xdist_group")).args[0])
    return SHARED.index(group) if group in SHARED else len(SHARED)


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
