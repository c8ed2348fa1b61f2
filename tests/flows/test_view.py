"""What a person sees of a stage that runs: a bar and a line in the terminal, a bar on the page of a Prefect run."""

import io

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from rich.console import Console

from domainlm.flows import view
from domainlm.flows.terminal import TerminalView
from domainlm.flows.view import RunLogView
from domainlm.tasks.progress import Progress

NOTE = "loss 2.914, 182,300 tokens/s, MFU 41.3%, 25 min left, held out 1.021 bits/byte over 3 sources"


def test_a_prefect_run_shows_a_bar_that_moves_with_loss_speed_and_time_left(
    prefect_server: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(view, "LOG_INTERVAL_S", 0.0)

    @flow(persist_result=False)
    def training() -> None:
        shown = RunLogView()
        shown.started("train")
        shown.moved(Progress(300, 1000, "tokens", NOTE))
        shown.moved(Progress(600, 1000, "tokens", NOTE))

    training()
    wanted = ArtifactFilter(key=ArtifactFilterKey(any_=["progress-train"]))
    with get_client(sync_client=True) as client:
        artifacts = client.read_artifacts(artifact_filter=wanted)
    assert [(artifact.type, artifact.data) for artifact in artifacts] == [("progress", 60.0)]
    assert artifacts[0].description == f"train: 600 of 1,000 tokens, {NOTE}"


def test_a_bar_that_cannot_be_moved_does_not_stop_the_work(
    prefect_server: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Somebody has deleted it on the page."""
    monkeypatch.setattr(view, "LOG_INTERVAL_S", 0.0)

    @flow(persist_result=False)
    def training() -> None:
        shown = RunLogView()
        shown.started("train")
        shown.moved(Progress(300, 1000, "tokens", NOTE))
        assert shown.bar is not None
        with get_client(sync_client=True) as client:
            client.delete_artifact(shown.bar)
        shown.moved(Progress(600, 1000, "tokens", NOTE))

    caplog.clear()
    training()
    assert "the progress of train could not be shown" in caplog.text


def test_a_terminal_shows_the_figures_of_training_below_the_bar() -> None:
    stream = io.StringIO()
    with TerminalView(Console(file=stream, force_terminal=True, width=110, color_system=None)) as shown:
        shown.started("train")
        shown.moved(Progress(300, 1000, "tokens", NOTE))
        shown.bar.refresh()
    lines = [line.rstrip() for line in stream.getvalue().split("\n")]
    assert any("train" in line and "300 of 1,000 tokens" in line for line in lines)
    assert any(NOTE in line for line in lines)
