"""A small world to break: one corpus, a model of two layers, two ranks on the CPU, and a way to watch a run."""

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from trainer.config import GuardConfig, ModelConfig, TrainConfig
from trainer.job import Place, TrainJob, save_job
from trainer.launch import Launch, unattended_command
from trainer.mixture import CorpusTokens, Mixture, save_mixture
from trainer.shards import ShardHeader, TokenDocument, write_shard
from trainer.supervisor import descendants

ROOT = Path(__file__).resolve().parent.parent
VOCABULARY, STEPS, SEQUENCE, BATCH = 64, 240, 32, 128
HEADER = ShardHeader(VOCABULARY, "d" * 64, 0, 1)
PLACE = Place(device="cpu", microbatch_sequences=2, checkpoint_every_s=0.1)
CONFIG = TrainConfig(
    model=ModelConfig(layers=2, width=64, heads=4, kv_heads=2, mlp_width=96, max_positions=64, tie_embeddings=True),
    precision="fp32", export_precision="fp32", peak_lr=1e-2,
    guard=GuardConfig(window_steps=32, patience_steps=1),
)  # fmt: skip


@dataclass(frozen=True)
class Running:
    """A run in the background."""

    process: "subprocess.Popen[bytes]"
    job: TrainJob

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """Whole lines of metrics.jsonl."""
        return read_lines(self.job.output / "metrics.jsonl")

    @property
    def events(self) -> list[dict[str, Any]]:
        """Whole lines of events.jsonl."""
        return read_lines(self.job.output / "events.jsonl")

    def count(self, event: str) -> int:
        """How often an event has happened."""
        return sum(line["event"] == event for line in self.events)

    def ranks(self) -> list[int]:
        """Processes that are ranks, by rank."""
        found = {}
        for pid in descendants(self.process.pid):
            try:
                name = Path(f"/proc/{pid}/comm").read_text().strip()
            except (FileNotFoundError, ProcessLookupError):
                continue  # it ended while we looked
            found |= {int(name[5:]): pid} if name.startswith("rank ") else {}
        return [found[rank] for rank in sorted(found)]

    def launcher(self) -> int:
        """The process of the agent."""
        return descendants(self.process.pid)[0]

    def wait(self, seconds: float = 120) -> int:
        """The exit code at the end."""
        return self.process.wait(seconds)


class World:
    """Inputs in a folder, and runs on them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.documents = _documents()
        tokenizer = root / "tokenizer"
        tokenizer.mkdir(parents=True)
        words = {"<bos>": 0, "<eos>": 1, **{f"w{n}": n for n in range(2, VOCABULARY)}}
        Tokenizer(WordLevel(words, unk_token="w2")).save(str(tokenizer / "tokenizer.json"))
        self.mixture = self.write(self.documents)

    def write(self, documents: Sequence[TokenDocument]) -> Mixture:
        """Write the corpus and the mixture."""
        folder = self.root / "corpus" / "shards"
        folder.mkdir(parents=True, exist_ok=True)
        info = write_shard(folder / "00000.arrow", documents, HEADER)
        corpus = CorpusTokens("notes", 1_000_000, info.tokens, info.documents, (info,))
        mixture = Mixture(3, SEQUENCE, BATCH, STEPS * BATCH, HEADER.tokenizer_digest, VOCABULARY, (corpus,))
        save_mixture(mixture, self.root / "mixture.json")
        return mixture

    def job(self, name: str, **place: object) -> TrainJob:
        """A job that writes to `name`."""
        return TrainJob(
            config=CONFIG, mixture=self.root / "mixture.json", corpora={"notes": self.root / "corpus"},
            tokenizer=self.root / "tokenizer", output=self.root / name, place=replace(PLACE, **place),
        )  # fmt: skip

    @contextmanager
    def running(
        self, job: TrainJob, *, fault: dict[str, object] | None = None, command: Sequence[str] = (), **launch: object
    ) -> Iterator[Running]:
        """The run of a job in the background; nothing of it outlives the block."""
        config = job.output.with_suffix(".json")
        save_job(job, config)
        wrapper = ("bench.inject",) if fault else ()
        options: dict[str, Any] = {"processes": 2, "backoff_s": 0.2, "wrapper": wrapper, **launch}
        arguments = list(command) or unattended_command(config, Launch(**options))
        env = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "PYTHONWARNINGS": "ignore"}
        env |= {"FAULT": json.dumps(fault)} if fault else {}
        with job.output.with_suffix(".log").open("ab") as log:
            process = subprocess.Popen(arguments, cwd=ROOT, env=env, stdout=log, stderr=log)
            try:
                yield Running(process, job)
            finally:
                for pid in (*descendants(process.pid), process.pid):
                    kill(pid)
                process.wait()


def torchrun(config: Path, *, processes: int = 2, max_restarts: int = 3) -> list[str]:
    """The trainer as torchrun alone keeps it alive."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    return [*launcher, f"--max-restarts={max_restarts}", "-m", "trainer", "--config", str(config)]


def wait_until(true: Callable[[], object], seconds: float = 90) -> None:
    """Look every few milliseconds.

    Raises:
        TimeoutError: it does not come true.
    """
    deadline_s = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"waited {seconds:.0f} s in vain")
        time.sleep(0.01)


def kill(pid: int, number: int = 9) -> None:
    """Send a signal to a process of ours, if it is still there."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Whole lines of a file that may still grow."""
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text().split("\n")[:-1]]


def weights(output: Path) -> str:
    """Digest of the exported weights; empty if there are none."""
    path = output / "model" / "model.safetensors"
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def _documents() -> list[TokenDocument]:
    """Documents that count upwards from somewhere: soon learned, so that garbage stands out."""
    random = np.random.default_rng(0)
    documents = []
    for number in range(700):
        first, length = int(random.integers(2, VOCABULARY)), int(random.integers(20, 60))
        text = 2 + (first + np.arange(length)) % (VOCABULARY - 2)
        documents.append(TokenDocument(f"note/{number}", "notes", "CC0-1.0", _ended(text)))
    return documents


def garbage(document: TokenDocument) -> TokenDocument:
    """A document of the same length that nothing can be learned from."""
    random = np.random.default_rng(len(document.tokens))
    return replace(document, tokens=_ended(random.integers(2, VOCABULARY, size=len(document.tokens) - 2)))


def _ended(text: "np.typing.NDArray[np.int64]") -> "np.typing.NDArray[np.uint16]":
    return np.concatenate([[0], text, [1]]).astype(np.uint16)
