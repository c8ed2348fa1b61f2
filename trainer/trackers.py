"""Trackers that a run may be shown in: MLflow and Weights & Biases, behind one small interface.

Neither is needed by the trainer, and neither is imported unless it was asked for. Without a server of yours everything
stays on this machine: MLflow in a SQLite file, W&B offline. What they report home about themselves is switched off.
"""

import argparse
import importlib.util
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

Kind = Literal["mlflow", "wandb"]
Ending = Literal["done", "stopped", "interrupted"]
Settings = Mapping[str, str | float | bool | None]

QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "WANDB_ERROR_REPORTING": "false",
    "WANDB_SILENT": "true",
}
MODULES = {"mlflow": ("mlflow", "sqlalchemy", "alembic"), "wandb": ("wandb",)}
MAX_METRICS = 1000  # that MLflow takes at once
MAX_TEXT = 250


@dataclass(frozen=True)
class Tracking:
    """Which tracker a run is shown in, and as what."""

    kind: Kind
    to: str | None = None
    """MLflow: its tracking URI. W&B: the address of its server. None keeps all on this machine."""
    project: str = "domainlm"
    name: str = ""
    folder: Path | None = None
    """Where local records lie, those of several runs together; None for `tracking/` in the output directory."""

    def __post_init__(self) -> None:
        missing = [module for module in MODULES[self.kind] if importlib.util.find_spec(module) is None]
        if missing:
            raise ValueError(
                f"tracker {self.kind} needs {', '.join(missing)}, which is not installed; "
                f"`pip install 'domainlm[{self.kind}]'`, or leave the tracker out."
            )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that say which tracker."""
    parser.add_argument("--tracker", choices=tuple(MODULES), help="where to show the run; nowhere if not given")
    parser.add_argument("--tracker-to", help="tracking URI or server; without it all stays on this machine")
    parser.add_argument("--tracker-project", default="domainlm", help="experiment or project")
    parser.add_argument("--tracker-name", default="", help="name of the run")
    parser.add_argument("--tracker-folder", type=Path, help="where local records lie; OUTPUT/tracking if not given")


def given_tracking(arguments: argparse.Namespace) -> Tracking | None:
    """What the options say.

    Raises:
        ValueError: the tracker is not installed.
    """
    if arguments.tracker is None:
        return None
    names = ("to", "project", "name", "folder")
    return Tracking(arguments.tracker, **{name: getattr(arguments, f"tracker_{name}") for name in names})


def options(tracking: Tracking | None) -> list[str]:
    """The options that say this."""
    if tracking is None:
        return []
    values = {"to": tracking.to, "project": tracking.project, "name": tracking.name, "folder": tracking.folder}
    return [f"--tracker={tracking.kind}", *(f"--tracker-{key}={value}" for key, value in values.items() if value)]


@dataclass(frozen=True)
class Row:
    """What was measured at one step. `at_s` is in seconds since 1970."""

    step: int
    at_s: float
    values: Mapping[str, float]


class Tracker(Protocol):
    """One run in a tracker."""

    run: str
    """Its id there, by which it is found again."""

    def newest(self, name: str) -> float | None:
        """The newest value of a metric that it holds; None if it has none, or cannot tell."""

    def log(self, rows: Sequence[Row]) -> None:
        """Add rows, in the order of their steps; all values of a row or none."""

    def note(self, number: int, text: str) -> None:
        """Keep the text of event `number`; the same number again replaces it."""

    def close(self, ending: Ending) -> None:
        """Say how the run ended."""


def open_tracker(tracking: Tracking, folder: Path, run: str | None, settings: Settings) -> Tracker:
    """Go on with `run`, or begin one with these settings. What is local lies in `folder`."""
    os.environ.update(QUIET)
    folder.mkdir(parents=True, exist_ok=True)
    if tracking.kind == "mlflow":
        return MlflowTracker(tracking, folder, run, settings)
    return WandbTracker(tracking, folder, run, settings)


class MlflowTracker:
    """A run in MLflow."""

    def __init__(self, tracking: Tracking, folder: Path, run: str | None, settings: Settings) -> None:
        from mlflow.entities import Param
        from mlflow.tracking import MlflowClient

        self.client: Any = MlflowClient(tracking_uri=tracking.to or f"sqlite:///{(folder / 'mlflow.db').resolve()}")
        if run is None:
            found = self.client.get_experiment_by_name(tracking.project)
            experiment = found.experiment_id if found else self.client.create_experiment(tracking.project)
            run = self.client.create_run(experiment, run_name=tracking.name or None).info.run_id
            params = [Param(key, str(value)) for key, value in settings.items()]
            self.client.log_batch(run, params=params)
        else:
            self.client.update_run(run, status="RUNNING")
        self.run: str = run

    def newest(self, name: str) -> float | None:
        """What the store holds."""
        value: float | None = self.client.get_run(self.run).data.metrics.get(name)
        return value

    def log(self, rows: Sequence[Row]) -> None:
        """In batches that end with a row, each a transaction."""
        from mlflow.entities import Metric

        batch: list[Any] = []
        for row in rows:
            if len(batch) + len(row.values) > MAX_METRICS:
                self.client.log_batch(self.run, metrics=batch)
                batch = []
            batch += [Metric(name, value, round(row.at_s * 1000), row.step) for name, value in row.values.items()]
        if batch:
            self.client.log_batch(self.run, metrics=batch)

    def note(self, number: int, text: str) -> None:
        """As a tag."""
        self.client.set_tag(self.run, f"event.{number:06d}", text[:MAX_TEXT])

    def close(self, ending: Ending) -> None:
        """As MLflow calls it."""
        status = {"done": "FINISHED", "stopped": "FAILED", "interrupted": "KILLED"}[ending]
        self.client.set_terminated(self.run, status=status)


class WandbTracker:
    """A run in Weights & Biases: offline, unless a server was named."""

    def __init__(self, tracking: Tracking, folder: Path, run: str | None, settings: Settings) -> None:
        import wandb

        options: dict[str, Any] = {"base_url": tracking.to} if tracking.to else {}
        self.handle: Any = wandb.init(
            project=tracking.project,
            name=tracking.name or None,
            dir=str(folder),
            id=run,
            resume=None if run is None else "allow",
            config=None if run else dict(settings),
            mode="online" if tracking.to else "offline",
            settings=wandb.Settings(
                console="off", disable_git=True, disable_code=True, disable_job_creation=True, save_code=False,
                x_disable_stats=True, x_disable_meta=True, x_disable_machine_info=True, **options,
            ),
        )  # fmt: skip
        self.run: str = self.handle.id

    def newest(self, name: str) -> float | None:
        """Offline nothing is known of the processes before."""
        value = self.handle.summary.get(name)
        return float(value) if isinstance(value, int | float) else None

    def log(self, rows: Sequence[Row]) -> None:
        """At the run's own steps."""
        for row in rows:
            self.handle.log(dict(row.values), step=row.step)

    def note(self, number: int, text: str) -> None:
        """In the summary."""
        self.handle.summary[f"event/{number:06d}"] = text[:MAX_TEXT]

    def close(self, ending: Ending) -> None:
        """With an exit code, which W&B shows as finished or failed."""
        self.handle.finish(exit_code=0 if ending == "done" else 1)
