"""A build in a terminal: one line a finished stage, a bar for the one that runs."""

from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from domainlm.flows.view import summary
from domainlm.tasks import progress as stage_progress
from domainlm.tasks.store import Sealed


class TerminalView:
    """Shows a build; use it as a context."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=16),
            TextColumn("{task.fields[figures]}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        )
        self.running = self.bar.add_task("", visible=False, figures="", total=None)

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def started(self, name: str) -> None:
        """Show the bar of a stage."""
        self.bar.reset(self.running, description=name, visible=True, figures="", total=None)

    def moved(self, progress: stage_progress.Progress) -> None:
        """Move the bar; what there is to say beside it is a line below."""
        figures = f"{progress.done:,.0f} of {progress.total:,.0f} {progress.unit}"
        note = f"\n{progress.note}" if progress.note else ""
        self.bar.update(self.running, completed=progress.done, total=progress.total, figures=figures + note)

    def finished(self, name: str, sealed: Sealed, *, reused: bool) -> None:
        """Replace the bar by a line."""
        self.bar.update(self.running, visible=False)
        mark, seconds = ("=", "reused") if reused else ("+", f"{sealed.manifest.provenance.seconds:.1f} s")
        colour = "dim" if reused else "green"
        line = f"[{colour}]{mark}[/] {name:<26} {seconds:>8}  [dim]{summary(sealed)}[/]"
        self.console.print(line, no_wrap=True, overflow="ellipsis")


def relative(path: Path) -> Path:
    """The path as a person in this directory would type it."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path
