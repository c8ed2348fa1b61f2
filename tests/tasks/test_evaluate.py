import json

import pytest

from domainlm.eval.benchmarks import Benchmark
from domainlm.eval.config import EvaluateConfig
from domainlm.tasks.evaluate import EvaluateStageConfig, evaluate
from domainlm.tasks.manifest import outside
from domainlm.tasks.processes import Refused
from domainlm.tasks.progress import Progress, watched_by
from domainlm.tasks.report.verdict import read_scores
from domainlm.tasks.store import Store

DRUGS = Benchmark(name="drugs", form="medqa", path="here/drugs.jsonl")


@pytest.fixture
def inputs(build):
    """What the trained model was evaluated on."""
    benchmark = next(build.store.root.parent.glob("drugs.jsonl"))
    held_out = {
        f"held_out.{name}": build.stages[f"decontaminate.{name}"].part("held_out") for name in ("leaflets", "plain")
    }
    return {
        "model": build.stages["train"].part("model"),
        "benchmark.drugs": outside(benchmark.parent, [benchmark], origin="benchmark drugs"),
        **held_out,
    }


def test_scores_cover_every_benchmark_and_every_held_out_source(build):
    scores = read_scores(build.stages["evaluate.model"])
    assert {score.benchmark for score in scores} == {"drugs", "held_out/leaflets", "held_out/plain"}
    accuracy = next(score for score in scores if score.metric == "accuracy")
    assert (accuracy.num_questions, accuracy.chance) == (24, 0.25)
    counts = build.stages["evaluate.model"].manifest.counts
    assert counts["questions.drugs"] == 24
    assert counts["documents.leaflets"] == build.stages["decontaminate.leaflets"].manifest.fates["held_out"]


def test_training_lowers_the_bits_per_byte_of_text_that_was_held_out(build):
    bits = {
        label: {
            s.benchmark: s.value for s in read_scores(build.stages[f"evaluate.{label}"]) if s.metric == "bits_per_byte"
        }
        for label in ("model", "base")
    }
    assert bits["model"]["held_out/leaflets"] < 0.75 * bits["base"]["held_out/leaflets"]


def test_samples_and_scores_are_content_and_the_log_is_a_record(build):
    outputs = {output.path: output.record for output in build.stages["evaluate.model"].manifest.outputs}
    assert not outputs["scores.json"]
    assert not outputs["samples/drugs.jsonl"]
    assert outputs["done.json"]
    assert outputs["evaluate.log"]


def test_where_a_benchmark_lies_is_not_part_of_the_key(inputs):
    keys = {
        evaluate.request(
            EvaluateStageConfig(
                evaluate=EvaluateConfig(benchmarks=(Benchmark(name="drugs", form="medqa", path=path),))
            ),
            inputs,
        ).key
        for path in ("here/drugs.jsonl", "/elsewhere/drugs.jsonl")
    }
    assert len(keys) == 1


def test_a_benchmark_without_a_file_is_told_by_name(inputs, tmp_path, runtime):
    config = EvaluateStageConfig(
        evaluate=EvaluateConfig(benchmarks=(DRUGS, Benchmark(name="more", form="medqa", path="x")))
    )
    with pytest.raises(ValueError, match=r"the recipe evaluates drugs, more, and the files given are drugs;"):
        evaluate.build(Store(tmp_path / "store"), config, inputs, runtime)


def test_a_benchmark_file_that_changed_is_refused_before_the_model_is_loaded(inputs, tmp_path, runtime):
    pinned = Benchmark(name="drugs", form="medqa", path="drugs.jsonl", sha256="0" * 64)
    config = EvaluateStageConfig(evaluate=EvaluateConfig(benchmarks=(pinned,)))
    with pytest.raises(Refused, match=r"evaluation refused: benchmark drugs: found sha256 .* the recipe pins 000"):
        evaluate.build(Store(tmp_path / "store"), config, inputs, runtime)


def test_an_evaluation_is_the_same_bytes_again_and_tells_how_far_it_is(build, inputs, tmp_path):
    seen: list[Progress] = []
    before = build.stages["evaluate.model"]
    config = EvaluateStageConfig(evaluate=EvaluateConfig(benchmarks=(DRUGS,), context_tokens=32))
    with watched_by(seen.append):
        again = evaluate.build(Store(tmp_path / "store"), config, inputs, build.runtime)
    assert again.part().digest == before.part().digest
    assert {progress.unit for progress in seen} >= {"documents"}
    assert json.loads((again.path / "evaluate.json").read_text())["weights"] == "trained"
