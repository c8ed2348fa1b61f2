"""The automations: what the Prefect server does by itself for runs that carry the tag `domainlm`.

A worker that dies tells nobody. Its run stops beating, is declared crashed, and is scheduled again; the stage that
was interrupted resumes from its newest checkpoint, and everything sealed before it is reused.
"""

from datetime import timedelta

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture

TAG = "domainlm"
LOST_AFTER = timedelta(minutes=10)  # beats come every 60 s; a 90 s window crashed a healthy run on a busy server
MAX_RESTARTS = 3  # a run that has crashed four times will crash a fifth time
# A worker reports a crash at once, and again when its hooks are done, 20 s later on a busy machine: a run that was
# started again in between was started twice.
RESTARTED_AFTER = timedelta(minutes=1)

# Any of these shows that a run is alive, has ended, or rests on purpose. A cancelled run must not be revived.
LIFE_SIGNS = {
    f"prefect.flow-run.{name}"
    for name in ("heartbeat", "Completed", "Failed", "Cancelling", "Cancelled", "Crashed", "Paused", "Suspended")
}
STARTS = {f"prefect.flow-run.{name}" for name in ("Scheduled", "AwaitingRetry", "Pending", "Running")}
TAGGED = {"prefect.resource.id": f"prefect.tag.{TAG}", "prefect.resource.role": "tag"}


def automations() -> list[AutomationCore]:
    """The automations, as they should be on the server; they are known by their names."""
    return [lost_runs_crash(), crashed_runs_start_again()]


def lost_runs_crash(lost_after: timedelta = LOST_AFTER) -> AutomationCore:
    """A run without heartbeats is declared crashed."""
    return AutomationCore(
        name="domainlm: lost runs crash",
        description=f"A run that was not heard of for {lost_after} has lost its process.",
        trigger=EventTrigger(
            posture=Posture.Proactive,
            after={"prefect.flow-run.heartbeat"},
            expect=LIFE_SIGNS,
            for_each={"prefect.resource.id"},
            match={"prefect.resource.id": "prefect.flow-run.*"},
            match_related=TAGGED,
            within=lost_after,
        ),
        actions=[
            ChangeFlowRunState(state=StateType.CRASHED, name="Crashed", message=f"No heartbeat for {lost_after}.")
        ],
    )


def crashed_runs_start_again(after: timedelta = RESTARTED_AFTER) -> AutomationCore:
    """A crashed run is scheduled again if nobody else does so, as long as it has not crashed too often."""
    return AutomationCore(
        name="domainlm: crashed runs start again",
        description=f"The same run goes on from its last checkpoint, {after} after the crash, {MAX_RESTARTS} times.",
        trigger=EventTrigger(
            posture=Posture.Proactive,
            after={"prefect.flow-run.Crashed"},
            expect=STARTS,
            for_each={"prefect.resource.id"},
            match={
                "prefect.resource.id": "prefect.flow-run.*",
                "prefect.run-count": [str(count) for count in range(MAX_RESTARTS + 1)],
            },
            match_related=TAGGED,
            within=after,
        ),
        actions=[
            ChangeFlowRunState(state=StateType.SCHEDULED, name="AwaitingRetry", message="Started again after a crash.")
        ],
    )


def register_automation(client: SyncPrefectClient, wanted: AutomationCore) -> str:
    """Created, updated or left alone; looked up by name, for the server would take a second one of the same name."""
    there = client.read_automations_by_name(wanted.name)
    if not there:
        client.create_automation(wanted)
        return "created"
    wanted = wanted.model_copy(update={"enabled": there[0].enabled})
    if wanted.model_dump() == there[0].model_dump(include=set(AutomationCore.model_fields)):
        return "unchanged"
    client.update_automation(there[0].id, wanted)
    return "updated"
