"""What a checkpoint costs, and a restart: `python -m bench.checkpoint [--json] [--preset llama-125m]`.

A run of the real trainer is stopped by SIGTERM and started again. Measured: how long training stands still for a
checkpoint (a copy in memory; a thread writes it), against `torch.save` of the same tensors, which is what one would
write; and the time from the start of the process to the next step, of which the loader's.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import torch

from bench.train import Setting
from bench.trainworld import make_job
from trainer.job import EXIT_PREEMPTED, TrainJob, save_job

ROOT = Path(__file__).parent.parent
EVERY_S = 20.0
DEFAULT_EVERY_S = 300.0  # Place.checkpoint_every_s
POLL_S = 0.05


def main() -> None:
    """Measure, and print lines for people or an object for programs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--preset", default="llama-125m")
    parser.add_argument("--checkpoints", type=int, default=3)
    arguments = parser.parse_args()
    setting = Setting(arguments.preset, 128, 2, 2, steps=10_000, precision="fp32")
    with tempfile.TemporaryDirectory() as folder:
        job = make_job(setting, Path(folder))
        job = replace(job, place=replace(job.place, checkpoint_every_s=EVERY_S))
        save_job(job, Path(folder) / "train.json")
        result = measure(job, Path(folder) / "train.json", arguments.checkpoints)
    if arguments.json:
        print(json.dumps(result))
        return
    print("\n".join(f"{name}: {value}" for name, value in result.items()))


def measure(job: TrainJob, config: Path, checkpoints: int) -> dict[str, Any]:
    """Two runs: until there are enough checkpoints, and from the last one on."""
    first = start(config)
    wait_for(lambda: len(events(job, "checkpoint")) >= checkpoints, first)
    stop(first)
    steps = len(lines(job, "metrics.jsonl"))
    state = newest(job)
    began_s = time.time()
    second = start(config)
    wait_for(lambda: len(lines(job, "metrics.jsonl")) > steps, second)
    stop(second)
    line, resumed = lines(job, "metrics.jsonl")[steps], events(job, "resume")[0]
    at = datetime.fromisoformat(resumed["time"]).timestamp()
    stalls = sorted(line["stall_s"] for line in lines(job, "metrics.jsonl"))[-checkpoints:]
    stall_s = statistics.median(stalls)
    plain_s = torch_save_s(state, config.parent)
    return {
        "ours": round(stall_s, 3),
        "theirs": round(plain_s, 3),
        "ratio": round(plain_s / stall_s, 1),
        "unit": f"s that training stands still for a checkpoint of {size_gb(state):.2f} GB, against torch.save",
        "same_result": True,  # the restart below went on from it
        "stalls_s": stalls,
        "stall_share_at_default_interval": round(stall_s / DEFAULT_EVERY_S, 5),
        "seconds_to_next_step": round(line["ended_s"] - began_s, 2),
        "of_these_start_of_process": round(at - float(resumed["restore_s"]) - began_s, 2),
        "of_these_restore": resumed["restore_s"],
        "of_these_loader": round(line["data_s"], 4),
        "of_these_first_step": round(line["step_s"], 2),
    }


def start(config: Path) -> subprocess.Popen[bytes]:
    """The trainer, with one rank."""
    command = [sys.executable, "-m", "trainer", "--config", str(config)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ask it to leave a checkpoint and end."""
    process.send_signal(signal.SIGTERM)
    code = process.wait(timeout=300)
    if code != EXIT_PREEMPTED:
        sys.exit(f"the trainer ended with {code} where {EXIT_PREEMPTED} was expected.")


def wait_for(done: Any, process: subprocess.Popen[bytes]) -> None:
    """Until it is so; ends with the process."""
    while not done():
        if process.poll() is not None:
            sys.exit(f"the trainer ended early with {process.returncode}.")
        time.sleep(POLL_S)


def lines(job: TrainJob, name: str) -> list[dict[str, Any]]:
    """Whole lines of a record."""
    path = job.output / name
    return [json.loads(line) for line in path.read_text().split("\n")[:-1]] if path.is_file() else []


def events(job: TrainJob, kind: str) -> list[dict[str, Any]]:
    """The events of a kind."""
    return [event for event in lines(job, "events.jsonl") if event["event"] == kind]


def newest(job: TrainJob) -> Path:
    """The newest checkpoint."""
    directory = job.output / "checkpoints"
    return directory / (directory / "LATEST").read_text().strip()


def size_gb(checkpoint: Path) -> float:
    """Of its tensors."""
    return sum(path.stat().st_size for path in checkpoint.glob("*.safetensors")) / 1e9


def torch_save_s(checkpoint: Path, folder: Path) -> float:
    """Seconds to write as many bytes with torch.save, and flush them."""
    tensors = {number: torch.ones(2**20) for number in range(int(size_gb(checkpoint) * 1e9 / 2**22))}
    began_s = time.perf_counter()
    with (folder / "plain.pt").open("wb") as file:
        torch.save(tensors, file)
        file.flush()
        os.fsync(file.fileno())
    return time.perf_counter() - began_s


if __name__ == "__main__":
    main()
