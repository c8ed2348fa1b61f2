"""The speed benchmark runs, and what it compares with agrees: a loop by hand around the Hugging Face model."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import environment

ROOT = Path(__file__).parents[2]


def test_training_follows_a_loop_by_hand_around_the_same_model() -> None:
    options = ["--preset=llama-6m", "--sequence-tokens=128", "--batch-sequences=4", "--microbatch-sequences=2"]
    command = [sys.executable, "-m", "bench.train", "--json", *options, "--steps=7", "--contenders", "ours", "plain"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250, cwd=ROOT, env=environment())
    assert done.returncode == 0, done.stderr
    ours, plain = json.loads(done.stdout.splitlines()[-1])["rows"]
    assert len(ours["losses"]) == 7
    assert ours["losses"] == pytest.approx(plain["losses"], rel=1e-4)
    assert ours["losses"][-1] < ours["losses"][0]
    assert ours["tokens_per_s"] > 0
    assert plain["tokens_per_s"] > 0
