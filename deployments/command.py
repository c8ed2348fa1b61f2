"""The program `domainlm`: the command line of flows/cli.py, and the one command that needs this layer, `deploy`."""

from typing import Annotated

import typer

from domainlm.flows.cli import (
    DATA,
    STORE,
    DataPath,
    Place,
    RuntimeFile,
    Settings,
    StorePath,
    app,
    main,
    recipe_of,
    runtime_of,
)
from domainlm.flows.printing import out

__all__ = ["deploy", "main"]


@app.command()
def deploy(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="The recipe that a run starts from.")] = "demo",
    settings: Settings = None,
    store: StorePath = STORE,
    data: DataPath = DATA,
    runtime: RuntimeFile = None,
    place: Place = None,
) -> None:
    """Register the deployments with the Prefect server: work pool, build, continued pretraining, evaluation.

    The paths are relative to the directory in which the worker will be started.
    """
    from domainlm.deployments.register import register
    from domainlm.deployments.specification import LOCAL_PROFILE

    here = runtime_of(store, data, runtime or LOCAL_PROFILE, place)
    register(out.print, recipe_of(recipe, settings), here)
