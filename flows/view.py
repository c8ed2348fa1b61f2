"""Who shows a build: the log of a Prefect run, or a terminal. A build tells its view what starts, moves and ends."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol
from uuid import UUID

import httpx
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.exceptions import PrefectException
from prefect.logging import get_run_logger

from domainlm.tasks.progress import Progress
from domainlm.tasks.store import Sealed

KEPT = {
    "kept": "kept",
    "held_out": "held out",
    "shards": "documents",
    "sampled": "documents sampled",
    "not_sampled": "not needed",
    "annotated": "measured",
}
TOLD = {  # figures that say what a stage did, where no document has a fate in it
    "train_tokenizer": {"vocab_size": "{:,.0f} entries"},
    "tokenize": {"tokens": "{:,.0f} tokens"},
    "mix": {"tokens": "{:,.0f} tokens", "steps": "{:,.0f} steps"},
    "train": {"last_loss": "loss {:.2f}", "tokens": "{:,.0f} tokens", "parameters": "{:,.0f} parameters"},
    "publish": {"documents": "from {:,.0f} documents", "tokens": "{:,.0f} tokens"},
}
LOG_INTERVAL_S = 15.0  # a line is a kilobyte in Prefect's database; the full log is in the stage's directory


class View(Protocol):
    """Shows a build."""

    def started(self, name: str) -> None:
        """A stage is looked for in the store and, if it is not there, built."""

    def moved(self, progress: Progress) -> None:
        """The stage that is being built is this far."""

    def finished(self, name: str, sealed: Sealed, *, reused: bool) -> None:
        """A stage's output is there."""


class RunLogView:
    """Writes to the log of the Prefect run, sparingly, and keeps a progress bar on its page."""

    def __init__(self) -> None:
        self.name = ""
        self.logged_s = 0.0
        self.bar: UUID | None = None

    def started(self, name: str) -> None:
        """Remember what runs."""
        self.name, self.logged_s, self.bar = name, time.monotonic(), None

    def moved(self, progress: Progress) -> None:
        """One line every `LOG_INTERVAL_S`, and the bar with it."""
        if time.monotonic() - self.logged_s < LOG_INTERVAL_S:
            return
        self.logged_s = time.monotonic()
        note = f", {progress.note}" if progress.note else ""
        line = f"{self.name}: {progress.done:,.0f} of {progress.total:,.0f} {progress.unit}{note}"
        get_run_logger().info(line)
        self._show(100 * progress.done / progress.total, line)

    def finished(self, name: str, sealed: Sealed, *, reused: bool) -> None:
        """One line a stage."""
        if self.bar is not None:
            self._show(100.0, f"{name}: built {sealed.path.name}")
        get_run_logger().info(f"{name}: {'reused' if reused else 'built'} {sealed.path.name}: {summary(sealed)}")

    def _show(self, percent: float, line: str) -> None:
        try:
            if self.bar is None:
                key = f"progress-{self.name.replace('.', '-').replace('_', '-')}"
                made = create_progress_artifact(percent, key=key, description=line)
                assert isinstance(made, UUID)  # a coroutine only where there is an event loop
                self.bar = made
            else:
                update_progress_artifact(self.bar, percent, description=line)
        except (httpx.HTTPError, PrefectException) as error:  # a server that is away stops no training
            get_run_logger().warning(f"the progress of {self.name} could not be shown: {error}")


def summary(sealed: Sealed) -> str:
    """What a stage did, in a few words: `1,204 kept, 153 out (language 3, too_short 150)`, `2,734 steps, loss 0.62`."""
    fates = {fate: count for fate, count in sealed.manifest.fates.items() if count}
    told = [f"{fates[fate]:,} {words}" for fate, words in KEPT.items() if fate in fates]
    out = sorted(((count, fate) for fate, count in fates.items() if fate not in KEPT), reverse=True)
    if out:
        told.append(f"{sum(count for count, _ in out):,} out ({', '.join(f'{fate} {count:,}' for count, fate in out)})")
    counts = sealed.manifest.counts
    told += [
        words.format(counts[name]) for name, words in TOLD.get(sealed.manifest.stage, {}).items() if name in counts
    ]
    questions = sum(int(count) for name, count in counts.items() if name.startswith("questions."))
    if sealed.manifest.stage == "evaluate" and questions:
        told.append(f"{questions:,} questions")
    return ", ".join(told)


_view: ContextVar[View | None] = ContextVar("view", default=None)


@contextmanager
def shown_by(view: View) -> Iterator[None]:
    """Builds inside are shown by `view` rather than in the run's log."""
    token = _view.set(view)
    try:
        yield
    finally:
        _view.reset(token)


def current_view() -> View:
    """The view of the build that runs here."""
    return _view.get() or RunLogView()
