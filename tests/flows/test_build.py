"""One build of the pharmacopoeia, looked at from all sides: what is published, reused, traced, explained."""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from domainlm.flows.build_domain_model import build_domain_model
from domainlm.flows.chain import build_model
from domainlm.flows.life import IN_SHARDS, life_of, told
from domainlm.flows.materials import gather
from domainlm.flows.planner import PlanLine, Planner, up_to
from domainlm.flows.printing import print_thresholds
from domainlm.flows.recipe import Recipe
from domainlm.flows.recipe_files import RecipeError
from domainlm.flows.recipe_loading import load_recipe
from domainlm.flows.show import newest, report
from domainlm.flows.thresholds import threshold_rows
from domainlm.flows.tracing import open_ledger, trace_rows
from domainlm.tasks.runtime import Runtime
from domainlm.tasks.store import Sealed, Store
from domainlm.trainer.shards import Shard

from .conftest import SMALL, Built

BIN = Path(sys.executable).parent
ALLOWED = {"CC-BY-4.0", "CC0-1.0", "LicenseRef-CC-BY-unversioned", "LicenseRef-public-domain"}
RULES = {  # what truth.jsonl expects, and the rules that may say so
    "kept": {"kept"},
    "duplicate": {"deduplicate", "kept"},
    "near_duplicate": {"deduplicate", "kept"},
    "language": {"language"},
    "too_short": {"length"},
    "repetition": {"gopher_repetition"},
    "boilerplate": {"boilerplate"},
    "leak": {"decontaminate"},
    "license": {"license"},
    "deleted": {"origin"},
}


def plan_of(recipe: Recipe, runtime: Runtime) -> list[PlanLine]:
    planner = Planner(Store(runtime.store / recipe.domain))
    build_model(recipe, gather(recipe, runtime), planner)
    return planner.lines


def test_a_build_publishes_a_model_with_its_papers(built: Built) -> None:
    path = built.published.path
    for name in ("report.html", "report.json", "MODEL_CARD.md", "DATA_SHEET.md", "model/model.safetensors"):
        assert (path / name).stat().st_size > 0
    model = AutoModelForCausalLM.from_pretrained(path / "model")
    tokenizer = AutoTokenizer.from_pretrained(path / "model")
    assert model.config.vocab_size >= len(tokenizer)
    assert not list(path.rglob("*.pkl")) + list(path.rglob("*.bin"))


def test_a_second_build_would_rebuild_nothing(built: Built) -> None:
    assert all(line.reused for line in plan_of(built.recipe, built.runtime))


def test_another_place_changes_no_key(built: Built) -> None:
    elsewhere = built.runtime.model_copy(update={"workers": 7, "processes": 3, "threads": 2, "microbatch_sequences": 1})
    assert all(line.reused for line in plan_of(built.recipe, elsewhere))


def test_other_held_out_text_to_watch_training_by_trains_nothing_again(built: Built) -> None:
    lines = {
        line.name: line
        for line in plan_of(load_recipe("demo", (*SMALL, "evaluate.held_out_bytes=2000")), built.runtime)
    }
    assert not lines["tokenize_held_out"].reused
    assert "max_bytes: 3000 -> 2000" in lines["tokenize_held_out"].because
    assert lines["train"].reused


def test_a_changed_threshold_rebuilds_what_follows_and_says_so(built: Built) -> None:
    """And nothing but the filter's own threshold is given as a reason: the measures are reused."""
    changed = load_recipe("demo", (*SMALL, "filter.rules.length.min_words=25"))
    lines = {line.name: line for line in plan_of(changed, built.runtime)}
    assert lines["annotate.leaflets"].reused
    assert lines["filter.leaflets"].because == ("rules.length.min_words: 20 -> 25",)
    assert "after filter.abstracts" in lines["deduplicate"].because
    assert [line.reused for line in lines.values()] == [name.startswith(("acquire.", "annotate.")) for name in lines]


def test_another_list_of_rules_says_which_are_gone(built: Built) -> None:
    rules = "filter.rules=[{rule: license}, {rule: length}]"
    lines = {line.name: line for line in plan_of(load_recipe("demo", (*SMALL, rules)), built.runtime)}
    assert "rules.language is gone" in lines["filter.leaflets"].because


@pytest.mark.parametrize("width", ["80", "200"])
def test_a_plan_is_one_line_a_stage_however_narrow_the_terminal(built: Built, width: str) -> None:
    command = [BIN / "domainlm", "plan", "demo", "--store", built.runtime.store, "--data", built.runtime.data]
    settings = [word for setting in (*SMALL, "filter.rules.length.min_words=25") for word in ("--set", setting)]
    environment = {**os.environ, "COLUMNS": width}
    printed = subprocess.run([*command, *settings], capture_output=True, text=True, check=True, env=environment).stdout
    stages = [line for line in printed.splitlines() if line.startswith(("reuse ", "build "))]
    assert len(stages) == len(plan_of(built.recipe, built.runtime))
    assert f"{len(stages)} stages: 12 reused, {len(stages) - 12} to build" in printed
    assert "rules.length.min_words: 20 -> 25" in printed


def test_another_profile_of_rules_reuses_the_annotations(built: Built) -> None:
    lines = {line.name: line for line in plan_of(load_recipe("demo", (*SMALL, "filter.profile=web")), built.runtime)}
    assert lines["annotate.leaflets"].reused
    assert "profile: None -> 'web'" in lines["filter.leaflets"].because


def test_a_threshold_is_tried_on_numbers_alone(built: Built) -> None:
    """As the filter had it; another one drops more, and nothing is built for the answer."""
    store = Store(built.runtime.store / "demo")
    before = sorted(store.root.iterdir())
    rows = threshold_rows(load_recipe("demo", SMALL), store)
    for source in built.recipe.sources:
        fates = store.sealed("filter", source.name)[-1].manifest
        by_threshold = {row["threshold"]: row for row in rows if row["source"] == source.name}
        assert by_threshold[""]["drops"] == sum(fates.fates.values()) - fates.fates["kept"]
        assert by_threshold["min_words 20"]["drops"] == fates.counts.get("no.length.min_words", 0)
    strict = threshold_rows(load_recipe("demo", (*SMALL, "filter.profile=web")), store)
    drops, strict_drops = (sum(int(str(r["drops"])) for r in one if r["rule"] == "all") for one in (rows, strict))
    assert strict_drops > drops
    assert sorted(store.root.iterdir()) == before


def test_into_a_file_no_name_of_a_threshold_is_broken(
    built: Built, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    rows = threshold_rows(load_recipe("demo", SMALL), Store(built.runtime.store / "demo"))
    print_thresholds(rows)
    lines = capsys.readouterr().out.splitlines()
    dropping = [row for row in rows if row["drops"] and row["rule"] != "all"]
    assert len(dropping) > 5
    for row in dropping:
        assert any(f" {row['rule']} " in line and f" {row['threshold']} " in line for line in lines)


def test_a_domain_is_learned_once_for_all_sources(built: Built) -> None:
    classifier = "{seeds: [abstracts, leaflets], others: [general]}"
    rules = f"filter.rules=[{{rule: license}}, {{rule: domain, classifier: {classifier}}}]"
    lines = plan_of(load_recipe("demo", (*SMALL, rules)), built.runtime)
    names = [line.name for line in lines]
    assert names.count("learn_domain") == 1
    assert names.index("acquire.general") < names.index("learn_domain") < names.index("annotate.abstracts")
    with pytest.raises(RecipeError, match=r"`domain` learns from 'leaflet': .*did you mean 'leaflets'"):
        load_recipe("demo", (*SMALL, rules.replace("leaflets", "leaflet")))


def test_rules_that_nothing_has_measured_cannot_be_tried(built: Built) -> None:
    other = load_recipe("demo", (*SMALL, "filter.rules=[{rule: boilerplate, phrases: [call now]}]"))
    with pytest.raises(FileNotFoundError, match=r"what these rules ask about.*Build the recipe with these rules"):
        threshold_rows(other, Store(built.runtime.store / "demo"))


def test_a_plan_shows_the_extension_of_the_first_weights_tokenizer(built: Built) -> None:
    continued = ("tokenizer=null", "train.model=null", "train.init_from=published:demo")
    extend = "extend_tokenizer={new_tokens: 64, sources: [leaflets], min_count: 5}"
    lines = plan_of(load_recipe("demo", (*SMALL, *continued, extend)), built.runtime)
    names = [line.name for line in lines]
    assert names.index("decontaminate.leaflets") < names.index("extend_tokenizer") < names.index("tokenize.leaflets")
    assert "train_tokenizer" not in names
    tokenized = next(line for line in lines if line.name == "tokenize.leaflets")
    assert any("after extend_tokenizer" in reason for reason in tokenized.because)


def test_a_run_that_was_trained_to_its_end_is_no_trunk(built: Built) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"train\.trunk: the newest model of recipe 'demo' .* has left no state"
    ):
        gather(load_recipe("demo", (*SMALL, "train.trunk=demo")), built.runtime)


def test_a_longer_budget_reuses_the_whole_corpus(built: Built) -> None:
    lines = plan_of(load_recipe("demo", (*SMALL, "mix.token_budget=50000")), built.runtime)
    built_anew = [line.name for line in lines if not line.reused]
    assert built_anew == ["mix", "train", "evaluate.model", "evaluate.base", "publish.demo"]
    assert {line.name: line.because for line in lines}["mix"] == ("token_budget: 40000 -> 50000",)


def test_every_document_met_the_fate_that_the_truth_foretells(built: Built, pharmacopoeia: Path) -> None:
    """Ground truth is known: each planted kind of noise is scored, and all but a few of its documents are caught."""
    stages = newest(Store(built.runtime.store / "demo"), "demo").stages
    fates = actual_fates(stages)
    met: Counter[str] = Counter()
    asked: Counter[str] = Counter()
    for line in map(json.loads, (pharmacopoeia / "truth.jsonl").read_text().splitlines()):
        if line["fate"] != "dead_letter":
            asked[line["fate"]] += 1
            met[line["fate"]] += fates.get(line["doc_id"]) in RULES[line["fate"]]
    caught = {fate: met[fate] / asked[fate] for fate in asked}
    assert min(caught.values()) >= 0.9, caught
    assert caught["kept"] >= 0.98, caught
    assert caught["license"] == caught["deleted"] == 1.0, caught


def test_both_directions_of_the_ledger_agree(built: Built) -> None:
    store = Store(built.runtime.store / "demo")
    ledger = open_ledger(store, "demo")
    documents = trace_rows(ledger, step=7, document=None)
    for row in documents:
        steps = trace_rows(ledger, step=None, document=str(row["doc_id"]))
        assert sum(int(str(one["tokens"])) for one in steps if one["step"] == 7) == row["tokens"]
    assert sum(int(str(row["tokens"])) for row in documents) == ledger.mixture.batch_tokens
    assert {str(row["license"]) for row in documents} <= ALLOWED


def test_a_documents_life_is_told_from_its_source_to_its_fate(built: Built, pharmacopoeia: Path) -> None:
    truth = [json.loads(line) for line in (pharmacopoeia / "truth.jsonl").read_text().splitlines()]
    foreign = next(line["doc_id"] for line in truth if line["fate"] == "language")
    events = life_of(foreign, newest(Store(built.runtime.store / "demo"), "demo").stages)
    verdicts = {event.details["rule"]: event.details["keep"] for event in events if event.what == "verdicts"}
    assert list(dict.fromkeys(event.stage for event in events)) == ["acquire.abstracts", "filter.abstracts"]
    assert verdicts["language"] is False
    assert verdicts["license"] is True
    assert (events[-1].what, events[-1].details["rule"]) == ("fate", "language")


def test_a_trained_documents_life_ends_in_the_span_of_its_tokens(built: Built) -> None:
    stages = newest(Store(built.runtime.store / "demo"), "demo").stages
    corpus = next(name for name in stages if name.startswith("tokenize."))
    shard = Shard.open(stages[corpus].path / "shards/00000.arrow")
    document = shard.document(3)
    events = life_of(document.doc_id, stages)
    [span] = [event.details for event in events if event.what == "tokens"]
    assert span["shard"] == "shards/00000.arrow"
    assert shard.tokens[span["first"] : span["last"]].tolist() == document.tokens.tolist()
    [trained] = [event.details for event in events if event.what == "trained on"]
    rows = open_ledger(Store(built.runtime.store / "demo"), "demo").steps_of_document(document.doc_id)
    assert trained["tokens_seen"] == sum(row.tokens for row in rows)
    assert events[-1].details == {"is": IN_SHARDS}
    lines = list(told(document.doc_id, events))
    assert any(line.split()[:1] == ["license_evidence"] for line in lines)
    assert any(line.strip().startswith("keep  license: allowed") for line in lines)


def test_a_documents_duplicates_and_a_leak_are_in_its_life(built: Built, pharmacopoeia: Path) -> None:
    stages = newest(Store(built.runtime.store / "demo"), "demo").stages
    truth = [json.loads(line) for line in (pharmacopoeia / "truth.jsonl").read_text().splitlines()]
    rules = {}
    for fate in ("duplicate", "near_duplicate", "leak"):
        lives = [life_of(line["doc_id"], stages) for line in truth if line["fate"] == fate]
        dropped = [life for life in lives if life[-1].details["is"] == "dropped"]  # of two copies one is kept
        rules[fate] = {str(life[-1].details["rule"]).partition(".")[0] for life in dropped}
        if fate != "leak":
            assert all(any(event.what == "pairs" for event in life) for life in dropped)
    assert rules == {"duplicate": {"deduplicate"}, "near_duplicate": {"deduplicate"}, "leak": {"decontaminate"}}


def test_show_prints_all_of_a_build_as_json(built: Built) -> None:
    command = [BIN / "domainlm", "show", "demo", "--json", "--store", built.runtime.store]
    shown = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    assert Path(shown["path"]) == built.published.path.resolve()
    assert shown["stages"]["acquire.abstracts"]["fates"]["kept"] > 0
    assert {score["metric"] for score in shown["report"]["scores"]} >= {"accuracy", "bits_per_byte"}
    assert shown.pop("approval") is None
    assert shown == json.loads(json.dumps(report(newest(Store(built.runtime.store / "demo"), "demo"))))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("sources.general.path=genral/*.jsonl", "finds no file"),
        ("sources.general.path=../secret/*.jsonl", "leads out of"),
        (f"evaluate.benchmarks.medqa.sha256={'f' * 64}", "the recipe pins ffff"),
    ],
)
def test_what_is_wrong_outside_stops_a_build_before_any_work(
    change: str, message: str, pharmacopoeia: Path, tmp_path: Path
) -> None:
    recipe = load_recipe("demo", (*SMALL, change))
    with pytest.raises((FileNotFoundError, ValueError), match=message):
        gather(recipe, Runtime(store=tmp_path, data=pharmacopoeia))
    assert not list(tmp_path.iterdir())


def test_a_budget_beyond_the_corpus_names_the_largest_possible(built: Built) -> None:
    command = [BIN / "domainlm", "build", "demo", "--store", built.runtime.store, "--data", built.runtime.data]
    settings = [
        argument
        for setting in (*SMALL, "mix.max_repetitions=1", "mix.token_budget=900000")
        for argument in ("--set", setting)
    ]
    done = subprocess.run([*command, *settings], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "repetition" in done.stderr
    assert "Traceback" not in done.stderr


def actual_fates(stages: Mapping[str, Sealed]) -> dict[str, str]:
    """What became of every document, from the verdicts and the files of the stages alone."""
    fates: dict[str, str] = {}
    for name, sealed in stages.items():
        for file in sorted(sealed.path.rglob("verdicts/**/*.parquet")):
            for row in pq.read_table(file, columns=["doc_id", "rule", "keep"]).to_pylist():
                if not row["keep"]:
                    fates.setdefault(row["doc_id"], row["rule"].split(".")[0])
        if name.startswith("decontaminate"):
            for fate in ("kept", "held_out"):
                for file in sorted((sealed.path / fate).glob("*.parquet")):
                    for doc_id in pq.read_table(file, columns=["doc_id"])["doc_id"].to_pylist():
                        fates[doc_id] = "kept"
    return fates


def test_a_build_stops_where_one_asks_it_to_and_goes_on_from_there(built: Built, tmp_path: Path) -> None:
    """Up to the annotations: what the filter would drop is then a query, and nothing is trained."""
    runtime = built.runtime.model_copy(update={"store": tmp_path / "store"})
    state = build_domain_model(built.recipe, runtime, until="annotate", return_state=True)
    assert state.is_completed()
    assert "Stopped after annotate.general, as asked" in str(state.message)
    store = Store(tmp_path / "store/demo")
    made = {path.name.partition("-")[0] for path in store.root.iterdir()} - {"runs", ".locks"}
    assert {"acquire", "annotate"} <= made <= {"acquire", "annotate", "filter", "learn_domain"}
    assert threshold_rows(built.recipe, store)
    record = json.loads(next((store.root / "runs").iterdir()).read_text())
    assert record["status"] == "completed until annotate"
    lines = plan_of(built.recipe, runtime)
    assert {line.name for line in lines if line.reused} == {stage["name"] for stage in record["stages"]}


def test_a_build_cannot_stop_after_what_it_does_not_have(built: Built) -> None:
    with pytest.raises(ValueError, match="got 'filtre'; this recipe can stop after acquire, annotate, filter, dedup"):
        up_to("filtre", plan_of(built.recipe, built.runtime))
    assert up_to("mix", plan_of(built.recipe, built.runtime))[-1].name == "mix"
