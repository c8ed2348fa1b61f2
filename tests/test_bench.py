"""Benchmarks run: each measures on a machine of its own, and here only shows that what it calls is still there."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.__main__ import kept
from bench.memory import STAGES, write_inputs


@pytest.mark.parametrize("build", [pytest.param(STAGES[name], id=name) for name in STAGES if name != "filter"])
def test_a_stage_whose_memory_is_measured_builds_what_it_is_given(
    build: Callable[[Path], None], tmp_path: Path
) -> None:
    write_inputs(tmp_path, 60)
    build(tmp_path)
    assert len(list(tmp_path.glob("store/*/manifest.json"))) == 1


def test_filter_is_measured_after_annotate(tmp_path: Path) -> None:
    write_inputs(tmp_path, 60)
    for name in ("annotate", "filter"):
        STAGES[name](tmp_path)
    assert len(list(tmp_path.glob("store/*/manifest.json"))) == 2


def test_the_page_has_the_benchmarks_and_no_table_of_a_gpu(tmp_path: Path) -> None:
    row = {"ours": 2, "theirs": 1, "ratio": 2, "unit": "MB/s", "same_result": True}
    record = {"name": "dedup", "date": "2026-11-26", "cores": 1, "python": "3.11", "result": row}
    (tmp_path / "dedup.json").write_text(json.dumps(record))
    (tmp_path / "train-nvidia-h100.json").write_text(json.dumps({"rows": []}))
    assert [record["name"] for record in kept(tmp_path)] == ["dedup"]
