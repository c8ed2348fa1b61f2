import json

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from domainlm.tasks.mix import MixConfig, mix
from domainlm.tasks.processes import Preempted, Refused
from domainlm.tasks.progress import Progress, watched_by
from domainlm.tasks.report.verdict import read_scores
from domainlm.tasks.runtime import Runtime
from domainlm.tasks.store import Sealed, Store
from domainlm.tasks.train import make_job, train
from domainlm.trainer.config import ModelConfig, ScheduleConfig, TrainConfig

from .conftest import SMALL_MODEL


@pytest.fixture
def trained(build) -> Sealed:
    return build.stages["train"]


@pytest.fixture
def config(trained) -> TrainConfig:
    shape = {
        name: trained.manifest.config["model"][name] for name in ("layers", "width", "heads", "kv_heads", "mlp_width")
    }
    return TrainConfig(model=ModelConfig(**shape))


def test_a_trained_model_is_a_hugging_face_directory(trained):
    model = AutoModelForCausalLM.from_pretrained(trained.path / "model", local_files_only=True)
    assert model.num_parameters() == trained.manifest.counts["parameters"]
    assert AutoTokenizer.from_pretrained(trained.path / "model").bos_token == "<|begin|>"


def test_only_the_model_is_content_and_all_else_is_a_record(trained):
    assert {name.split("/")[0] for name in trained.part().files} == {"model"}
    records = {output.path.split("/")[0] for output in trained.manifest.outputs if output.record}
    assert records >= {"train.json", "train.log", "metrics.jsonl", "events.jsonl", "checkpoints", "done.json"}


def test_every_token_of_the_budget_is_accounted_for_by_corpus(trained):
    counts = trained.manifest.counts
    assert counts["steps"] == 48
    assert counts["tokens"] == counts["tokens.leaflets"] + counts["tokens.plain"] == 48 * 256
    assert counts["tokens.leaflets"] == pytest.approx(0.75 * 48 * 256, abs=32)


def test_the_loss_falls_and_its_last_value_is_counted(trained):
    losses = [json.loads(line)["loss"] for line in (trained.path / "metrics.jsonl").read_text().splitlines()]
    assert len(losses) == 48
    assert losses[-1] == trained.manifest.counts["last_loss"] < losses[0] - 1


def test_train_json_alone_holds_the_places(build, trained):
    assert str(build.store.root) in (trained.path / "train.json").read_text()
    assert str(build.store.root) not in json.dumps(dict(trained.manifest.config))


def test_a_run_that_is_stopped_keeps_a_checkpoint_and_ends_with_the_same_weights(build, trained, config, tmp_path):
    store, seen = Store(tmp_path / "stopped"), []
    stop = False

    def watch(progress: Progress) -> None:
        nonlocal stop
        seen.append(progress)
        stop = progress.done > 0

    with watched_by(watch, lambda: stop), pytest.raises(Preempted, match="goes on from there"):
        train.build(store, config, build.train_inputs(), build.runtime)
    assert 0 < seen[-1].done < seen[-1].total == 48 * 256
    assert seen[-1].unit == "tokens"
    assert "loss" in seen[-1].note
    assert list(next(store.root.glob("train-*.partial")).glob("checkpoints/step-*"))
    resumed = train.build(store, config, build.train_inputs(), build.runtime)
    assert '"event": "resume"' in (resumed.path / "events.jsonl").read_text()
    assert resumed.part("model").digest == trained.part("model").digest


def test_training_continues_from_given_weights(build, trained, tmp_path):
    inputs = {**build.train_inputs(), "init_from": trained.part("model")}
    continued = train.build(Store(tmp_path / "more"), TrainConfig(model=None, peak_lr=1e-3), inputs, build.runtime)
    assert continued.manifest.inputs["init_from"].origin == f"{trained.path.name}/model"
    assert continued.manifest.counts["last_loss"] < trained.manifest.counts["last_loss"]


def test_a_run_goes_on_from_the_state_that_a_trunk_has_left_as_content(build, trained, tmp_path):
    store, inputs, flat = Store(tmp_path / "trunk"), build.train_inputs(), {"warmup_tokens": 1024}
    budget = dict(build.stages["mix"].manifest.config) | {"token_budget": 24 * 256}
    mixed = {name: part for name, part in inputs.items() if name == "tokenizer" or name.startswith("corpus.")}
    shorter = mix.build(store, MixConfig(**budget), mixed, build.runtime)
    constant = TrainConfig(model=SMALL_MODEL, schedule=ScheduleConfig(name="constant", **flat))
    trunk = train.build(store, constant, {**inputs, "mixture": shorter.part()}, build.runtime)
    assert {name.split("/")[0] for name in trunk.part().files} == {"model", "state"}
    decay = TrainConfig(model=SMALL_MODEL, schedule=ScheduleConfig(decay_tokens=24 * 256, **flat))
    branch = train.build(store, decay, {**inputs, "trunk": trunk.part("state")}, build.runtime)
    assert {name.split("/")[0] for name in branch.part().files} == {"model"}
    assert (branch.manifest.counts["trunk_tokens"], branch.manifest.counts["tokens"]) == (24 * 256, 48 * 256)
    assert branch.manifest.inputs["trunk"].origin == f"{trunk.path.name}/state"
    assert branch.manifest.counts["last_loss"] < trunk.manifest.counts["last_loss"]


def test_a_job_that_cannot_work_is_refused_in_the_words_of_the_trainer_and_not_tried_again(build, tmp_path):
    config = TrainConfig(model=ModelConfig(layers=1, max_positions=16))
    with pytest.raises(Refused, match=r"training refused: sequences of 32 tokens are longer than the 16 positions"):
        train.build(Store(tmp_path / "refused"), config, build.train_inputs(), Runtime(max_restarts=3))
    log = next((tmp_path / "refused").glob("train-*.partial/train.log")).read_text()
    assert log.count("error: ") == 1


def test_a_directory_without_a_config_is_no_model_to_continue_from(build, tmp_path):
    inputs = {**build.train_inputs(), "init_from": build.stages["mix"].part()}
    with pytest.raises(FileNotFoundError, match=r"has no config.json but mixture.json"):
        train.build(Store(tmp_path / "none"), TrainConfig(model=None), inputs, build.runtime)


def test_training_is_watched_by_the_text_that_evaluation_measures(build, trained):
    """With the same context the last look differs from the score by the precision of the exported weights only."""
    looks = [json.loads(line) for line in (trained.path / "held_out.jsonl").read_text().splitlines()]
    assert [look["tokens"] for look in looks] == [2048 * n for n in range(7)]
    scores = read_scores(build.stages["evaluate.model"])
    bits = {score.benchmark: score.value for score in scores if score.metric == "bits_per_byte"}
    for source in ("leaflets", "plain"):
        assert looks[-1]["bits_per_byte"][source] == pytest.approx(bits[f"held_out/{source}"], rel=5e-3)
        assert looks[-1]["bits_per_byte"][source] < 0.9 * looks[0]["bits_per_byte"][source]
    events = [json.loads(line) for line in (trained.path / "events.jsonl").read_text().splitlines()]
    documents = build.stages["evaluate.model"].manifest.counts["documents.leaflets"]
    start = next(event for event in events if event["event"] == "start")
    assert start["held_out"]["leaflets"]["documents"] == documents


def test_what_training_is_watched_by_is_recorded_and_renames_nothing(build, trained, config):
    record = trained.manifest.inputs["held_out"]
    assert (record.decides, record.origin) == (False, build.held_out.root.name)
    blind = {name: part for name, part in build.train_inputs().items() if name != "held_out"}
    assert train.request(config, blind).key == trained.manifest.key


def test_the_runtime_says_how_the_trainer_runs(build, tmp_path):
    how = {"activation_checkpointing": "selective", "compile": "never", "shard_ranks": 1, "microbatch_sequences": 2}
    runtime = build.runtime.model_copy(update=how)
    job = make_job(TrainConfig(), build.train_inputs(), tmp_path, runtime)
    assert {name: getattr(job.place, name) for name in how} == how
