"""The flow `evaluate-model`: scores of any model on a recipe's benchmarks and on the held-out text of its sources.

prefect deployment run evaluate-model -p model=models/some-hugging-face-directory
"""

from domainlm.flows import settings  # noqa: F401, I001 - before Prefect

import json

from prefect import flow
from prefect.artifacts import create_table_artifact

from domainlm.flows.artifacts import key
from domainlm.flows.build_domain_model import HERE
from domainlm.flows.builder import Builder, Ended, cancelled_or_done
from domainlm.flows.chain import curate, score
from domainlm.flows.materials import PUBLISHED, find_model, gather
from domainlm.flows.recipe import Recipe
from domainlm.tasks.runtime import Runtime
from domainlm.tasks.store import Sealed, Store


@flow(name="evaluate-model", flow_run_name="{recipe.name}", persist_result=False)
def evaluate_model(recipe: Recipe, runtime: Runtime = HERE, model: str | None = None) -> Ended:
    """Score a model on the recipe's benchmarks and on the held-out documents of its sources.

    Args:
        recipe: The domain model whose benchmarks and held-out documents are asked.
        runtime: Paths, workers, processes, devices: where and how wide, never what.
        model: A Hugging Face directory below the data directory, or `published:RECIPE` for the newest model that a
            recipe of this domain has published, or `approved:RECIPE` for the newest one that a person has approved.
            Null is the newest published one of this recipe.
    """
    wanted = model or f"{PUBLISHED}{recipe.name}"
    return cancelled_or_done(lambda: score_directory(recipe, runtime, wanted))


def score_directory(recipe: Recipe, runtime: Runtime, wanted: str) -> Sealed:
    """The body of the flow."""
    materials = gather(recipe, runtime)
    model = find_model(wanted, recipe, runtime, asked_by="model")
    builder = Builder(Store(runtime.store / recipe.domain), runtime)
    corpora = curate(recipe, materials, builder)
    scores = score(recipe, model, "trained", corpora, materials, builder, label="model")
    assert isinstance(scores, Sealed)
    create_table_artifact(
        json.loads((scores.path / "scores.json").read_text()),
        key=key(recipe, "model-scores"),
        description=f"Scores of {wanted}",
    )
    return scores
