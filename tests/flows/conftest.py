"""A small pharmacopoeia, and one whole build of it through the real flow."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from domainlm.flows.build_domain_model import build_domain_model
from domainlm.flows.pharmacopoeia.files import write_pharmacopoeia
from domainlm.flows.recipe import Recipe
from domainlm.flows.recipe_loading import load_recipe
from domainlm.tasks.runtime import Runtime
from domainlm.tasks.store import Sealed

SMALL = (
    "train.model={preset: llama-6m, layers: 2, width: 32, heads: 2, kv_heads: 2, mlp_width: 64}",
    "train.schedule={warmup_tokens: 2048}",
    "mix.token_budget=40000",
    "mix.max_repetitions=50",
    "tokenizer.vocab_size=600",
    "evaluate.benchmarks.medqa.limit=8",
    "evaluate.benchmarks.pubmedqa.limit=4",
    "evaluate.held_out_bytes=3000",
    "decontaminate.held_out_share=0.1",
)


@dataclass(frozen=True)
class Built:
    """A finished build, and by what it was asked for."""

    recipe: Recipe
    runtime: Runtime
    published: Sealed


@pytest.fixture(scope="session")
def pharmacopoeia(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped corpus at a tenth of its size, with all of its noise."""
    out = tmp_path_factory.mktemp("data") / "pharmacopoeia"
    write_pharmacopoeia(out, seed=0, scale=0.1)
    return out


@pytest.fixture(scope="session")
def small_recipe() -> Recipe:
    """The demo recipe with a model and a budget that take seconds."""
    return load_recipe("demo", SMALL)


@pytest.fixture(scope="session")
def built(
    pharmacopoeia: Path, small_recipe: Recipe, tmp_path_factory: pytest.TempPathFactory, prefect_server: None
) -> Built:
    """One build of the small recipe by the real flow."""
    runtime = Runtime(store=tmp_path_factory.mktemp("store"), data=pharmacopoeia)
    published = build_domain_model(small_recipe, runtime)
    assert isinstance(published, Sealed)
    return Built(small_recipe, runtime, published)
