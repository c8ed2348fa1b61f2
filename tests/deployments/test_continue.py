"""What continued pretraining takes for new, and what it makes of a recipe."""

import pytest

from domainlm.flows.chain import build_model, curate
from domainlm.flows.continue_pretraining import continuation, nothing_new
from domainlm.flows.materials import gather
from domainlm.flows.planner import Planner
from domainlm.flows.recipe_loading import load_recipe
from domainlm.tasks.runtime import Runtime
from domainlm.tasks.store import Store

pytestmark = pytest.mark.timeout(900)  # a whole build, in a fixture, on a machine that is busy


class Make:
    """Builds stages without Prefect."""

    def __init__(self, store, runtime):
        self.store, self.runtime, self.made = store, runtime, {}

    def __call__(self, stage, config, inputs, *, label=""):
        return stage.build(self.store, config, inputs, self.runtime, label=label)


@pytest.fixture
def recipe(built, in_process):
    return load_recipe("my-recipe.yaml")


def test_a_continuation_starts_from_the_published_weights_and_their_tokenizer(recipe):
    continued = continuation(recipe)
    assert continued.train.init_from == "published:my-recipe"
    assert (continued.train.model, continued.tokenizer) == (None, None)
    assert continued.train.peak_lr == recipe.train.peak_lr
    named = load_recipe("my-recipe.yaml", ["train={init_from: models/base}", "tokenizer=null"])
    assert continuation(named) == named


def test_a_new_document_is_new_and_training_goes_on_from_the_published_weights(recipe, write_corpus, built):
    continued, runtime = continuation(recipe), Runtime()
    make = Make(Store(runtime.store / recipe.domain), runtime)
    assert nothing_new(continued, curate(continued, gather(continued, runtime), make), make.store)
    added = built.folder / "documents" / "00001.jsonl"
    write_corpus(added, range(160, 170))
    try:
        materials = gather(continued, runtime)
        assert not nothing_new(continued, curate(continued, materials, make), make.store)
        planner = Planner(make.store)
        build_model(continued, materials, planner)
    finally:
        added.unlink()
    assert {line.name: line.reused for line in planner.lines} == {
        "acquire.cases": True,
        "annotate.cases": True,
        "filter.cases": True,
        "deduplicate": True,
        "decontaminate.cases": True,
        "tokenize.cases": False,
        "tokenize_held_out": False,
        "mix": False,
        "train": False,
        "evaluate.model": False,
        "evaluate.base": False,
        "publish.my-recipe": False,
    }
    (train,) = [line for line in planner.lines if line.name == "train"]
    assert "input init_from is new" in train.because


def test_what_is_not_published_cannot_be_continued(recipe):
    other = recipe.model_copy(update={"name": "other"})
    with pytest.raises(FileNotFoundError, match="no model of recipe 'other' is published"):
        gather(continuation(other), Runtime())
