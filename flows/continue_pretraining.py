"""The flow `continue-pretraining`: train the newest published model of a recipe on, with what has arrived since.

prefect deployment run continue-pretraining             on a worker; weekly, once its schedule is switched on
"""

from domainlm.flows import settings  # noqa: F401, I001 - before Prefect

from collections.abc import Mapping
from dataclasses import replace

from prefect import flow
from prefect.states import Completed

from domainlm.flows.build_domain_model import HERE, build
from domainlm.flows.builder import Builder, Ended, cancelled_or_done
from domainlm.flows.chain import Output, curate
from domainlm.flows.materials import APPROVED, PUBLISHED, gather
from domainlm.flows.recipe import Recipe
from domainlm.flows.show import newest
from domainlm.tasks.runtime import Runtime
from domainlm.tasks.store import Sealed, Store


@flow(name="continue-pretraining", flow_run_name="{recipe.name}", persist_result=False)
def continue_pretraining(recipe: Recipe, runtime: Runtime = HERE, approved_only: bool = False) -> Ended:
    """Train the newest published model on with the documents that are new since; without any it ends at once.

    Args:
        recipe: The domain model, from its sources to its benchmarks. Weights to start from are the recipe's newest
            published ones, unless it names others.
        runtime: Paths, workers, processes, devices: where and how wide, never what.
        approved_only: Go on from the newest model that a person has approved (`domainlm approve`), and from no other:
            a release that turned out badly is then never built upon. Without an approved one the run fails at once.
    """
    return cancelled_or_done(lambda: train_on(continuation(recipe, approved_only=approved_only), runtime))


def train_on(recipe: Recipe, runtime: Runtime) -> Ended:
    """The body of the flow. The corpora are built first: only their bytes tell whether anything is new."""
    store = Store(runtime.store / recipe.domain)
    corpora = curate(recipe, gather(recipe, runtime), Builder(store, runtime))
    if nothing_new(recipe, corpora, store):
        return Completed(message=f"Nothing new: {recipe.name} was trained on these very documents.")
    return build(recipe, runtime)


def continuation(recipe: Recipe, *, approved_only: bool = False) -> Recipe:
    """The recipe with the newest published (or approved) weights, and their tokenizer, to start from."""
    if recipe.train.init_from is not None:
        return recipe
    init_from = f"{APPROVED if approved_only else PUBLISHED}{recipe.name}"
    train = replace(recipe.train, init_from=init_from, model=None, trunk=None)
    return recipe.model_copy(update={"train": train, "tokenizer": None})


def nothing_new(recipe: Recipe, corpora: Mapping[str, Output], store: Store) -> bool:
    """Whether the corpora of the mixture hold the very bytes that the newest published model was trained on."""
    if not store.sealed("publish", recipe.name):
        return False
    stages = newest(store, recipe.name).stages
    seen = {name: stage.manifest.inputs["documents"].digest for name, stage in stages.items() if is_tokens(stage)}
    return seen == {f"tokenize.{name}": corpora[name].part("kept").digest for name in recipe.mixed_sources}


def is_tokens(stage: Sealed) -> bool:
    """Whether it holds the token shards of a corpus; its input is then the corpus."""
    return stage.manifest.stage == "tokenize"
