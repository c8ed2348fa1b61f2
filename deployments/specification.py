"""prefect.yaml, read and checked: what `register` registers. Prefect's own `deploy` reads the same file."""

from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict

FOLDER = Path(__file__).parent
LOCAL_PROFILE = FOLDER / "profiles" / "local.yaml"


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ScheduleSpec(_Strict):
    """When a deployment starts by itself."""

    slug: str
    cron: str
    timezone: str
    active: bool


class ConcurrencySpec(_Strict):
    """How many runs at once, and what becomes of one more."""

    limit: int
    collision_strategy: Literal["ENQUEUE", "CANCEL_NEW"]


class WorkPoolSpec(_Strict):
    """The work pool whose workers execute the runs, and what they are told."""

    name: str
    job_variables: dict[str, object] = {}


class DeploymentSpec(_Strict):
    """One deployment."""

    name: str
    entrypoint: str
    tags: tuple[str, ...]
    work_pool: WorkPoolSpec
    concurrency_limit: ConcurrencySpec | None = None
    schedules: tuple[ScheduleSpec, ...] = ()


def _is_empty(value: object) -> object:
    if value != []:
        raise ValueError("a run executes the installed package: nothing is built, pushed or pulled.")
    return value


Nothing = Annotated[list[object], BeforeValidator(_is_empty)]


class Specification(BaseModel):
    """The whole file. `definitions` are its anchors, which YAML has put into their places."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    build: Nothing
    push: Nothing
    pull: Nothing
    deployments: tuple[DeploymentSpec, ...]


def specification() -> Specification:
    """What prefect.yaml says."""
    return Specification.model_validate(yaml.safe_load((FOLDER / "prefect.yaml").read_text(encoding="utf-8")))
