"""docs/deploy.md, typed into a terminal: its commands against a real server and a real process worker."""

import json
from pathlib import Path

import pytest
from prefect.client.schemas.sorting import ArtifactSort

from domainlm.tasks.store import Store

pytestmark = pytest.mark.timeout(900)  # a whole build, in a fixture, on a machine that is busy

FOLDER = Path(__file__).parent


def test_every_command_of_the_guide_is_typed_by_a_test(guide_commands):
    tests = "".join(path.read_text(encoding="utf-8") for path in FOLDER.glob("*.py"))
    assert len(guide_commands) >= 12
    assert [command for command in guide_commands if f'"{command}"' not in tests and f"'{command}'" not in tests] == []


def test_the_settings_are_prefects(deployed):
    command = "prefect config set PREFECT_SERVER_ANALYTICS_ENABLED=false PREFECT_SERVER_UI_V2_ENABLED=false"
    assert "Set 'PREFECT_SERVER_UI_V2_ENABLED' to 'false'." in deployed.type_in(command)
    profiles = (deployed.folder / "prefect" / "profiles.toml").read_text()
    assert 'PREFECT_PLUGINS_ENABLED = "true"' in profiles
    assert 'PREFECT_SERVER_ANALYTICS_ENABLED = "false"' in profiles


def test_the_literal_command_runs_the_build_to_its_end_and_shows_it(built):
    (report,) = built.folder.glob("store/my-recipe/publish-my-recipe-*/report.html")
    with built.client() as client:
        newest_first = client.read_artifacts(sort=ArtifactSort.CREATED_DESC)
    artifacts = {artifact.key: artifact.data for artifact in newest_first}  # of each key the oldest
    assert set(artifacts) >= {f"my-recipe-{kind}" for kind in ("plan", "funnel", "scores", "lineage", "report")}
    assert "| train | build | never built |" in artifacts["my-recipe-plan"]
    assert str(report) in artifacts["my-recipe-report"]
    held_out = {"stage": "decontaminate.cases", "fate": "held_out", "documents": 4}
    assert held_out in json.loads(artifacts["my-recipe-funnel"])


def test_a_week_without_new_documents_ends_at_once(built):
    (schedule,) = built.deployment("continue-pretraining").schedules
    assert "0 3 * * 6" in built.type_in("prefect deployment schedule ls continue-pretraining/continue-pretraining")
    built.type_in(
        "prefect deployment schedule resume continue-pretraining/continue-pretraining SCHEDULE_ID",
        SCHEDULE_ID=schedule.id,
    )
    assert [schedule.active for schedule in built.deployment("continue-pretraining").schedules] == [True]
    with built.client() as client:
        client.update_deployment_schedule(built.deployment("continue-pretraining").id, schedule.id, active=False)
    published = Store(built.folder / "store/my-recipe").sealed("publish")
    built.type_in("prefect deployment run continue-pretraining --watch")
    with built.client() as client:
        messages = [run.state.message for run in client.read_flow_runs() if run.state and run.state.is_completed()]
    assert "Nothing new: my-recipe was trained on these very documents." in messages
    assert Store(built.folder / "store/my-recipe").sealed("publish") == published


def test_a_person_approves_what_was_published(built):
    assert "approved by nobody yet" in built.run("domainlm", "show", "my-recipe.yaml")
    command = 'domainlm approve my-recipe.yaml --by "A. Person" --reason "read the report, asked it ten questions"'
    assert "approved by A. Person" in built.type_in(command)


def test_any_model_can_be_scored(built):
    built.type_in("prefect deployment run evaluate-model -p model=published:my-recipe --watch")
    with built.client() as client:
        (scores,) = [artifact for artifact in client.read_artifacts() if artifact.key == "my-recipe-model-scores"]
    assert {row["benchmark"] for row in json.loads(scores.data)} >= {"medqa"}
