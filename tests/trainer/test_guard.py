"""The guard, the skips, the signs of life, the crash loop and the files: what unattended runs rest on."""

import errno
import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from domainlm.trainer.config import GuardConfig
from domainlm.trainer.crashes import Crash, CrashLoop
from domainlm.trainer.files import write_json
from domainlm.trainer.guard import Guard, Spike
from domainlm.trainer.heartbeat import End, Heart, clear_ends, newest_sign_s, read_ends, read_signs, save_end
from domainlm.trainer.job import TrainJob
from domainlm.trainer.microbatch import Microbatch, halved, is_out_of_memory, load_microbatch, save_microbatch
from domainlm.trainer.pace import Watch
from domainlm.trainer.skips import Rollback, Skips, load_skips, save_skips

from .conftest import World

CONFIG = GuardConfig(window_steps=16, deviations=6, patience_steps=3)
NOISE = [2.0 + 0.01 * ((7 * step) % 5 - 2) for step in range(40)]


def watched(losses: list[float], config: GuardConfig = CONFIG) -> list[Spike]:
    guard = Guard(config)
    return [spike for step, loss in enumerate(losses) if (spike := guard.watch(step, loss)) is not None]


def test_noise_and_a_falling_loss_are_no_spike() -> None:
    assert watched(NOISE) == []
    assert watched([8.0 / (1 + step) + loss for step, loss in enumerate(NOISE)]) == []


def test_one_hard_batch_is_no_spike_and_does_not_enter_the_window() -> None:
    guard = Guard(CONFIG)
    for step, loss in enumerate([*NOISE, 9.0, *NOISE]):
        assert guard.watch(step, loss) is None
    assert max(guard.losses) < 2.1


def test_high_losses_in_a_row_are_a_spike_and_the_step_before_is_suspected() -> None:
    (spike,) = watched([*NOISE, 3.0, 3.1, 3.2])
    assert (spike.first, spike.last, spike.loss) == (40, 42, 3.2)
    assert list(spike.suspects) == [39, 40, 41, 42]
    assert 2.0 < spike.threshold < 2.5


@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_non_finite_losses_neither_enter_the_window_nor_hide_a_spike(poison: float) -> None:
    guard = Guard(CONFIG)
    for step, loss in enumerate([*NOISE, poison, poison]):
        assert guard.watch(step, loss) is None
    assert guard.losses == NOISE[-16:]
    assert [bool(guard.watch(42 + i, 3.0)) for i in range(3)] == [False, False, True]


def test_a_restored_guard_judges_as_the_first_one_would() -> None:
    whole = Guard(CONFIG)
    for step, loss in enumerate([*NOISE, 3.0]):
        whole.watch(step, loss)
    stored = json.loads(json.dumps({"losses": whole.losses, "high": whole.high_steps}))
    restored = Guard(CONFIG, stored["losses"], stored["high"])
    for step in (41, 42):
        assert restored.watch(step, 3.0) == whole.watch(step, 3.0)
    assert restored.threshold() == whole.threshold()


def test_skips_come_back_from_their_file_and_tries_count_nearby_only(tmp_path: Path) -> None:
    assert load_skips(tmp_path) == Skips()
    skips = Skips().and_also(Rollback(10, (9, 10))).and_also(Rollback(12, (11, 12))).and_also(Rollback(500, (500,)))
    save_skips(skips, tmp_path)
    assert load_skips(tmp_path) == skips
    assert skips.steps == {9, 10, 11, 12, 500}
    assert [skips.near(step, 100) for step in (11, 200, 450)] == [2, 0, 1]


def test_a_crash_is_tried_again_at_once_then_slower_and_progress_forgives() -> None:
    loop, crash = CrashLoop(max_restarts=3, backoff_s=1.0), Crash("now", 3, "it broke", ["line"])
    waits = []
    for _ in range(3):
        loop.add(crash, "step-1")
        waits.append(loop.wait_s)
    assert waits == [0, 1, 2]
    assert not loop.is_over
    loop.add(crash, "step-2")
    assert (len(loop.crashes), loop.wait_s) == (1, 0)
    for _ in range(3):
        loop.add(crash, "step-2")
    assert loop.is_over


def test_a_crash_report_says_what_when_and_the_end_of_the_log(tmp_path: Path) -> None:
    loop = CrashLoop(max_restarts=0)
    loop.add(Crash("2026-01-01T00:00", 41, "rank 1: RuntimeError: broken", ["the last line"]), "")
    told = loop.report(tmp_path)
    assert "2026-01-01T00:00 at step 41: rank 1: RuntimeError: broken" in told
    assert "| the last line" in told
    assert json.loads((tmp_path / "crash-report.json").read_text())["crashes"][0]["step"] == 41


def test_signs_name_the_rank_that_is_stopped_first(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        hearts = [Heart(tmp_path, rank) for rank in (0, 1)]
        stopped = json.loads(hearts[1].path.read_text()) | {"pid": child.pid}
        write_json(hearts[1].path, stopped)
        child.send_signal(19)
        os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT)
        hearts[0].beat()
        first, second = read_signs(tmp_path, 0)
        assert (first.rank, first.state, second.rank) == (1, "T", 0)
        assert newest_sign_s(tmp_path) == hearts[0].path.stat().st_mtime
    finally:
        child.kill()
        child.wait()


def test_ends_are_kept_apart_from_signs_and_forgotten(tmp_path: Path) -> None:
    Heart(tmp_path, 0)
    save_end(End(0, "out_of_memory", "no"), tmp_path)
    assert read_ends(tmp_path) == [End(0, "out_of_memory", "no")]
    assert len(read_signs(tmp_path, 0)) == 1
    clear_ends(tmp_path)
    assert read_ends(tmp_path) == []


def test_a_microbatch_is_halved_and_kept_until_another_is_asked_for(world: World) -> None:
    job: TrainJob = replace(world.job("halved"), place=replace(world.job("x").place, microbatch_sequences=5))
    job.output.mkdir()
    assert load_microbatch(job) == Microbatch(5, 5, proven=False)
    half = halved(load_microbatch(job))
    assert half == Microbatch(5, 2, proven=False)
    save_microbatch(half, job.output)
    assert load_microbatch(job) == half
    assert halved(Microbatch(5, 1, proven=False)) is None
    assert load_microbatch(replace(job, place=replace(job.place, microbatch_sequences=8))).sequences == 8


def test_torchs_own_refusal_of_memory_is_known_and_other_errors_are_not() -> None:
    import torch

    with pytest.raises(RuntimeError) as refusal:
        torch.empty(2**50, dtype=torch.uint8)
    assert is_out_of_memory(refusal.value)
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"))
    assert not is_out_of_memory(RuntimeError("shape mismatch"))
    assert not is_out_of_memory(ValueError("out of memory"))


def test_a_straggler_is_named_once_after_three_slow_measurements() -> None:
    watch, slow = Watch(), [1.0, 1.1, 3.0, 0.9]
    found = [watch.look(slow, number) for number in (1, 2, 2, 3, 4)]
    assert [[(s.rank, s.ratio) for s in row] for row in found] == [[], [], [], [(2, 3.0)], []]
    again = Watch()
    assert not any(again.look(paces, n) for n, paces in enumerate([slow, slow, [1.0] * 4, slow, slow], start=1))


LIMITED = """
import resource, signal, sys
from pathlib import Path
from domainlm.trainer.files import Lines
path = Path(sys.argv[1])
lines = Lines(path)
lines.append({"n": 0})
resource.setrlimit(resource.RLIMIT_FSIZE, (14, resource.RLIM_INFINITY))
for n in (1, 2):
    lines.append({"n": n})
assert path.read_text() == '{"n": 0}\\n', path.read_text()
assert not lines.is_complete
try:
    lines.sync()
except OSError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
lines.append({"n": 3})
lines.sync()
"""


def test_lines_that_the_disk_does_not_take_wait_and_are_never_half_there(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    run = [sys.executable, "-c", LIMITED, str(path)]
    told = subprocess.run(run, capture_output=True, text=True, check=True).stdout
    assert told == f"[Errno {errno.ENOSPC}] 2 lines of lines.jsonl do not fit on the disk\n"
    assert [json.loads(line)["n"] for line in path.read_text().splitlines()] == [0, 1, 2, 3]
