"""Recipes: shipped ones are valid, extending and overriding change what they say, faults are told in full."""

import subprocess
import sys
from pathlib import Path

import pytest

from domainlm.flows.recipe import Recipe
from domainlm.flows.recipe_files import RecipeError, read_tree, shipped_recipes
from domainlm.flows.recipe_loading import load_recipe
from domainlm.tasks.filter import FilterConfig
from domainlm.tasks.licenses import LicensePolicy
from domainlm.tasks.profiles import PROFILES
from domainlm.tasks.rules import LengthRule


@pytest.mark.parametrize("name", shipped_recipes())
def test_a_shipped_recipe_is_valid(name: str) -> None:
    assert load_recipe(name).name == name


def test_settings_reach_lists_by_name_and_by_number() -> None:
    recipe = load_recipe(
        "realdata", ["mix.token_budget=2e6", "sources.plos.license=CC-BY-4.0", "evaluate.benchmarks.0.limit=7"]
    )
    assert recipe.mix.token_budget == 2_000_000
    assert recipe.source("plos").license == "CC-BY-4.0"
    assert recipe.evaluate.benchmarks[0].limit == 7


def test_a_recipe_that_extends_another_keeps_what_it_does_not_change() -> None:
    general, base = load_recipe("realdata-general"), load_recipe("realdata")
    assert general.train == base.train
    assert general.mixed_sources == ("general",)
    assert (general.domain, general.name) == ("realdata", "realdata-general")


def test_a_rule_is_changed_by_its_name_whether_the_recipe_lists_rules_or_not() -> None:
    change = "filter.rules.length.min_words=7"
    listed = load_recipe("demo", ["filter.rules=[{rule: license}, {rule: length, max_words: 900}]", change])
    assert [(rule.name, getattr(rule, "min_words", None)) for rule in listed.filter.rules] == [
        ("license", None),
        ("length", 7),
    ]
    default, changed = load_recipe("demo"), load_recipe("demo", [change])
    assert [rule.name for rule in changed.filter.rules] == [rule.name for rule in default.filter.rules]
    assert [rule for rule in changed.filter.rules if rule not in default.filter.rules] == [LengthRule(min_words=7)]
    legal = load_recipe("demo", ["filter.profile=legal", change])
    assert LengthRule(min_words=7, max_words=300_000) in legal.filter.rules
    with pytest.raises(RecipeError, match="lenght"):
        load_recipe("demo", ["filter.rules.lenght.min_words=7"])


def test_a_recipe_that_extends_another_changes_one_source_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "extends: demo\nname: mine\nsources: {leaflets: {license: MIT, license_evidence: ours}, pubmed: null}\n"
    )
    path.write_text(path.read_text() + "mix: {token_shares: {pubmed: null, general: 0.118}}\n")
    recipe, demo = load_recipe(str(path)), load_recipe("demo")
    assert [source.name for source in recipe.sources] == [name for name in demo.mixed_sources if name != "pubmed"]
    assert (recipe.source("leaflets").license, recipe.source("leaflets").format) == ("MIT", "parquet")
    assert recipe.source("abstracts") == demo.source("abstracts")
    path.write_text("extends: demo\nname: mine\nsources: {leaflet: {license: MIT}}\n")
    with pytest.raises(RecipeError, match="sources: nothing there is called 'leaflet'; there are abstracts, leaflets"):
        load_recipe(str(path))


def test_a_typo_is_told_with_its_path_its_value_and_the_nearest_name() -> None:
    with pytest.raises(RecipeError, match=r"mix\.tokn_budget: no such setting .*7.*did you mean `token_budget`\?"):
        load_recipe("realdata", ["mix.tokn_budget=7"])


def test_a_typo_inside_a_rule_is_told_with_the_nearest_name() -> None:
    with pytest.raises(RecipeError, match=r"min_wrds: no such setting .*did you mean `min_words`"):
        load_recipe("realdata", ["filter.rules=[{rule: length, min_wrds: 5}]"])


def test_a_typo_in_the_trainers_settings_is_told_with_the_nearest_name() -> None:
    with pytest.raises(RecipeError, match=r"train\.schedule\.warmup_token: .*did you mean `warmup_tokens`"):
        load_recipe("realdata", ["train.schedule.warmup_token=5"])


def test_every_fault_is_told_at_once() -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe("realdata", ["mix.token_budget=-1", "train.peak_lr=fast", "name=Bad Name"])
    assert all(path in str(caught.value) for path in ("mix.token_budget", "train.peak_lr", "name"))


def test_a_share_for_a_source_that_does_not_exist_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"mix\.token_shares\.trails: no source has this name; did you mean 'trials'"):
        load_recipe("realdata", ["mix.token_shares={trails: 1.0}"])


def test_a_warm_up_longer_than_the_budget_is_refused() -> None:
    """A small recipe that extends a large one inherits its warm-up: the rate then never leaves zero."""
    with pytest.raises(RecipeError, match="the rate would never be reached"):
        load_recipe("realdata", ["train.schedule.warmup_tokens=1e9"])


def test_weights_and_a_new_tokenizer_exclude_each_other() -> None:
    with pytest.raises(RecipeError, match=r"give exactly one of the two"):
        load_recipe("realdata", ["tokenizer=null"])


def test_a_tokenizer_is_extended_for_given_weights_and_sources_of_the_mixture_only() -> None:
    extend = "extend_tokenizer={new_tokens: 64, sources: [trials]}"
    assert load_recipe("realdata-continued", [extend]).extend_tokenizer is not None
    with pytest.raises(RecipeError, match="extend_tokenizer has no effect on a model from scratch"):
        load_recipe("realdata", [extend])
    with pytest.raises(RecipeError, match=r"'trails', which the mixture does not train on; did you mean 'trials'"):
        load_recipe("realdata-continued", [extend.replace("trials", "trails")])


def test_an_unknown_recipe_is_told_with_the_nearest_name() -> None:
    with pytest.raises(RecipeError, match="did you mean 'realdata'"):
        load_recipe("realdta")


def test_a_key_given_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "twice.yaml"
    path.write_text("name: a\nname: b\n")
    with pytest.raises(RecipeError, match="`name` is given twice"):
        read_tree(str(path), beside=Path())


def test_decontamination_asks_for_the_benchmarks_that_are_evaluated_and_its_form_does_not() -> None:
    recipe = load_recipe("demo")
    assert recipe.decontaminate_config().benchmarks == recipe.evaluate.benchmarks != ()
    form = Recipe.model_json_schema()["$defs"]["DecontaminateConfig"]["properties"]
    assert set(form) == {"ngram_words", "min_short_words", "common_documents", "held_out_share", "held_out_seed"}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["plan", "demo", "--set", "mix.tokn_budget=7"], "mix.tokn_budget: no such setting"),
        (["build", "demo", "--on", "workres=2"], "workres: no such setting (its value is 2); did you mean `workers`?"),
        (["build", "demo", "--on", "workers=0"], "workers: Input should be greater than 0 (found 0)"),
        (["build", "demo"], "source 'abstracts': 'abstracts/*.jsonl.gz' finds no file in"),
        (["show", "nameless.yaml"], "nameless.yaml is not a valid recipe: name: is missing."),
        (["show", "demo"], "`domainlm build demo` first"),
    ],
)
def test_a_mistake_at_the_command_line_is_a_sentence_and_not_a_traceback(
    arguments: list[str], told: str, tmp_path: Path
) -> None:
    (tmp_path / "nameless.yaml").write_text("domain: here\n")
    command = [Path(sys.executable).parent / "domainlm", *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert "pydantic.dev" not in done.stderr


POLICIES = "filter={licenses: {allow: [CC0-1.0], unknown: fail}, pii: [email, mrn]}"


def filter_of_source(text: str) -> FilterConfig:
    """The filter of a source that has one of its own, in a recipe with licences and identifiers."""
    recipe = load_recipe("demo", [POLICIES, f"sources.leaflets.filter={text}"])
    assert Recipe.model_validate(recipe.model_dump(mode="json")) == recipe
    own = recipe.source("leaflets").filter
    assert own is not None
    return own


def test_licences_and_identifiers_of_a_recipe_hold_for_a_source_with_rules_of_its_own() -> None:
    """A profile for one source must neither open the gate nor let identifiers through."""
    own = filter_of_source("{profile: legal}")
    assert own.rules == PROFILES["legal"]
    assert own.pii == ("email", "mrn")
    assert own.licenses == LicensePolicy(allow=("CC0-1.0",), unknown="fail")


def test_a_change_of_licences_in_a_form_reaches_a_source_with_rules_of_its_own() -> None:
    recipe = load_recipe("demo", [POLICIES, "sources.leaflets.filter={profile: legal}"])
    form = recipe.model_dump(mode="json")  # what a deployment keeps, and its form shows
    form["filter"] |= {"pii": ["ssn"], "licenses": {"allow": ["MIT"]}}
    changed = Recipe.model_validate(form)
    own = changed.source("leaflets").filter
    assert own is not None
    assert (own.pii, own.licenses.allow, own.rules) == (("ssn",), ("MIT",), PROFILES["legal"])
    told = load_recipe("demo", [POLICIES, "sources.leaflets.filter={pii: [phone]}"]).model_dump(mode="json")
    assert next(source for source in told["sources"] if source["name"] == "leaflets")["filter"]["pii"] == ["phone"]


def test_a_source_says_otherwise_by_name() -> None:
    own = filter_of_source("{pii: [], licenses: {allow: [MIT]}}")
    assert own.pii == ()
    assert own.licenses == LicensePolicy(allow=("MIT",), unknown="fail")


def test_licences_without_the_rule_that_asks_for_them_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"sources\.1\.filter: `licenses` has no effect: .* `\{rule: license\}`"):
        filter_of_source("{rules: [{rule: length}]}")
