"""The flow `build-domain-model`: raw sources in, a published model out. Stages already in the store are reused.

domainlm build RECIPE                                   here and now, with an embedded Prefect server
prefect deployment run build-domain-model               on a worker, once `domainlm deploy` has registered it
"""

from domainlm.flows import settings  # noqa: F401, I001 - before Prefect

from prefect import flow
from prefect.states import Completed

from domainlm.flows.artifacts import show_funnel, show_plan, show_results
from domainlm.flows.builder import Builder, Ended, Reached, RunRecord, cancelled_or_done
from domainlm.flows.chain import build_model
from domainlm.flows.materials import gather
from domainlm.flows.planner import Planner, Until, up_to
from domainlm.flows.recipe import Recipe
from domainlm.tasks.runtime import Runtime
from domainlm.tasks.store import Sealed, Store

HERE = Runtime()


@flow(name="build-domain-model", flow_run_name="{recipe.name}", persist_result=False)
def build_domain_model(recipe: Recipe, runtime: Runtime = HERE, until: Until | None = None) -> Ended:
    """Raw sources in, a published model out. Stages already in the store are reused.

    Args:
        recipe: The domain model, from its sources to its benchmarks. Everything in it decides bytes.
        runtime: Paths, workers, processes, devices: where and how wide, never what.
        until: Stop after the last stage of this name, to look at the corpus before a model is trained on it. The next
            run goes on from there.
    """
    return cancelled_or_done(lambda: build(recipe, runtime, until))


def build(recipe: Recipe, runtime: Runtime, until: Until | None = None) -> Ended:
    """The body of the flow, for every flow that ends in a published model; or before it, if it is asked to."""
    store = Store(runtime.store / recipe.domain)
    materials = gather(recipe, runtime)
    planner = Planner(store)
    build_model(recipe, materials, planner)
    lines = up_to(until, planner.lines)
    show_plan(recipe, lines)
    builder = Builder(store, runtime, last=lines[-1].name if until else None)
    record = RunRecord(store.root / "runs", recipe, runtime)
    try:
        published = build_model(recipe, materials, builder)
    except Reached:
        record.write(f"completed until {until}", builder.records)
        show_funnel(recipe, builder.made)
        return Completed(message=f"Stopped after {lines[-1].name}, as asked. Run it without `until`, and it goes on.")
    except BaseException as error:
        record.write(f"failed: {type(error).__name__}: {error}", builder.records)
        raise
    record.write("completed", builder.records)
    assert isinstance(published, Sealed)
    show_funnel(recipe, builder.made)
    show_results(recipe, builder.made, published)
    return published
