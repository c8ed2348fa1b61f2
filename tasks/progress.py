"""What a running stage and its watcher say to each other: how far it is, and whether it should stop.

The watcher is a bar in a terminal or a log line in a worker; it may have heard of a cancellation that no signal brings.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

MIN_INTERVAL_S = 0.5  # more is noise in a terminal, and in Prefect a kilobyte of database a line


@dataclass(frozen=True)
class Progress:
    """How far the running stage is. `note` is a short text such as "loss 2.31"."""

    done: float
    total: float
    unit: str
    note: str = ""


Sink = Callable[[Progress], None]
StopRequested = Callable[[], bool]


def _nobody(progress: Progress) -> None:
    """Nobody watches."""


def _never() -> bool:
    """Nobody asks to stop."""
    return False


_sink: ContextVar[Sink] = ContextVar("progress_sink", default=_nobody)
_stop: ContextVar[StopRequested] = ContextVar("stop_requested", default=_never)
_last_s: ContextVar[float] = ContextVar("progress_last_s", default=0.0)


@contextmanager
def watched_by(sink: Sink, stop: StopRequested = _never) -> Iterator[None]:
    """Send the progress of what runs inside to `sink`, and let it ask `stop` whether to go on."""
    sink_token, stop_token = _sink.set(sink), _stop.set(stop)
    try:
        yield
    finally:
        _sink.reset(sink_token)
        _stop.reset(stop_token)


def is_watched() -> bool:
    """Whether anybody shows the progress."""
    return _sink.get() is not _nobody


def stop_requested() -> bool:
    """Whether the watcher wants the running stage to stop; asked by what supervises other processes."""
    return _stop.get()()


def report(done: float, total: float, unit: str, note: str = "") -> None:
    """Tell whoever watches; at most twice a second, and always at the end."""
    now_s = time.monotonic()
    if done < total and now_s - _last_s.get() < MIN_INTERVAL_S:
        return
    _last_s.set(now_s)
    _sink.get()(Progress(done, total, unit, note))
