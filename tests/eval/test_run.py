"""The command, run as it is run: alone, offline, twice."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file

from domainlm.eval.__main__ import main
from domainlm.eval.config import Job
from domainlm.eval.models import load_model
from domainlm.eval.run import evaluate
from domainlm.eval.samples import read_held_out, read_samples
from domainlm.eval.statistics import compare, compare_answers, compare_held_out
from domainlm.trainer import strict


def job(folder: Path, model_dir: Path, **fields: object) -> Path:
    """Write questions, held-out text and an evaluate.json."""
    rows = [
        {"id": str(n), "sent1": f"Which drug is {n}?", "ending0": "the drug", "ending1": f"no {n}", "label": n % 2}
        for n in range(12)
    ]
    (folder / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "text").mkdir(exist_ok=True)
    table = pa.table({"doc_id": ["a", "b"], "text": ["forty patients", "the drug lowers blood pressure " * 9]})
    pq.write_table(table, folder / "text" / "00000.parquet")
    values = {
        "model": str(model_dir),
        "weights": "trained",
        "seed": 0,
        "benchmarks": [{"name": "medqa", "form": "medqa", "path": str(folder / "q.jsonl")}],
        "held_out": {"pubmed": str(folder / "text")},
        "output": str(folder / "out"),
        "place": {"device": "cpu", "batch_size": 4},
        **fields,
    }
    path = folder / "evaluate.json"
    path.write_text(json.dumps(values))
    return path


def command(config: Path, home: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "HOME": str(home), "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "error::UserWarning"}
    arguments = [sys.executable, "-m", "domainlm.eval", "--config", str(config)]
    return subprocess.run(arguments, env=environment, capture_output=True, text=True, check=False, timeout=120)


def outputs(folder: Path) -> dict[str, bytes]:
    files = sorted(path for path in (folder / "out").rglob("*") if path.is_file() and path.name != "done.json")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_the_command_writes_the_same_bytes_each_time_and_leaves_home_alone(model_dir: Path, tmp_path: Path) -> None:
    home, first, second = tmp_path / "home", tmp_path / "one", tmp_path / "two"
    for folder in (home, first, second):
        folder.mkdir()
    done = command(job(first, model_dir), home)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line)["progress"] for line in done.stderr.splitlines()]
    assert lines[-1] == {"done": 2, "total": 2, "unit": "documents", "note": "pubmed"}
    evaluate(strict.load(Job, job(second, model_dir)))
    assert outputs(first) == outputs(second)
    assert list(outputs(first)) == ["out/samples/held_out-pubmed.jsonl", "out/samples/medqa.jsonl", "out/scores.json"]
    assert list(home.iterdir()) == []

    scores = json.loads((first / "out/scores.json").read_text())
    assert [(score["benchmark"], score["metric"]) for score in scores][:1] == [("medqa", "accuracy")]
    assert [score["metric"] for score in scores if score["benchmark"] == "held_out/pubmed"] == [
        "bits_per_byte",
        "zlib_bits_per_byte",
        "lzma_bits_per_byte",
    ]


def test_two_finished_evaluations_are_compared_from_disk(model_dir: Path, tmp_path: Path) -> None:
    trained, twin = tmp_path / "trained", tmp_path / "twin"
    for folder, weights in ((trained, "trained"), (twin, "untrained")):
        folder.mkdir()
        evaluate(strict.load(Job, job(folder, model_dir, weights=weights)))
    pair = [read_samples(folder / "out", "medqa") for folder in (trained, twin)]
    assert compare(*pair).num_questions == 12
    assert compare_answers(*pair).difference != 0
    held_out = [read_held_out(folder / "out", "pubmed") for folder in (trained, twin)]
    assert compare_held_out(*held_out).num_questions == 2
    with pytest.raises(ValueError, match="holds no benchmarks entry 'pubmedqa', only medqa"):
        read_samples(trained / "out", "pubmedqa")
    (trained / "out/done.json").unlink()
    with pytest.raises(FileNotFoundError, match="did not finish"):
        read_samples(trained / "out", "medqa")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"wieghts": "trained"}, "unknown key `wieghts`; did you mean `weights`?"),
        ({"weights": "fresh"}, "`weights` is 'fresh', but must be one of 'trained', 'untrained'"),
        ({"model": "/nowhere"}, "no config.json in /nowhere"),
        ({"context_tokens": 4096}, "context_tokens is 4096, but the model reads at most 128"),
        ({"held_out": {"pubmed": "/nowhere"}}, "held-out source pubmed: no Parquet file in /nowhere"),
    ],
)
def test_bad_input_is_one_line_and_leaves_no_done_file(
    model_dir: Path,
    tmp_path: Path,
    fields: dict[str, object],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(os, "environ", dict(os.environ))
    assert main(["--config", str(job(tmp_path, model_dir, **fields))]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("error: ")
    assert message in last
    assert not (tmp_path / "out/done.json").exists()


def test_weights_that_do_not_fit_are_refused_instead_of_drawn_at_random(model_dir: Path, tmp_path: Path) -> None:
    weights = load_file(model_dir / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    for file in model_dir.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="missing_keys"):
        load_model(tmp_path, weights="trained", seed=0, dtype="float32", device="cpu")


def test_the_untrained_twin_follows_its_seed_and_shares_no_weight(model_dir: Path) -> None:
    def load(weights: str, seed: int) -> torch.Tensor:
        model = load_model(model_dir, weights=weights, seed=seed, dtype="float32", device="cpu")  # type: ignore[arg-type]
        return model.get_input_embeddings().weight

    assert torch.equal(load("untrained", 1), load("untrained", 1))
    assert not torch.equal(load("untrained", 1), load("untrained", 2))
    assert not torch.equal(load("untrained", 1), load("trained", 1))
