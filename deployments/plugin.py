"""Lets `prefect deployment run build-domain-model` find `build-domain-model/build-domain-model`.

Prefect's client splits a deployment's name at its slash and fails where there is none. domainlm names each flow and its
deployment alike, so a bare name can stand for both. Prefect loads this through the entry point group `prefect.plugins`
where plugins are switched on: `[tool.prefect.plugins] enabled = true` in this checkout's pyproject.toml, elsewhere
`prefect config set PREFECT_PLUGINS_ENABLED=true`. A name that is not found this way is left to Prefect.
"""

import functools
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from prefect.exceptions import ObjectNotFound
from prefect.plugins import HookContext, register_hook

if TYPE_CHECKING:
    from prefect.client.schemas.responses import DeploymentResponse

Lookup = Callable[[Any, str], "DeploymentResponse"]
AsyncLookup = Callable[[Any, str], Awaitable["DeploymentResponse"]]

log = logging.getLogger(__name__)


@register_hook
def setup_environment(*, ctx: HookContext) -> None:
    """Called by Prefect when it is imported: teach its clients bare names. Another Prefect is left as it is."""
    try:
        from prefect.client.orchestration import PrefectClient, SyncPrefectClient

        slow, fast = PrefectClient.read_deployment_by_name, SyncPrefectClient.read_deployment_by_name
    except (ImportError, AttributeError) as error:
        log.debug("prefect %s has other clients; write flow/deployment in full. %s", ctx.prefect_version, error)
        return
    if not hasattr(slow, "__wrapped__"):
        setattr(PrefectClient, "read_deployment_by_name", _bare_name_async(slow))  # noqa: B010
        setattr(SyncPrefectClient, "read_deployment_by_name", _bare_name(fast))  # noqa: B010


def _bare_name_async(original: AsyncLookup) -> AsyncLookup:
    @functools.wraps(original)
    async def read_deployment_by_name(client: Any, name: str) -> "DeploymentResponse":
        if "/" not in name:
            try:
                return await original(client, f"{name}/{name}")
            except ObjectNotFound:
                log.debug("no deployment %s/%s", name, name)
        return await original(client, name)

    return read_deployment_by_name


def _bare_name(original: Lookup) -> Lookup:
    @functools.wraps(original)
    def read_deployment_by_name(client: Any, name: str) -> "DeploymentResponse":
        if "/" not in name:
            try:
                return original(client, f"{name}/{name}")
            except ObjectNotFound:
                log.debug("no deployment %s/%s", name, name)
        return original(client, name)

    return read_deployment_by_name
