"""Small real inputs: token shards of two corpora, a tokenizer, a mixture, and a way to run the trainer for real."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from domainlm.trainer.config import ModelConfig, TrainConfig
from domainlm.trainer.job import Place, TrainJob, save_job
from domainlm.trainer.mixture import CorpusTokens, Mixture, save_mixture
from domainlm.trainer.shards import ShardHeader, TokenDocument, write_shard

VOCAB = 64
HEADER = ShardHeader(vocab_size=VOCAB, tokenizer_digest="d" * 64, bos_id=0, eos_id=1)
TINY = ModelConfig(
    preset="llama-6m", layers=2, width=32, heads=4, kv_heads=2, mlp_width=48, max_positions=64, tie_embeddings=True
)


def make_documents(corpus: str, count: int, seed: int) -> list[TokenDocument]:
    """Documents of 2 to 60 tokens whose next token follows from the last, so that there is something to learn."""
    random = np.random.default_rng(seed)
    documents = []
    for number in range(count):
        first, stride = (int(n) for n in random.integers(2, 40, size=2))
        text = 2 + (first + stride * np.arange(int(random.integers(0, 59)))) % (VOCAB - 2)
        tokens = np.concatenate([[0], text, [1]]).astype(np.uint16)
        documents.append(TokenDocument(f"{corpus}/{number}", corpus, "CC0-1.0", tokens))
    return documents


def write_corpus(directory: Path, name: str, *, shards: int, documents: int, share_ppm: int) -> CorpusTokens:
    """A tokenize directory of `shards` shards."""
    (directory / "shards").mkdir(parents=True)
    infos = tuple(
        write_shard(
            directory / f"shards/{number:05d}.arrow", make_documents(f"{name}-{number}", documents, number), HEADER
        )
        for number in range(shards)
    )
    return CorpusTokens(
        name, share_ppm, sum(info.tokens for info in infos), sum(info.documents for info in infos), infos
    )


@dataclass(frozen=True)
class World:
    """Corpora on disk and the mixture of them."""

    root: Path
    mixture: Mixture
    directories: dict[str, Path]

    def job(self, name: str, **changes: object) -> TrainJob:
        """A job that trains on the mixture and writes to `name`."""
        job = TrainJob(
            config=TrainConfig(model=TINY, precision="fp32", export_precision="fp32", peak_lr=1e-2),
            mixture=self.root / "mixture.json",
            corpora=self.directories,
            tokenizer=self.root / "tokenizer",
            output=self.root / name,
            place=Place(device="cpu", microbatch_sequences=2),
        )
        return replace(job, **changes)  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Two corpora, 70 to 30, of 2 and 3 shards; sequences of 32 tokens, 8 of them a step, 24 steps."""
    root = tmp_path_factory.mktemp("world")
    directories = {"pubmed": root / "pubmed", "general": root / "general"}
    corpora = (
        write_corpus(directories["pubmed"], "pubmed", shards=2, documents=40, share_ppm=700_000),
        write_corpus(directories["general"], "general", shards=3, documents=15, share_ppm=300_000),
    )
    mixture = Mixture(
        seed=7, sequence_tokens=32, batch_tokens=256, token_budget=24 * 256 + 100,
        tokenizer_digest=HEADER.tokenizer_digest, vocab_size=VOCAB, corpora=corpora,
    )  # fmt: skip
    save_mixture(mixture, root / "mixture.json")
    write_tokenizer(root / "tokenizer", VOCAB)
    return World(root, mixture, directories)


def write_tokenizer(directory: Path, entries: int) -> None:
    """A word tokenizer with as many entries as asked, in Hugging Face form."""
    vocabulary = {"<bos>": 0, "<eos>": 1, **{f"w{number}": number for number in range(2, entries)}}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="w2"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<bos>", eos_token="<eos>").save_pretrained(directory)


@dataclass(frozen=True)
class Trained:
    """A finished or broken execution of the trainer."""

    code: int
    stderr: str
    output: Path

    @property
    def metrics(self) -> list[dict[str, float | str | None]]:
        """Lines of metrics.jsonl."""
        return read_lines(self.output / "metrics.jsonl")

    @property
    def events(self) -> list[dict[str, float | str | None]]:
        """Lines of events.jsonl."""
        return read_lines(self.output / "events.jsonl")

    @property
    def weights(self) -> bytes:
        """The exported weights."""
        return (self.output / "model/model.safetensors").read_bytes()

    def curve(self, key: str = "loss") -> list[float | str | None]:
        """One value a step."""
        return [line[key] for line in self.metrics]


def read_lines(path: Path) -> list[dict[str, float | str | None]]:
    """The JSON lines of a file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def environment() -> dict[str, str]:
    """One thread a rank: the tests share their machine."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "PYTHONWARNINGS": "ignore"}


def command(job: TrainJob, processes: int) -> list[str]:
    """The command line of a job; its train.json lies beside its output."""
    path = job.output.with_suffix(".json")
    save_job(job, path)
    if processes == 1:
        return [sys.executable, "-m", "domainlm.trainer", "--config", str(path)]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    return [*launcher, "-m", "domainlm.trainer", "--config", str(path)]


def train(job: TrainJob, *, processes: int = 1) -> Trained:
    """Train a job to its end in processes of its own."""
    done = subprocess.run(command(job, processes), env=environment(), capture_output=True, text=True, timeout=200)
    return Trained(done.returncode, done.stderr, job.output)


@pytest.fixture(scope="session")
def uninterrupted(world: World) -> Trained:
    """The run that all others are compared with: two ranks, nothing happens."""
    return train(world.job("uninterrupted"), processes=2)
