"""The supervisor, with real processes: nothing that it started outlives it."""

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch

from domainlm.trainer.job import outcome
from domainlm.trainer.launch import ALLOCATOR, Launch, growing_segments, unattended_command
from domainlm.trainer.launcher import preload
from domainlm.trainer.supervisor import descendants, supervise

from .conftest import World, command, environment
from .test_faults import OFTEN, events, ranks_below, wait_until

# A child with a child of its own in another session, as torchrun has; both write their pid.
FAMILY = """
import os, subprocess, sys, time
from pathlib import Path
inner = "import signal, time; signal.signal(signal.SIGTERM, {handler}); time.sleep(60)"
child = subprocess.Popen([sys.executable, "-c", inner], start_new_session=True)
Path(sys.argv[1]).write_text(f"{{os.getpid()}} {{child.pid}}")
time.sleep(60)
"""


def is_alive(pid: int) -> bool:
    """Whether the process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def family(tmp_path: Path, handler: str) -> list[str]:
    return [sys.executable, "-c", FAMILY.format(handler=handler), str(tmp_path / "pids")]


def pids(tmp_path: Path) -> list[int]:
    path = tmp_path / "pids"
    return [int(pid) for pid in path.read_text().split()] if path.is_file() else []


def test_output_goes_to_the_log_and_the_exit_code_comes_back(tmp_path: Path) -> None:
    code = "import sys; print('out'); print('err', file=sys.stderr); sys.exit(7)"
    assert supervise([sys.executable, "-uc", code], log=tmp_path / "a/log", poll_s=0.05) == 7
    assert sorted((tmp_path / "a/log").read_text().split()) == ["err", "out"]


def test_environment_and_directory_are_given(tmp_path: Path) -> None:
    code = "import os; print(os.environ['COLOUR'], os.getcwd())"
    supervise([sys.executable, "-c", code], log=tmp_path / "log", env={"COLOUR": "blue"}, cwd=tmp_path, poll_s=0.05)
    assert (tmp_path / "log").read_text().split() == ["blue", str(tmp_path)]


def talk() -> None:
    sys.stdout.write(f"out {os.environ['COLOUR']} {Path.cwd()}\n")
    sys.exit(7)


def test_a_function_runs_in_a_fork_as_a_command_does(tmp_path: Path) -> None:
    code = supervise(talk, log=tmp_path / "log", env={"COLOUR": "blue"}, cwd=tmp_path, poll_s=0.05)
    assert code == 7
    assert (tmp_path / "log").read_text().split() == ["out", "blue", str(tmp_path)]
    assert os.environ.get("COLOUR") is None


def test_what_a_fork_exits_with_in_words_is_in_its_log(tmp_path: Path) -> None:
    assert supervise(partial(sys.exit, "no room"), log=tmp_path / "log", poll_s=0.05) == 1
    assert (tmp_path / "log").read_text() == "no room\n"


def test_a_fork_ends_without_what_its_parent_would_do_at_its_end(tmp_path: Path) -> None:
    """As a library's threads have themselves ended: in the fork it fails, and the exit code was 1."""
    code = (
        "import os, sys, threading; from pathlib import Path; from domainlm.trainer.supervisor import supervise;"
        "threading._register_atexit(lambda: 1 / 0);"
        f"os._exit(supervise(lambda: sys.exit(7), log=Path({str(tmp_path / 'log')!r}), poll_s=0.05))"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 7


def test_a_stop_that_comes_as_a_fork_begins_is_not_lost(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGTERM, lambda *_: None)  # a supervisor's own handler, which a fork inherits
    try:
        for _ in range(20):
            code = supervise(partial(time.sleep, 60), log=tmp_path / "log", should_stop=lambda: True, grace_s=30)
            assert code == -signal.SIGTERM
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_stop_reaches_the_whole_tree(tmp_path: Path) -> None:
    code = supervise(
        family(tmp_path, "signal.SIG_DFL"),
        log=tmp_path / "log",
        should_stop=lambda: bool(pids(tmp_path)),
        poll_s=0.05,
        grace_s=5,
    )
    assert code == -signal.SIGTERM
    wait_until(lambda: not any(is_alive(pid) for pid in pids(tmp_path)), seconds=5)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, RuntimeError])
def test_an_exception_on_its_way_up_leaves_nobody_behind_not_even_the_deaf(
    tmp_path: Path, error: type[BaseException]
) -> None:
    def look() -> None:
        if pids(tmp_path):
            time.sleep(0.3)  # the inner child needs a moment to turn deaf
            raise error

    with pytest.raises(error):
        supervise(family(tmp_path, "signal.SIG_IGN"), log=tmp_path / "log", on_poll=look, poll_s=0.05, grace_s=0.3)
    wait_until(lambda: not any(is_alive(pid) for pid in pids(tmp_path)), seconds=5)


def test_kill_9_of_the_supervisor_leaves_no_rank_alive(world: World) -> None:
    job = world.job("orphans", place=OFTEN)
    command(job, 2)  # writes train.json
    path = job.output.with_suffix(".json")
    code = (
        "from functools import partial; from pathlib import Path; from domainlm.trainer.launch import Launch;"
        "from domainlm.trainer.launcher import launch_ranks; from domainlm.trainer.supervisor import supervise;"
        f"path = Path({str(path)!r}); supervise(partial(launch_ranks, Launch(2), path), log=Path(f'{{path}}.log'))"
    )
    supervisor = subprocess.Popen([sys.executable, "-c", code], env=environment())
    wait_until(lambda: "checkpoint" in events(job))
    tree, ranks = descendants(supervisor.pid), ranks_below(supervisor.pid)
    assert len(ranks) == 2
    supervisor.kill()
    supervisor.wait()
    wait_until(lambda: not any(is_alive(pid) for pid in tree), seconds=40)
    assert outcome(job.output) in ("preempted", "done")


def test_kill_9_of_the_launcher_leaves_no_rank_alive(world: World) -> None:
    job = world.job("launcher", place=OFTEN)
    launcher = subprocess.Popen(command(job, 2), env=environment(), stderr=subprocess.DEVNULL)
    wait_until(lambda: "checkpoint" in events(job))
    ranks = ranks_below(launcher.pid)
    assert len(ranks) == 2
    launcher.kill()
    launcher.wait()
    wait_until(lambda: not any(is_alive(pid) for pid in ranks), seconds=10)
    assert outcome(job.output) in ("failed", "done")


def test_a_stop_leaves_a_checkpoint_and_the_next_start_ends_the_run(world: World) -> None:
    job = world.job("stopped", place=OFTEN)
    command(job, 2)  # writes train.json
    unattended = unattended_command(job.output.with_suffix(".json"), Launch(2))
    supervisor = subprocess.Popen(unattended, env=environment())
    wait_until(lambda: "checkpoint" in events(job))
    supervisor.terminate()
    assert supervisor.wait(60) == 75
    assert outcome(job.output) == "preempted"
    assert events(job).count("start") == 1  # it did not start again
    assert subprocess.run(unattended, env=environment(), timeout=200).returncode == 0
    assert outcome(job.output) == "done"
    assert events(job)[-1] == "done"
    assert not (job.output / "preempted.json").exists()
    lines = [json.loads(line) for line in (job.output / "events.jsonl").read_text().splitlines()]
    parts = [list(line["startup_s"]) for line in lines if line["event"] in ("start", "resume")]
    assert parts == [["imports", "join", "assemble"]] * 2


def test_a_supervisor_in_which_cuda_has_started_forks_no_ranks(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    preload(world.job("preloaded"))
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    with pytest.raises(RuntimeError, match=r"has started CUDA.*uninstall it"):
        preload(world.job("preloaded"))


def test_a_job_that_cannot_work_ends_with_its_reason(world: World, tmp_path: Path) -> None:
    path = tmp_path / "train.json"
    path.write_text('{"confg": {}}')
    environ = {**environment(), "PYTHONPATH": os.pathsep.join(sys.path)}
    code = supervise(
        [sys.executable, "-m", "domainlm.trainer", "--config", str(path)], log=tmp_path / "log", env=environ
    )
    assert code == 2
    assert "unknown key `confg`; did you mean `config`?" in (tmp_path / "log").read_text()


def test_memory_is_given_out_in_growing_segments_unless_the_machine_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ALLOCATOR:
        monkeypatch.delenv(name, raising=False)
    assert growing_segments()["PYTORCH_CUDA_ALLOC_CONF"] == "expandable_segments:True"
    monkeypatch.setenv("PYTORCH_ALLOC_CONF", "max_split_size_mb:64")  # which torch would not read beside ours
    assert growing_segments()["PYTORCH_ALLOC_CONF"] == "max_split_size_mb:64"
    assert "PYTORCH_CUDA_ALLOC_CONF" not in growing_segments()
