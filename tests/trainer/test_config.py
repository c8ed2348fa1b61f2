import dataclasses
import json
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
from pydantic import TypeAdapter, ValidationError

from domainlm.trainer.__main__ import main
from domainlm.trainer.config import PRESETS, ModelConfig, ScheduleConfig, TrainConfig
from domainlm.trainer.job import TrainJob, load_job, save_job
from domainlm.trainer.mixture import Mixture, load_mixture, save_mixture
from domainlm.trainer.strict import parse

from .conftest import World


def test_every_field_has_a_description_in_the_form() -> None:
    schema = TypeAdapter(TrainConfig).json_schema()
    for model in (schema, *schema["$defs"].values()):
        assert model["title"]
        assert model["additionalProperties"] is False
        for name, field in model["properties"].items():
            assert field.get("description", "").endswith("."), name


def test_the_form_shows_the_bounds_that_the_trainer_checks() -> None:
    field = TypeAdapter(TrainConfig).json_schema()["properties"]["peak_lr"]
    assert (field["exclusiveMinimum"], field["maximum"]) == (0, 1)
    with pytest.raises(ValidationError, match="less than or equal to 1"):
        TypeAdapter(TrainConfig).validate_python({"peak_lr": 2.0})
    with pytest.raises(ValueError, match=r"TrainConfig.peak_lr is 2.0, but must be at most 1"):
        TrainConfig(peak_lr=2.0)


def test_pydantic_and_the_trainer_read_the_same_config() -> None:
    config = TrainConfig(model=ModelConfig(preset="llama-30m", layers=3), z_loss=1e-4)
    text = TypeAdapter(TrainConfig).dump_json(config)
    assert parse(TrainConfig, json.loads(text)) == TypeAdapter(TrainConfig).validate_json(text) == config


def test_the_presets_are_those_that_the_form_offers() -> None:
    assert get_args(get_type_hints(ModelConfig)["preset"]) == tuple(PRESETS)


@pytest.mark.parametrize(
    ("preset", "vocab_size", "millions"),
    [("llama-6m", 4096, 5.9), ("llama-10m", 4096, 11.2), ("llama-125m", 50_304, 124), ("llama-1.2b", 128_256, 1236),
     ("llama-3b", 128_256, 3213), ("llama-7b", 32_000, 7242), ("qwen3-10m", 4096, 11.2), ("qwen3-30m", 8192, 29.4),
     ("qwen3-125m", 50_304, 124), ("qwen3-350m", 50_304, 353), ("qwen3-0.6b", 151_936, 596),
     ("qwen3-1.7b", 151_936, 1721), ("qwen3-4b", 151_936, 4022), ("qwen3-7b", 50_304, 6590)],
)  # fmt: skip
def test_presets_have_about_the_size_in_their_name(preset: str, vocab_size: int, millions: float) -> None:
    assert PRESETS[preset].num_parameters(vocab_size) / 1e6 == pytest.approx(millions, rel=0.02)


def test_a_head_is_as_wide_as_the_preset_says_unless_width_or_heads_are_replaced() -> None:
    assert ModelConfig(preset="qwen3-0.6b", layers=3).shape.head_width == 128
    assert ModelConfig(preset="qwen3-0.6b", width=512).shape.head_width == 32
    assert ModelConfig(preset="qwen3-0.6b", width=512, head_width=64).shape.head_width == 64
    assert {ModelConfig(preset=name).shape.family for name in ("llama-6m", "qwen3-10m")} == {"llama", "qwen3"}  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({"modle": None}, r"unknown key `config\.modle`; did you mean `model`"),
        ({"model": {"preset": "lama-6m"}}, "did you mean 'llama-6m'"),
        ({"peak_lr": "fast"}, r"`config\.peak_lr` is 'fast', but must be of type float"),
        ({"seed": True}, "must be of type int"),
        ({"optimizer": {"beta1": 1.0}}, "must be less than 1"),
        ({"schedule": {"name": "cosine", "decay_tokens": 5}}, "decay_tokens has no effect on schedule 'cosine'"),
        ({"schedule": {"name": "constant", "final_fraction": 0.5}}, "final_fraction has no effect"),
        ({"model": {"heads": 3}}, "width must be a multiple of heads"),
        ({"model": {"kv_heads": 3}}, "heads must be a multiple of kv_heads"),
        ({"model": {"preset": "qwen3-0.6b", "head_width": 5}}, "head_width must be even"),
        ({"optimizer": {"momentum": 0.9}}, "momentum has no effect on optimizer 'adamw'"),
        ({"schedule": {"initial_fraction": 0.1, "warmup_tokens": 0}}, "has no effect without a warm-up"),
    ],
)
def test_a_wrong_config_is_refused_with_its_path(value: object, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse(TrainConfig, value, "config")


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (ScheduleConfig(name="constant", warmup_tokens=100), [0.5, 1.0, 1.0, 1.0]),
        (ScheduleConfig(name="wsd", warmup_tokens=100, decay_tokens=400), [0.5, 1.0, 1.0, 0.25]),
        (ScheduleConfig(name="wsd", warmup_tokens=100, final_fraction=0.5), [0.5, 1.0, 1.0, 0.75]),
        (ScheduleConfig(name="wsd", warmup_tokens=200, initial_fraction=0.2), [0.4, 0.6, 1.0, 0.5]),
        (ScheduleConfig(name="linear", warmup_tokens=0), [0.95, 0.9, 0.5, 0.1]),
        (ScheduleConfig(name="cosine", warmup_tokens=0), [0.9938, 0.9755, 0.5, 0.0245]),
    ],
)
def test_the_rate_follows_the_tokens(schedule: ScheduleConfig, expected: list[float]) -> None:
    rates = [schedule.learning_rate(tokens, token_budget=1000, peak=1.0) for tokens in (50, 100, 500, 900)]
    assert rates == pytest.approx(expected, abs=1e-4)


def test_a_mixture_comes_back_from_its_file(world: World, tmp_path: Path) -> None:
    save_mixture(world.mixture, tmp_path / "mixture.json")
    assert load_mixture(tmp_path / "mixture.json") == world.mixture


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"batch_tokens": 100}, "not a multiple of sequence_tokens 32; take 96"),
        ({"token_budget": 255}, "less than one step of 256"),
        ({"sequence_tokens": 8192, "batch_tokens": 8192, "token_budget": 8192}, "one sequence needs 8,193"),
        ({"schema": 2}, "schema 2 is not 1"),
    ],
)
def test_a_mixture_that_cannot_work_is_refused(world: World, change: dict[str, int], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        dataclasses.replace(world.mixture, **change)  # type: ignore[arg-type]


def test_books_of_a_mixture_must_balance(world: World) -> None:
    pubmed, general = world.mixture.corpora
    with pytest.raises(ValueError, match="sum to 999,999 ppm"):
        dataclasses.replace(world.mixture, corpora=(pubmed, dataclasses.replace(general, share_ppm=299_999)))
    with pytest.raises(ValueError, match="shards hold"):
        dataclasses.replace(pubmed, tokens=pubmed.tokens + 1)
    with pytest.raises(ValueError, match="a name occurs twice"):
        Mixture(**{**vars(world.mixture), "corpora": (pubmed, dataclasses.replace(general, name="pubmed"))})


def test_a_job_comes_back_from_its_file(world: World) -> None:
    job = world.job("job")
    save_job(job, world.root / "job.json")
    assert load_job(world.root / "job.json") == job


def test_a_job_starts_from_scratch_or_continues_but_not_both(world: World) -> None:
    with pytest.raises(ValueError, match="both are given"):
        world.job("job", init_from=world.root)
    with pytest.raises(ValueError, match="neither is given"):
        TrainJob(**{**vars(world.job("job")), "config": TrainConfig(model=None)})


def test_a_file_that_is_no_json_says_so(tmp_path: Path) -> None:
    (tmp_path / "train.json").write_text("{")
    with pytest.raises(ValueError, match="not valid JSON"):
        load_job(tmp_path / "train.json")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        load_job(tmp_path / "none.json")


def test_a_job_that_cannot_work_ends_with_its_reason_and_code_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "train.json").write_text('{"confg": {}}')
    monkeypatch.setattr("sys.argv", ["trainer", "--config", str(tmp_path / "train.json")])
    assert main() == 2
    assert "unknown key `confg`; did you mean `config`?" in capsys.readouterr().err
