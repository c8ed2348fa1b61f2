"""Runtime profiles: the Slurm script really trains on two "nodes" of this machine, the manifest says what it must."""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml

from domainlm.tasks.runtime import Runtime
from domainlm.tasks.train import make_launch
from domainlm.trainer.config import ModelConfig, TrainConfig
from domainlm.trainer.job import EXIT_REFUSED, EXIT_STOPPED, Place, TrainJob, save_job
from domainlm.trainer.launch import Launch, add_arguments, given_launch
from domainlm.trainer.mixture import CorpusTokens, Mixture, save_mixture
from domainlm.trainer.shards import ShardHeader, TokenDocument, write_shard
from domainlm.trainer.supervisor import descendants

PROFILES = Path(__file__).resolve().parents[2] / "deployments" / "profiles"

SCONTROL = """#!/bin/sh
[ "$1" = show ] && echo localhost && echo localhost && exit 0
echo "$@" >> "$STAND_IN_LOG"
"""
SRUN = """#!/bin/sh
while case "$1" in --*) true;; *) false;; esac; do shift; done   # its own options
SLURM_PROCID=0 "$@" & first=$!
SLURM_PROCID=1 "$@" & second=$!
trap 'kill -TERM $first $second' TERM
wait $first; code=$?
while kill -0 $first 2>/dev/null; do wait $first; code=$?; done
wait $second
exit $code
"""


@pytest.fixture
def job(tmp_path: Path) -> TrainJob:
    """400 steps of a tiny model, a checkpoint as often as possible."""
    header = ShardHeader(64, "d" * 64, 0, 1)
    random = np.random.default_rng(0)
    documents = [
        TokenDocument(f"n/{n}", "notes", "CC0-1.0", np.array([0, *random.integers(2, 64, 40), 1], np.uint16))
        for n in range(200)
    ]
    (tmp_path / "corpus/shards").mkdir(parents=True)
    info = write_shard(tmp_path / "corpus/shards/00000.arrow", documents, header)
    corpus = CorpusTokens("notes", 1_000_000, info.tokens, info.documents, (info,))
    save_mixture(Mixture(1, 32, 128, 400 * 128, header.tokenizer_digest, 64, (corpus,)), tmp_path / "mixture.json")
    (tmp_path / "tokenizer").mkdir()
    vocabulary = {f"w{n}": n for n in range(64)}
    (tmp_path / "tokenizer/tokenizer.json").write_text(json.dumps({"model": {"vocab": vocabulary}}))
    shape = ModelConfig(layers=1, width=32, heads=2, kv_heads=2, mlp_width=48, max_positions=64)
    job = TrainJob(
        config=TrainConfig(model=shape, precision="fp32"), mixture=tmp_path / "mixture.json",
        corpora={"notes": tmp_path / "corpus"}, tokenizer=tmp_path / "tokenizer", output=tmp_path / "out",
        place=Place(device="cpu", microbatch_sequences=2, checkpoint_every_s=0.05),
    )  # fmt: skip
    save_job(job, tmp_path / "train.json")
    return job


@pytest.fixture
def slurm(job: TrainJob, tmp_path: Path) -> "Iterator[subprocess.Popen[bytes]]":
    """The script as Slurm would start it on the first of two nodes."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name, text in (("scontrol", SCONTROL), ("srun", SRUN)):
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        port = listener.getsockname()[1]
    env = {
        **os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "SLURM_JOB_NODELIST": "node[1-2]", "SLURM_JOB_ID": "7",
        "SLURM_JOB_NUM_NODES": "2", "DOMAINLM_PYTHON": sys.executable, "DOMAINLM_PORT": str(port),
        "STAND_IN_LOG": str(tmp_path / "scontrol.log"), "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE",
        "PYTHONWARNINGS": "ignore",
    }  # fmt: skip
    script = ["bash", str(PROFILES / "slurm.sbatch"), str(tmp_path / "train.json")]
    with (tmp_path / "slurm.out").open("wb") as log:
        process = subprocess.Popen(script, env=env, stdout=log, stderr=log, start_new_session=True)
        try:
            yield process
        finally:
            for pid in (*descendants(process.pid), process.pid):
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            process.wait()


def events(job: TrainJob) -> list[dict[str, object]]:
    path = job.output / "events.jsonl"
    return [json.loads(line) for line in path.read_text().split("\n")[:-1]] if path.is_file() else []


def steps(job: TrainJob) -> int:
    path = job.output / "metrics.jsonl"
    return path.read_text().count("\n") if path.is_file() else 0


def wait_until(true: object, process: "subprocess.Popen[bytes]") -> None:
    deadline_s = time.monotonic() + 120
    while not true():  # type: ignore[operator]
        assert process.poll() is None, "the script has ended"
        assert time.monotonic() < deadline_s, "waited in vain"
        time.sleep(0.02)


def ranks_below(pid: int) -> list[int]:
    found = []
    for child in descendants(pid):
        try:
            name = Path(f"/proc/{child}/comm").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        found += [child] if name.startswith("rank ") else []
    return found


def test_the_slurm_script_trains_on_two_nodes_survives_a_kill_and_leaves_a_checkpoint_before_its_time_is_over(
    job: TrainJob, slurm: "subprocess.Popen[bytes]", tmp_path: Path
) -> None:
    wait_until(lambda: steps(job) >= 8 and list(job.output.glob("checkpoints/step-*/manifest.json")), slurm)
    os.kill(ranks_below(slurm.pid)[-1], signal.SIGKILL)
    wait_until(lambda: any(event["event"] == "resume" for event in events(job)), slurm)
    resumed = steps(job)
    wait_until(lambda: steps(job) > resumed, slurm)
    slurm.send_signal(signal.SIGTERM)  # as Slurm does five minutes before the time limit
    assert slurm.wait(120) == 75
    started = [event for event in events(job) if event["event"] in ("start", "resume")]
    assert [event["num_ranks"] for event in started] == [2, 2]
    assert sum(event["event"] == "launch" and event["nodes"] == "2" for event in events(job)) >= 4
    assert json.loads((job.output / "preempted.json").read_text())["step"] == steps(job)
    assert (tmp_path / "scontrol.log").read_text() == "requeue 7\n"


def test_a_runtime_says_on_which_nodes_and_where_they_meet(job: TrainJob) -> None:
    where = {"nodes": "1:2", "rendezvous": "node-1:29500", "launcher": ["srun", "--ntasks-per-node=1"]}
    launch = make_launch(job, Runtime.model_validate({"processes": 8, "training": where}))
    assert (launch.processes, launch.nodes, launch.rendezvous) == (8, "1:2", "node-1:29500")
    with pytest.raises(ValueError, match="rendezvous"):
        Runtime.model_validate({"training": {"nodes": "2", "rendezvous": "node-1"}})


def manifest() -> dict[str, dict[str, object]]:
    return {one["kind"]: one for one in yaml.safe_load_all((PROFILES / "kubernetes.yaml").read_text())}


def test_the_command_in_the_kubernetes_manifest_is_one_that_the_supervisor_takes() -> None:
    container = manifest()["Job"]["spec"]["template"]["spec"]["containers"][0]  # type: ignore[index]
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    launch: Launch = given_launch(parser.parse_args(container["args"]))
    assert container["command"] == ["python", "-m", "domainlm.trainer.unattended"]
    assert launch.processes == container["resources"]["limits"]["nvidia.com/gpu"]
    assert launch.grace_s < manifest()["Job"]["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]  # type: ignore[index]


def test_the_pods_of_the_kubernetes_manifest_meet_and_its_job_ends_where_going_on_is_of_no_use() -> None:
    service, job = manifest()["Service"], manifest()["Job"]
    spec = job["spec"]
    arguments = dict(a.split("=") for a in spec["template"]["spec"]["containers"][0]["args"])  # type: ignore[index]
    assert spec["completions"] == spec["parallelism"] == int(arguments["--nodes"])  # type: ignore[index]
    name = service["metadata"]["name"]  # type: ignore[index]
    port = service["spec"]["ports"][0]["port"]  # type: ignore[index]
    assert spec["template"]["spec"]["subdomain"] == name  # type: ignore[index]
    assert service["spec"]["selector"] == {"job-name": job["metadata"]["name"]}  # type: ignore[index]
    assert arguments["--rendezvous"] == f"{job['metadata']['name']}-0.{name}:{port}"  # type: ignore[index]
    ends = next(rule for rule in spec["podFailurePolicy"]["rules"] if rule["action"] == "FailJob")  # type: ignore[index]
    assert ends["onExitCodes"]["values"] == [EXIT_REFUSED, EXIT_STOPPED]
