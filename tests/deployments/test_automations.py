"""A run that crashed is started again, a run that was lost has crashed: on a real server, by its own events."""

from datetime import timedelta

import pytest
from prefect.client.orchestration import get_client
from prefect.events import emit_event
from prefect.states import Crashed, Pending, Running

from domainlm.deployments.automations import (
    MAX_RESTARTS,
    automations,
    crashed_runs_start_again,
    lost_runs_crash,
    register_automation,
)

SOON = timedelta(seconds=10)  # the least that the server takes


@pytest.fixture
def soon(deployed, in_process):
    """The automations fire soon, and as they should again after the test."""
    with get_client(sync_client=True) as client:
        for automation in (lost_runs_crash(SOON), crashed_runs_start_again(SOON)):
            assert register_automation(client, automation) == "updated"
        yield client
        for automation in automations():
            assert register_automation(client, automation) == "updated"


@pytest.fixture
def make_run(soon):
    """make_run(times): a run that no worker takes; it is Running, for so many times."""
    made = []

    def make(times):
        deployment = soon.read_deployment_by_name("evaluate-model/evaluate-model")
        made.append(soon.create_flow_run_from_deployment(deployment.id, state=Pending()).id)
        for _ in range(times):
            soon.set_flow_run_state(made[-1], Pending(), force=True)
            soon.set_flow_run_state(made[-1], Running())
        assert soon.read_flow_run(made[-1]).run_count == times
        return made[-1]

    yield make
    for run in made:
        soon.delete_flow_run(run)


def test_lost_and_crashed_runs_start_again_but_not_for_ever(site, soon, make_run):
    lost, crashed, hopeless = make_run(1), make_run(MAX_RESTARTS), make_run(MAX_RESTARTS + 1)
    emit_event(
        "prefect.flow-run.heartbeat",
        resource={"prefect.resource.id": f"prefect.flow-run.{lost}"},
        related=[{"prefect.resource.id": "prefect.tag.domainlm", "prefect.resource.role": "tag"}],
    )
    soon.set_flow_run_state(hopeless, Crashed())
    soon.set_flow_run_state(crashed, Crashed())
    site.wait_for_state(crashed, "AwaitingRetry")
    site.wait_for_state(lost, "AwaitingRetry")
    assert "No heartbeat for 0:00:10." in [state.message for state in soon.read_flow_run_states(lost)]
    assert soon.read_flow_run(hopeless).state.is_crashed()
