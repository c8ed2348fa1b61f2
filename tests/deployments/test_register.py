"""`domainlm deploy` against a real server."""

import pytest
from prefect.client.orchestration import get_client

from domainlm.deployments.register import comparable, register
from domainlm.deployments.specification import FOLDER, specification
from domainlm.flows.recipe import Recipe
from domainlm.flows.recipe_loading import load_recipe
from domainlm.tasks.runtime import Runtime

NAMES = ("build-domain-model", "continue-pretraining", "evaluate-model")


def test_registering_again_changes_nothing(deployed, in_process, here):
    said: list[str] = []
    with get_client(sync_client=True) as client:
        before = [client.read_deployment_by_name(f"{name}/{name}") for name in NAMES]
        register(said.append, load_recipe("my-recipe.yaml"), here)
        after = [client.read_deployment_by_name(f"{name}/{name}") for name in NAMES]
        automations = [automation.name for automation in client.read_automations()]
    assert len(said) == 6
    assert all(line.endswith(": unchanged") for line in said), said
    assert [deployment.updated for deployment in before] == [deployment.updated for deployment in after]
    assert sorted(automations) == ["domainlm: crashed runs start again", "domainlm: lost runs crash"]


def test_the_run_form_opens_with_the_whole_recipe_filled_in(deployed):
    deployment = deployed.deployment("build-domain-model")
    recipe = Recipe.model_validate(deployment.parameters["recipe"])
    assert recipe.mix.token_budget == 6400
    assert deployment.parameters["recipe"]["train"]["optimizer"]["beta2"] == 0.95
    assert deployment.parameters["runtime"]["workers"] == 2


def test_the_form_of_a_source_begins_with_its_name_and_its_path(deployed):
    """What everybody fills in comes first, what few do last."""
    schema = deployed.deployment("build-domain-model").parameter_openapi_schema
    assert list(schema["definitions"]["Source"]["properties"])[:4] == ["name", "path", "format", "license"]


def test_every_field_of_the_run_form_has_a_title_and_a_description(deployed):
    schema = deployed.deployment("build-domain-model").parameter_openapi_schema
    models = {**schema["definitions"], "Parameters": schema}
    unclear = []
    for name, model in models.items():
        for field, shown in model.get("properties", {}).items():
            referred = models.get(shown.get("$ref", "").rpartition("/")[2], {})
            options = [one for one in shown.get("anyOf", ()) if one.get("$ref")]  # the option's title is shown
            if "const" not in shown and not (shown.get("title") or referred.get("title") or options):
                unclear.append(f"{name}.{field} has no title")
            if "const" not in shown and not (shown.get("description") or referred.get("description")):
                unclear.append(f"{name}.{field} has no description")
    assert unclear == []


def test_a_schedule_is_off_until_somebody_switches_it_on_and_then_stays_on(deployed, in_process, here):
    with get_client(sync_client=True) as client:
        deployment = client.read_deployment_by_name("continue-pretraining/continue-pretraining")
        (schedule,) = deployment.schedules
        assert (schedule.slug, schedule.active, schedule.schedule.cron) == ("weekly", False, "0 3 * * 6")
        client.update_deployment_schedule(deployment.id, schedule.id, active=True)
        register(lambda line: None, load_recipe("my-recipe.yaml"), here)
        (kept,) = client.read_deployment_by_name("continue-pretraining/continue-pretraining").schedules
        assert (kept.id, kept.active) == (schedule.id, True)
        client.update_deployment_schedule(deployment.id, schedule.id, active=False)


def test_a_second_build_is_cancelled_rather_than_queued(deployed):
    found = [deployed.deployment(name) for name in NAMES]
    limits = [one.global_concurrency_limit.limit if one.global_concurrency_limit else None for one in found]
    assert limits == [1, 1, None]
    assert [one.concurrency_options and one.concurrency_options.collision_strategy.value for one in found] == [
        "CANCEL_NEW",
        "CANCEL_NEW",
        None,
    ]


def test_another_recipe_and_another_place_update_the_deployments(deployed, in_process, here):
    said: list[str] = []
    register(said.append, load_recipe("my-recipe.yaml", ["mix.token_budget=12800"]), Runtime(data="elsewhere"))
    assert [line for line in said if line.endswith("updated")] == [f"deployment {name}: updated" for name in NAMES]
    parameters = deployed.deployment("evaluate-model").parameters
    assert parameters["recipe"]["mix"]["token_budget"] == 12800
    assert parameters["runtime"]["data"] == "elsewhere"
    register(said.append, load_recipe("my-recipe.yaml"), here)


def test_prefects_own_command_registers_the_same_without_a_recipe(deployed, in_process, here):
    ours = {name: deployed.deployment(name) for name in NAMES}
    deployed.run("prefect", "--no-prompt", "deploy", "--prefect-file", str(FOLDER / "prefect.yaml"), "--all")
    for name, before in ours.items():
        after = deployed.deployment(name)
        assert after.parameters == {}
        assert comparable(after.model_copy(update={"parameters": before.parameters})) == comparable(before)
    register(lambda line: None, load_recipe("my-recipe.yaml"), here)


@pytest.mark.parametrize("step", ["build", "push", "pull"])
def test_no_deployment_fetches_code(step):
    assert getattr(specification(), step) == []
