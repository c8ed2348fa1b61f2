"""Goodput: every second of a run that crashed once, by hand."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from domainlm.trainer.goodput import Straggler, goodput, told


def event(second: float, name: str, **details: object) -> str:
    time = datetime.fromtimestamp(1000 + second, UTC).isoformat(timespec="milliseconds")
    return json.dumps({"time": time, "event": name, "step": 0, **details}) + "\n"


def step(ended: float) -> str:
    return json.dumps({"step_s": 1.5, "data_s": 0.2, "stall_s": 0.3, "ended_s": 1000 + ended}) + "\n"


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """Probe 0-5; start-up 6-16, of which restore 1; steps 16-24; a crash told at 27; launch 30, resume 40; done 50."""
    (tmp_path / "events.jsonl").write_text(
        event(0, "launch", program="trainer.probe")
        + event(5, "probe")
        + event(6, "launch", program="trainer")
        + event(16, "start", restore_s=1.0, redone_s=0)
        + event(20, "straggler", rank=3, ratio=1.7)
        + event(22, "straggler", rank=3, ratio=2.5)
        + event(27, "crash", silent_s=3.0)
        + event(30, "launch", program="trainer")
        + event(40, "resume", restore_s=2.0, redone_s=4.0)
        + event(50, "done")
    )
    (tmp_path / "metrics.jsonl").write_text("".join(step(ended) for ended in (18, 20, 42, 44, 46, 48)))
    return tmp_path


def test_every_second_of_the_wall_time_has_a_name(output: Path) -> None:
    found = goodput(output)
    assert found.wall_s == 50
    assert found.step_s == pytest.approx(6 * 1.5)
    assert (found.data_s, found.checkpoint_stall_s) == (pytest.approx(1.2), pytest.approx(1.8))
    assert (found.probe_s, found.startup_s, found.restore_s) == (5, 9 + 8, 3)
    assert (found.redone_s, found.detect_s, found.idle_s, found.export_s) == (4, 3, 1 + 3, 2)
    assert found.other_s == pytest.approx(0)
    assert found.share == pytest.approx(9 / 50)
    assert found.starts == 2


def test_stragglers_are_named_with_their_worst(output: Path) -> None:
    assert goodput(output).stragglers == (Straggler(3, 2, 2.5),)
    assert "rank 3 was slow 2 times, 2.5 x the median" in told(goodput(output))


def test_a_directory_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has no events\.jsonl; give the output directory"):
        goodput(tmp_path)
