"""Trackers, the real ones: a run is told once, from outside, and whatever becomes of the tracker the run goes on."""

import dataclasses
import json
import os
import shutil
import socket
import sqlite3
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient
from wandb.proto.wandb_internal_pb2 import Record

from domainlm.trainer import track, trackers
from domainlm.trainer.job import HeldOutJob, TrainJob, save_job
from domainlm.trainer.launch import Launch, unattended_command
from domainlm.trainer.track import Follower, Lines, Told, told_event
from domainlm.trainer.trackers import Tracking

from .conftest import Trained, World, environment, read_lines, train
from .test_held_out import write_held_out

# MLflow's migrations make alembic load all that Prefect has of its own, which warns.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::PendingDeprecationWarning")


@pytest.fixture(scope="module")
def finished(world: World, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A run of 24 steps that was looked at 7 times."""
    directory = write_held_out(tmp_path_factory.mktemp("track") / "held-out")
    return train(world.job("tracked", held_out=HeldOutJob(directory=directory, every_tokens=1024)))


@pytest.fixture
def job(finished: Trained, world: World, tmp_path: Path) -> TrainJob:
    """The same run as it was at its start: nothing written yet."""
    return world.job("tracked", output=tmp_path / "run")


def grow(finished: Trained, job: TrainJob, *, steps: int, looks: int, events: int) -> None:
    """Let the files of the run be as long as that."""
    job.output.mkdir(exist_ok=True)
    for name, count in (("metrics", steps), ("held_out", looks), ("events", events)):
        lines = (finished.output / f"{name}.jsonl").read_text().splitlines(keepends=True)
        (job.output / f"{name}.jsonl").write_text("".join(lines[:count]))


def history(job: TrainJob, name: str) -> list[tuple[int, float]]:
    """Steps and values of a metric, by MLflow's own word."""
    client = MlflowClient(tracking_uri=f"sqlite:///{job.output / 'tracking/mlflow.db'}")
    run = json.loads((job.output / "tracking/mlflow.json").read_text())["run"]
    return [(metric.step, metric.value) for metric in client.get_metric_history(run, name)]


def test_mlflow_is_told_every_step_and_look_once_through_crashes_of_run_and_reader(
    finished: Trained, job: TrainJob
) -> None:
    grow(finished, job, steps=10, looks=3, events=1)
    follower = Follower(job, Tracking("mlflow"))
    follower.look()
    grow(finished, job, steps=6, looks=2, events=1)  # the run is back at an earlier checkpoint
    follower.look()
    grow(finished, job, steps=14, looks=4, events=2)
    follower.look()
    (job.output / "tracking/mlflow.json").write_text(  # this process was killed before it wrote how far it was
        json.dumps(dataclasses.asdict(dataclasses.replace(follower.told, tokens=6 * 256.0, look_tokens=1024.0)))
    )
    grow(finished, job, steps=24, looks=7, events=2)
    again = Follower(job, Tracking("mlflow"))
    again.look()
    again.close("done")
    assert history(job, "loss") == list(enumerate(finished.curve()))
    looks = read_lines(finished.output / "held_out.jsonl")
    assert history(job, "held_out/pubmed") == [(line["step"], line["bits_per_byte"]["pubmed"]) for line in looks]  # type: ignore[index]
    assert again.told.run == follower.told.run


def test_mlflow_knows_the_config_the_events_and_the_end_but_no_path(finished: Trained, job: TrainJob) -> None:
    grow(finished, job, steps=24, looks=7, events=2)
    follower = Follower(job, Tracking("mlflow", project="notes", name="train-1"))
    follower.look()
    follower.close("done")
    client = MlflowClient(tracking_uri=f"sqlite:///{job.output / 'tracking/mlflow.db'}")
    run = client.get_run(follower.told.run or "")
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "train-1"
    assert client.get_experiment(run.info.experiment_id).name == "notes"
    assert run.data.params["config.peak_lr"] == "0.01"
    assert run.data.params["mixture.share.pubmed"] == "0.7"
    assert " start step=0 " in run.data.tags["event.000000"]
    told = json.dumps([run.data.params, run.data.tags])
    assert str(job.output.parent) not in told
    assert str(job.mixture.parent) not in told


def wandb_records(path: Path) -> Iterator[Record]:
    """The records of W&B's file: blocks of 32 KiB of (checksum, length, whole or part), after 7 bytes of header."""
    data, at, whole = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        if (left := 32768 - at % 32768) < 7:
            at += left
            continue
        length, kind = struct.unpack_from("<HB", data, at + 4)
        whole += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # full, or the last part
            yield Record.FromString(whole)
            whole = b""


def wandb_rows(folder: Path) -> dict[int, dict[str, float]]:
    """What W&B holds, by step; a later row of a step adds to the earlier."""
    rows: dict[int, dict[str, float]] = {}
    for path in sorted(folder.glob("wandb/offline-run-*/*.wandb")):
        for record in wandb_records(path):
            if record.WhichOneof("record_type") == "history":
                items = {item.key or "/".join(item.nested_key): item.value_json for item in record.history.item}
                step, row = int(items["_step"]), rows.setdefault(int(items["_step"]), {})
                told = {key: json.loads(value) for key, value in items.items() if not key.startswith("_")}
                assert not set(row) & set(told), f"step {step} was told twice"
                row |= told
    return rows


def test_wandb_offline_is_told_every_step_and_look_once(finished: Trained, job: TrainJob) -> None:
    """Each reader in a process of its own, as W&B keeps one service for each."""
    save_job(job, job.output.with_suffix(".json"))
    for steps, looks, events in ((14, 4, 1), (24, 7, 2)):
        grow(finished, job, steps=steps, looks=looks, events=events)
        shutil.copyfile(finished.output / "done.json", job.output / "done.json")  # it is to read to the end, and end
        command = [sys.executable, "-m", "domainlm.trainer.track", "--config", str(job.output.with_suffix(".json"))]
        done = subprocess.run([*command, "--tracker=wandb"], capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
    rows = wandb_rows(job.output / "tracking")
    assert [rows[step]["loss"] for step in range(24)] == finished.curve()
    looks_told = {step: row["held_out/pubmed"] for step, row in rows.items() if "held_out/pubmed" in row}
    assert list(looks_told) == [0, 4, 8, 12, 16, 20, 24]


def test_a_tracker_that_is_away_stops_nothing_and_is_told_all_when_it_is_back(finished: Trained, job: TrainJob) -> None:
    grow(finished, job, steps=8, looks=2, events=1)
    follower = Follower(job, Tracking("mlflow"))
    follower.look()
    store = sqlite3.connect(job.output / "tracking/mlflow.db")
    store.execute("ALTER TABLE metrics RENAME TO metrics_away")
    store.commit()
    grow(finished, job, steps=16, looks=4, events=1)
    with pytest.raises(Exception, match="metrics"):
        follower.look()
    follower.forget()
    store.execute("ALTER TABLE metrics_away RENAME TO metrics")
    store.commit()
    grow(finished, job, steps=24, looks=7, events=2)
    follower.look()
    assert history(job, "loss") == list(enumerate(finished.curve()))


def test_a_run_is_shown_while_it_runs_and_ends_as_without_it(finished: Trained, world: World, tmp_path: Path) -> None:
    """The real supervisor, the real MLflow."""
    job = world.job("shown", output=tmp_path / "shown")
    save_job(job, tmp_path / "train.json")
    launch = Launch(processes=1, tracking=Tracking("mlflow"))
    done = subprocess.run(unattended_command(tmp_path / "train.json", launch), env=environment(), timeout=200)
    assert done.returncode == 0
    assert history(job, "loss") == list(enumerate(finished.curve()))
    assert Trained(0, "", job.output).weights == finished.weights


def test_a_hanging_server_does_not_hold_up_the_end(
    finished: Trained, job: TrainJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grow(finished, job, steps=24, looks=7, events=2)
    save_job(job, tmp_path / "train.json")
    monkeypatch.setattr(track, "LAST_S", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as server:  # takes connections, and never answers
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        beside = track.TrackerProcess(tmp_path / "train.json", job.output, Tracking("mlflow", to=address))
        beside.start()
        server.settimeout(60)
        connection, _ = server.accept()
        with connection:
            beside.stop()
    assert beside._process is not None
    assert beside._process.poll() is not None
    assert "told" not in (job.output / "tracker.log").read_text()


def test_a_tracker_that_is_not_installed_is_refused_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(trackers.MODULES, "wandb", ("wandb", "no_such_module"))
    with pytest.raises(ValueError, match=r"needs no_such_module.*pip install 'domainlm\[wandb\]'"):
        Tracking("wandb")


def test_lines_are_read_once_whole_and_again_when_the_file_was_cut_back(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    lines = Lines(path)
    assert lines.new() == []
    path.write_text('{"n": 1}\n{"n": 2}\n{"n"')
    assert lines.new() == [{"n": 1}, {"n": 2}]
    with path.open("a") as file:
        file.write(": 3}\n")
    assert lines.new() == [{"n": 3}]
    assert lines.new() == []
    os.truncate(path, len('{"n": 1}\n'))
    assert lines.new() == [{"n": 1}]
    path.write_text('{"n": 1}\n{"n": 7}\n{"n": 8}\n{"n": 9}\n')
    assert lines.new() == [{"n": 7}, {"n": 8}, {"n": 9}]


def test_an_event_is_told_without_documents_and_messages() -> None:
    event = {"time": "T", "event": "spike", "step": 7, "loss": 9.5, "documents": ["private/1"], "what": "/home/me"}
    assert told_event(event) == "T spike step=7 loss=9.5"
    assert Told().run is None
