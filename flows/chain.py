"""The chain: which stage follows which. It is written once; a `Builder` walks it to build, a `Planner` to foresee."""

from collections.abc import Mapping
from typing import Any, Protocol, TypeVar

from domainlm.eval.config import Weights
from domainlm.flows.materials import Materials
from domainlm.flows.recipe import Recipe
from domainlm.tasks.acquire import acquire
from domainlm.tasks.annotate import annotate
from domainlm.tasks.decontaminate import decontaminate
from domainlm.tasks.deduplicate import deduplicate
from domainlm.tasks.evaluate import evaluate
from domainlm.tasks.extend_tokenizer import extend_tokenizer
from domainlm.tasks.filter import FilterConfig
from domainlm.tasks.filter import filter as filter_documents
from domainlm.tasks.learn_domain import learn_domain, parts_of
from domainlm.tasks.manifest import Part
from domainlm.tasks.mix import mix
from domainlm.tasks.publish import publish
from domainlm.tasks.stage import Stage
from domainlm.tasks.tokenize import tokenize
from domainlm.tasks.tokenize_held_out import tokenize_held_out
from domainlm.tasks.train import train
from domainlm.tasks.train_tokenizer import train_tokenizer

ConfigT = TypeVar("ConfigT")


class Output(Protocol):
    """What a stage gives to those after it: sealed, or foreseen."""

    def part(self, prefix: str = "") -> Part:
        """Some of the files, as an input."""
        ...


class Make(Protocol):
    """Builds a stage, or foresees it, and keeps what it made by `<stage>.<label>`."""

    @property
    def made(self) -> Mapping[str, Output]:
        """The outputs so far."""
        ...

    def __call__(self, stage: Stage[Any], config: object, inputs: Mapping[str, Part], *, label: str = "") -> Output:
        """The stage's output."""
        ...


def build_model(recipe: Recipe, materials: Materials, make: Make) -> Output:
    """Sources in, a published model out."""
    corpora = curate(recipe, materials, make)
    tokenizer = first_tokenizer(recipe, materials, corpora, make)
    tokens = {
        f"corpus.{name}": make(
            tokenize, recipe.tokenize, {"documents": corpora[name].part("kept"), "tokenizer": tokenizer}, label=name
        ).part()
        for name in recipe.mixed_sources
    }
    mixture = make(mix, recipe.mix, {"tokenizer": tokenizer, **tokens})
    given = {"init_from": materials.init_from, "trunk": materials.trunk}
    weights = {name: part for name, part in given.items() if part is not None}
    watched_by = watched_text(recipe, corpora, tokenizer, make)
    train_inputs = {"mixture": mixture.part(), "tokenizer": tokenizer, **tokens, **weights, **watched_by}
    model = make(train, recipe.train_config(), train_inputs).part("model")
    score_model(recipe, model, corpora, materials, make)
    everything = {name: output.part() for name, output in make.made.items() if name != tokenize_held_out.name}
    return make(publish, recipe.publish_config(), everything, label=recipe.name)


def curate(recipe: Recipe, materials: Materials, make: Make) -> dict[str, Output]:
    """The corpus of every source: read, measured, filtered, deduplicated against all others, decontaminated."""
    acquired, kept = {}, {}
    for source in recipe.sources:
        files = {"files": materials.files[source.name]} if source.name in materials.files else {}
        acquired[source.name] = make(acquire, source.acquire_config(), files, label=source.name).part("kept")
    shared_model = domain_model(recipe.filter, acquired, make)
    for source in recipe.sources:
        rules, documents = source.filter or recipe.filter, {"documents": acquired[source.name]}
        model = domain_model(source.filter, acquired, make, label=source.name) if source.filter else shared_model
        annotated = make(annotate, rules.annotate_config(), {**documents, **model}, label=source.name)
        selected = {**documents, "annotations": annotated.part("annotated")}
        kept[source.name] = make(filter_documents, rules, selected, label=source.name)
    distinct = make(deduplicate, recipe.deduplicate, {name: one.part("kept") for name, one in kept.items()})
    return {
        name: make(
            decontaminate,
            recipe.decontaminate_config(),
            {"documents": distinct.part(f"kept/{name}"), **benchmark_inputs(materials)},
            label=name,
        )
        for name in kept
    }


def domain_model(rules: FilterConfig, acquired: Mapping[str, Part], make: Make, *, label: str = "") -> dict[str, Part]:
    """What tells the domain, learned from sources as they were acquired, where a rule asks for it."""
    config = rules.domain_config()
    if config is None:
        return {}
    return {"domain": make(learn_domain, config, dict(parts_of(config, acquired)), label=label).part("model")}


def first_tokenizer(recipe: Recipe, materials: Materials, corpora: Mapping[str, Output], make: Make) -> Part:
    """The tokenizer: trained on the corpora of the mixture, or that of the weights that training continues from."""
    if materials.init_from is not None:
        return extended_tokenizer(recipe, materials.init_from, corpora, make)
    inputs = {f"corpus.{name}": corpora[name].part("kept") for name in recipe.mixed_sources}
    return make(train_tokenizer, recipe.tokenizer, inputs).part("tokenizer")


def extended_tokenizer(recipe: Recipe, base: Part, corpora: Mapping[str, Output], make: Make) -> Part:
    """The tokenizer of the first weights, with new tokens where the recipe asks for them."""
    if recipe.extend_tokenizer is None:
        return base
    learned = {f"corpus.{name}": corpora[name].part("kept") for name in recipe.extend_tokenizer.sources}
    inputs = {"tokenizer": base, **learned, **held_out_inputs(corpora)}
    return make(extend_tokenizer, recipe.extend_tokenizer, inputs).part("tokenizer")


def watched_text(recipe: Recipe, corpora: Mapping[str, Output], tokenizer: Part, make: Make) -> dict[str, Part]:
    """The held-out text that training is watched by: looked at, so that it renames no model."""
    parts = held_out_inputs(corpora)
    if not parts:
        return {}
    text = make(tokenize_held_out, recipe.tokenize_held_out_config(), {"tokenizer": tokenizer, **parts})
    return {"held_out": text.part().looked_at()}


def score_model(recipe: Recipe, model: Part, corpora: Mapping[str, Output], materials: Materials, make: Make) -> None:
    """Scores of the model and of its base, on the benchmarks and the held-out documents of every source.

    The base is what the model is compared with: the weights it started from, or its untrained twin.
    """
    score(recipe, model, "trained", corpora, materials, make, label="model")
    if materials.init_from is None:
        score(recipe, model, "untrained", corpora, materials, make, label="base")
    else:
        score(recipe, materials.init_from, "trained", corpora, materials, make, label="base")


def score(
    recipe: Recipe,
    model: Part,
    weights: Weights,
    corpora: Mapping[str, Output],
    materials: Materials,
    make: Make,
    *,
    label: str,
) -> Output:
    """Scores of one model. A source without held-out documents has no bits per byte."""
    return make(
        evaluate,
        recipe.evaluate_config(weights),
        {"model": model, **benchmark_inputs(materials), **held_out_inputs(corpora)},
        label=label,
    )


def held_out_inputs(corpora: Mapping[str, Output]) -> dict[str, Part]:
    """The held-out documents, named as stages expect them; a source too small for any has none."""
    parts = {f"held_out.{name}": corpus.part("held_out") for name, corpus in corpora.items()}
    return {name: part for name, part in parts.items() if part.rows != 0}


def benchmark_inputs(materials: Materials) -> dict[str, Part]:
    """The benchmarks' files, named as stages expect them."""
    return {f"benchmark.{name}": part for name, part in materials.benchmarks.items()}
