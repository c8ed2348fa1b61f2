"""Cancel for real: server, worker, torchrun. Two ranks are training when the cancellation comes."""

import json
from pathlib import Path

import pytest
from prefect.states import Cancelling

pytestmark = pytest.mark.timeout(900)  # a whole build, in a fixture, on a machine that is busy

LONG = ("recipe.mix.token_budget=50000000", "recipe.mix.max_repetitions=100000", "runtime.processes=2")


def partial(site):
    found = list(site.folder.glob("store/my-recipe/train-*.partial"))
    return found[0] if found else site.folder / "nothing"


def metrics(site):
    path = partial(site) / "metrics.jsonl"
    return path.read_text().splitlines() if path.exists() else []


def events(site, kind):
    path = partial(site) / "events.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [event for event in map(json.loads, lines) if event["event"] == kind]


def torchrun_processes(site):
    """Launcher and ranks: all whose command line names this site's train.json."""
    wanted = str(partial(site) / "train.json").encode()
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if wanted in command:
            found.append(int(path.parent.name))
    return found


def newest_checkpoint(site):
    """The step of the newest checkpoint."""
    return int((partial(site) / "checkpoints" / "LATEST").read_text().strip().removeprefix("step-"))


def start_training(site):
    """A run of the build that has trained some steps."""
    known = len(events(site, "start")) + len(events(site, "resume"))
    run = site.start_run("build-domain-model", *LONG)
    site.wait_for("start", lambda: len(events(site, "start")) + len(events(site, "resume")) > known, timeout_s=120)
    steps = len(metrics(site))
    site.wait_for("steps", lambda: len(metrics(site)) >= steps + 5)
    assert len(torchrun_processes(site)) >= 3
    return run


@pytest.fixture(scope="module")
def cancelled(built):
    """A run that was cancelled by the guide's command while its ranks trained."""
    run = start_training(built)
    assert str(run) in built.type_in("prefect flow-run ls --state Running")
    built.type_in("prefect flow-run cancel RUN_ID", RUN_ID=run)
    built.wait_for("end of the ranks", lambda: not torchrun_processes(built), timeout_s=60)
    built.wait_for_state(run, "Cancelled", timeout_s=60)
    return built


def test_a_cancelled_run_stops_every_rank_and_leaves_a_checkpoint(cancelled):
    (preempt,) = events(cancelled, "preempt")
    assert newest_checkpoint(cancelled) == preempt["step"] >= 5
    assert not (partial(cancelled) / "done.json").exists()


def test_a_run_whose_worker_was_killed_has_resumed_and_can_still_be_cancelled(cancelled):
    left_at = newest_checkpoint(cancelled)
    run = start_training(cancelled)
    assert [event["step"] for event in events(cancelled, "resume")] == [left_at]
    cancelled.kill_worker()
    with cancelled.client() as client:
        client.set_flow_run_state(run, Cancelling())
    cancelled.wait_for("end of the ranks", lambda: not torchrun_processes(cancelled), timeout_s=60)
    cancelled.wait_for_state(run, "Cancelled", timeout_s=60)
    assert newest_checkpoint(cancelled) > left_at
    cancelled.start_worker()
