"""One supervisor for every heavy stage: whatever happens to it, nothing that it started outlives it.

The child runs in a session of its own with its output in a file (a full pipe would stop it). It is asked to stop by
SIGTERM to its whole tree, ranks included, which then write a checkpoint, and is killed after the grace. If the
supervisor itself is killed, the kernel tells the child (`die_with_parent`). Standard library only.

Called as a script, it ties itself to its parent and becomes the command: `python supervisor.py PARENT_PID COMMAND`.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, Protocol

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_OURS = (signal.SIGTERM, signal.SIGINT)


def supervise(
    command: Sequence[str] | Callable[[], object],
    *,
    log: Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    should_stop: Callable[[], bool] | None = None,
    poll_s: float = 0.5,
    grace_s: float = 20.0,
    is_hung: Callable[[], bool] | None = None,
    on_poll: Callable[[], None] | None = None,
) -> int:
    """Run `command` to its end, and return its exit code (negative: the signal that ended it).

    Call it in the main thread: the kernel's parent-death signal fires when the *thread* that started the child ends.

    Args:
        command: program and arguments; or a function, which is run in a fork of this process, in which it is quick.
        log: file to which its output is appended.
        env: its environment; None for ours.
        cwd: its working directory; None for ours.
        should_stop: asked every `poll_s`; True ends the child as a cancel would, and its exit code is returned.
        poll_s: seconds between looks at the child.
        grace_s: seconds between SIGTERM and SIGKILL.
        is_hung: asked every `poll_s`; True kills the child and all below it without a grace, for none would use it.
        on_poll: called at each look; an exception from it, or any other in this thread, stops the child and goes on up.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        child: Child
        if callable(command):
            child = Fork(command, output.fileno(), env, cwd)
        else:
            streams: Any = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": output}
            child = subprocess.Popen(tied(command), **streams, env=env, cwd=cwd, start_new_session=True)
    try:
        while child.poll() is None:
            if on_poll is not None:
                on_poll()
            if is_hung is not None and is_hung():
                grace_s = 0.0
                break
            if should_stop is not None and should_stop():
                break
            _wait(child, poll_s)
    finally:
        _stop_tree(child, grace_s)
    return child.wait()


class Child(Protocol):
    """What is asked of a child: the part of a `Popen` that a fork has, too."""

    pid: int

    def poll(self) -> int | None:
        """The exit code, once there is one."""

    def wait(self, timeout: float | None = None) -> int:
        """The exit code; `subprocess.TimeoutExpired` if there is none in time."""


class Fork:
    """A function in a fork of this process: a session of its own, tied to us, its output in a file."""

    def __init__(
        self, work: Callable[[], object], output: int, env: Mapping[str, str] | None, cwd: Path | None
    ) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        parent, before = os.getpid(), signal.pthread_sigmask(signal.SIG_BLOCK, _OURS)
        self.pid = os.fork()
        if self.pid == 0:
            _in_fork(work, parent, output, env, cwd)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)  # blocked until the fork has handlers of its own
        self._code: int | None = None

    def poll(self) -> int | None:
        """The exit code, once there is one."""
        if self._code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self._code = os.waitstatus_to_exitcode(status) if pid else None
        return self._code

    def wait(self, timeout: float | None = None) -> int:
        """The exit code; `subprocess.TimeoutExpired` if there is none in time."""
        deadline_s = float("inf") if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > deadline_s:
                raise subprocess.TimeoutExpired("a fork", timeout or 0.0)
            time.sleep(0.01)
        return code


def _in_fork(
    work: Callable[[], object], parent: int, output: int, env: Mapping[str, str] | None, cwd: Path | None
) -> NoReturn:
    """Do the work, and end without what our parent would do at its end."""
    code = 1
    try:
        os.setsid()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for stream in (1, 2):
            os.dup2(output, stream)
        sys.stdout, sys.stderr = (os.fdopen(stream, "w", buffering=1, closefd=False) for stream in (1, 2))
        for number in _OURS:
            signal.signal(number, signal.SIG_DFL)  # they are our parent's
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _OURS)
        _tie(parent)
        if env is not None:
            os.environ.clear()
            os.environ.update(env)
        if cwd is not None:
            os.chdir(cwd)
        work()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        if isinstance(end.code, str):
            sys.stderr.write(f"{end.code}\n")
    except BaseException:  # noqa: BLE001 - the last stop: it is told, and the process ends
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def tied(command: Sequence[str]) -> list[str]:
    """The command line that runs `command` until it ends, or this process does: it then gets SIGTERM."""
    return [sys.executable, "-S", "-E", str(Path(__file__).resolve()), str(os.getpid()), *command]


def name_process(name: str) -> None:
    """Say by which name `ps` and `top` show this process; Linux takes 15 characters."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_NAME, name.encode(), 0, 0, 0)


def die_with_parent(signal_number: int = signal.SIGKILL) -> None:
    """Have the kernel send `signal_number` to this process when its parent ends; does nothing outside Linux."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal_number, 0, 0, 0)


def descendants(pid: int) -> list[int]:
    """All living processes below `pid`, parents first (Linux)."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended while we looked
        if fields[0] != "Z":
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found, next_ones = [], [pid]
    while next_ones:
        next_ones = [child for parent in next_ones for child in sorted(children.get(parent, []))]
        found += next_ones
    return found


def _stop_tree(child: Child, grace_s: float) -> None:
    """SIGTERM to the child and all below it, SIGKILL to what is left after the grace."""
    tree = [child.pid, *descendants(child.pid)] if child.poll() is None else []
    if grace_s > 0:
        _signal(tree, signal.SIGTERM)
    deadline_s = time.monotonic() + grace_s
    while child.poll() is None and time.monotonic() < deadline_s:
        _wait(child, 0.05)
    if child.poll() is None:
        tree = [child.pid, *descendants(child.pid)]
    _signal([pid for pid in tree if pid != child.pid or child.poll() is None], signal.SIGKILL)
    child.wait()


def _wait(child: Child, seconds: float) -> None:
    try:
        child.wait(seconds)
    except subprocess.TimeoutExpired:
        return


def _signal(pids: Sequence[int], number: signal.Signals) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue  # it has ended already


def _tie(parent: int) -> None:
    die_with_parent(signal.SIGTERM)
    if os.getppid() != parent:
        sys.exit(128 + signal.SIGTERM)  # the parent ended before the tie held


def _become(parent: int, command: list[str]) -> None:
    """Tie this process to its parent, and turn it into `command`."""
    _tie(parent)
    os.execvp(command[0], command)


if __name__ == "__main__":
    _become(int(sys.argv[1]), sys.argv[2:])
