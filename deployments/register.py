"""Registers the deployments: `domainlm deploy`. Done twice it changes nothing; what has changed is updated.

prefect.yaml says what there is; a recipe and a runtime become the default parameters, in their typed form, so that the
run form of the Prefect UI opens filled in. What people switch on or off there (a schedule, an automation) and how they
set up the work pool stays as they left it.
"""

from collections.abc import Callable, Container, Mapping
from uuid import UUID

from prefect import Flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import DeploymentCreate, DeploymentScheduleCreate, WorkPoolCreate
from prefect.client.schemas.objects import ConcurrencyOptions
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule
from prefect.exceptions import ObjectNotFound
from prefect.flows import load_flow_from_entrypoint
from prefect.settings import get_current_settings
from prefect.utilities.callables import parameter_schema
from prefect.workers.process import ProcessWorker

from domainlm.deployments.automations import automations, register_automation
from domainlm.deployments.specification import DeploymentSpec, specification
from domainlm.flows.recipe import Recipe
from domainlm.tasks.runtime import Runtime

COMPARED = (
    "description",
    "entrypoint",
    "tags",
    "parameters",
    "parameter_openapi_schema",
    "enforce_parameter_schema",
    "work_pool_name",
    "job_variables",
    "pull_steps",
)


class NoServer(RuntimeError):
    """There is no Prefect server to register anything with."""


def register(say: Callable[[str], None], recipe: Recipe, runtime: Runtime) -> None:
    """Bring the Prefect server in line with prefect.yaml, and `say` one line for each thing there."""
    if get_current_settings().api.url is None:
        raise NoServer(
            "deployments need a Prefect server that stays, and none is set. Start one (`prefect server start`) and say "
            "where it is: prefect config set PREFECT_API_URL=http://127.0.0.1:4200/api"
        )
    parameters = {"recipe": recipe.model_dump(mode="json"), "runtime": runtime.model_dump(mode="json")}
    deployments = specification().deployments
    with get_client(sync_client=True) as client:
        for pool in sorted({deployment.work_pool.name for deployment in deployments}):
            say(f"work pool {pool}: {_register_pool(client, pool)}")
        for spec in deployments:
            say(f"deployment {spec.name}: {_register_deployment(client, spec, parameters)}")
        for automation in automations():
            say(f"automation {automation.name!r}: {register_automation(client, automation)}")


def _register_pool(client: SyncPrefectClient, name: str) -> str:
    try:
        client.read_work_pool(name)
    except ObjectNotFound:
        template = ProcessWorker.get_default_base_job_template()
        client.create_work_pool(WorkPoolCreate(name=name, type=ProcessWorker.type, base_job_template=template))
        return "created"
    return "unchanged"


def _register_deployment(client: SyncPrefectClient, spec: DeploymentSpec, parameters: Mapping[str, object]) -> str:
    flow: Flow[..., object] = load_flow_from_entrypoint(spec.entrypoint, use_placeholder_flow=False)
    try:
        there = client.read_deployment_by_name(f"{flow.name}/{spec.name}")
    except ObjectNotFound:
        there = None
    switched_on = {schedule.slug for schedule in there.schedules if schedule.active} if there else set()
    wanted = _wanted(spec, flow, client.create_flow(flow), parameters, switched_on)
    if there is not None and comparable(wanted) == comparable(there):
        return "unchanged"
    client.create_deployment(**{name: getattr(wanted, name) for name in wanted.model_fields_set})
    return "created" if there is None else "updated"


def _wanted(
    spec: DeploymentSpec,
    flow: Flow[..., object],
    flow_id: UUID,
    parameters: Mapping[str, object],
    switched_on: Container[str | None],
) -> DeploymentCreate:
    """The deployment as it should be; a schedule that somebody switched on stays on."""
    limit = spec.concurrency_limit
    return DeploymentCreate(
        flow_id=flow_id,
        name=spec.name,
        description=flow.description,
        entrypoint=spec.entrypoint,
        tags=list(spec.tags),
        parameters=dict(parameters),
        parameter_openapi_schema=parameter_schema(flow).model_dump_for_openapi(),
        enforce_parameter_schema=True,
        work_pool_name=spec.work_pool.name,
        job_variables=dict(spec.work_pool.job_variables),
        pull_steps=[],
        concurrency_limit=limit and limit.limit,
        concurrency_options=limit and ConcurrencyOptions(collision_strategy=limit.collision_strategy),
        schedules=[
            DeploymentScheduleCreate(
                slug=one.slug,
                schedule=CronSchedule(cron=one.cron, timezone=one.timezone),
                active=one.active or one.slug in switched_on,
            )
            for one in spec.schedules
        ],
    )


def comparable(deployment: DeploymentCreate | DeploymentResponse) -> Mapping[str, object]:
    """What has to be equal for a deployment to be as it should be."""
    facts: dict[str, object] = deployment.model_dump(mode="json", include=set(COMPARED))
    options = deployment.concurrency_options
    return {
        **facts,
        "limit": _concurrency_limit(deployment),
        "collision_strategy": options and options.collision_strategy,
        "schedules": [(one.slug, one.active, one.schedule.model_dump(mode="json")) for one in deployment.schedules],
    }


def _concurrency_limit(deployment: DeploymentCreate | DeploymentResponse) -> int | None:
    if isinstance(deployment, DeploymentCreate):
        return deployment.concurrency_limit
    limit = deployment.global_concurrency_limit
    return limit.limit if limit else None
