"""The builder: walks the chain and builds it, each stage as a Prefect task whose output is sealed in the store.

The store alone decides what is reused; Prefect orders and shows. Each execution leaves a record:

    store/<domain>/runs/2026-11-23T101504-biomedical.json     recipe, runtime, stages reused and built, how it ended
"""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from prefect import State, Task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType
from prefect.runtime import flow_run
from prefect.states import Cancelled

from domainlm.flows.chain import Output
from domainlm.flows.planner import stage_name
from domainlm.flows.recipe import Recipe
from domainlm.flows.view import current_view
from domainlm.tasks.manifest import Part
from domainlm.tasks.processes import Preempted, ProcessFailed
from domainlm.tasks.progress import watched_by
from domainlm.tasks.runtime import Runtime
from domainlm.tasks.stage import Stage
from domainlm.tasks.store import Sealed, Store, write_atomically

CANCEL_POLL_S = 5.0

Ended = Sealed | State[Sealed]


@dataclass(frozen=True)
class StageRecord:
    """One stage of an execution."""

    name: str
    directory: str
    key: str
    reused: bool
    seconds: float


class Reached(Exception):
    """The last stage that was asked for is in the store."""


class Builder:
    """A `Make` that builds, up to the stage `last` if there is one."""

    def __init__(self, store: Store, runtime: Runtime, *, last: str | None = None) -> None:
        self.store = store
        self.runtime = runtime
        self.last = last
        self.made: dict[str, Output] = {}
        self.records: list[StageRecord] = []
        self.view = current_view()
        self.cancelled = cancel_watch()

    def __call__(self, stage: Stage[Any], config: object, inputs: Mapping[str, Part], *, label: str = "") -> Output:
        """The stage's sealed output: reused, or built as a Prefect task in this thread."""
        name = stage_name(stage.name, label)
        if self.cancelled():
            raise Preempted(f"the run was cancelled before {name}. Run it again, and it goes on from there.")
        request = stage.request(config, inputs, label=label)
        reused = self.store.find(request) is not None
        started_s = time.perf_counter()
        self.view.started(name)

        def build() -> Sealed:
            with watched_by(self.view.moved, self.cancelled):
                return stage.build(self.store, config, inputs, self.runtime, label=label)

        sealed = Task(build, name=stage.name, task_run_name=name, cache_policy=NO_CACHE, persist_result=False)()
        self.view.finished(name, sealed, reused=reused)
        elapsed_s = round(time.perf_counter() - started_s, 3)
        self.records.append(StageRecord(name, sealed.path.name, sealed.manifest.key, reused, elapsed_s))
        self.made[name] = sealed
        if name == self.last:
            raise Reached
        return sealed


def cancelled_or_done(work: Callable[[], Ended]) -> Ended:
    """What `work` returns; the state Cancelled if it stopped because this flow run was cancelled."""
    try:
        return work()
    except (Preempted, ProcessFailed) as stop:
        if cancel_watch()():
            return Cancelled(message=str(stop))
        raise


def cancel_watch() -> Callable[[], bool]:
    """A function that says whether this flow run was cancelled, asking the server at most every `CANCEL_POLL_S`.

    A cancellation usually comes as a signal from the worker. If the worker is dead nobody sends one.
    """
    run_id, asked_s, answer = flow_run.id, 0.0, False

    def cancelled() -> bool:
        nonlocal asked_s, answer
        if run_id is not None and not answer and time.monotonic() - asked_s >= CANCEL_POLL_S:
            asked_s = time.monotonic()
            try:
                with get_client(sync_client=True) as client:
                    state = client.read_flow_run(run_id).state
            except httpx.HTTPError:  # a server that is away cancels nothing; the work goes on
                return False
            answer = state is not None and state.type in (StateType.CANCELLING, StateType.CANCELLED)
        return answer

    return cancelled


class RunRecord:
    """The record of one execution, written when it starts and again when it ends."""

    def __init__(self, folder: Path, recipe: Recipe, runtime: Runtime) -> None:
        self.started = datetime.now(UTC)
        self.path = folder / f"{self.started:%Y-%m-%dT%H%M%S}-{recipe.name}.json"
        self.facts = {
            "recipe": recipe.model_dump(mode="json"),
            "runtime": runtime.model_dump(mode="json"),
            "started": self.started.isoformat(timespec="seconds"),
            "prefect_flow_run": str(flow_run.id) if flow_run.id else None,
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.write("running", [])

    def write(self, status: str, stages: list[StageRecord]) -> None:
        """Say how far it is: `running`, `completed`, `completed until ...`, or `failed: ...`."""
        seconds = round((datetime.now(UTC) - self.started).total_seconds(), 1)
        facts = {**self.facts, "status": status, "seconds": seconds, "stages": [asdict(stage) for stage in stages]}
        write_atomically(self.path, json.dumps(facts, indent=1) + "\n")
