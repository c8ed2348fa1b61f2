"""Speed of the trainer on synthetic token shards: `python -m bench.train [--json] [--preset llama-125m] ...`.

Runs the trainer as a user would (torchrun, one rank a device, from a plain checkout), and prints tokens/s, MFU and peak
memory of the steps after the first few. The documents are random tokens of the lengths that abstracts and articles
have, so that document masking is at work; nothing is fetched.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from trainer.config import ModelConfig, ScheduleConfig, TrainConfig
from trainer.job import Place, TrainJob, save_job
from trainer.mixture import CorpusTokens, Mixture, save_mixture
from trainer.shards import ShardHeader, TokenDocument, write_shard
from trainer.supervisor import torchrun_command

VOCABULARY = 32_768
WARM_STEPS = 5
MEAN_DOCUMENT_TOKENS = 1_200


def main() -> None:
    """Measure, and print a line for people or an object for programs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="llama-125m")
    parser.add_argument("--sequence-tokens", type=int, default=2048)
    parser.add_argument("--batch-sequences", type=int, default=64)
    parser.add_argument("--microbatch-sequences", type=int, default=16)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = measure(arguments, Path(folder))
    if arguments.json:
        print(json.dumps(result))
    else:
        print(f"{result['model']}: {result['tokens_per_s']:,.0f} tokens/s, MFU {result['mfu']}, {result['device']}")


def measure(arguments: argparse.Namespace, folder: Path) -> dict[str, object]:
    """Train some steps in `folder`; the median of those after the warm-up."""
    job = make_job(arguments, folder)
    save_job(job, folder / "train.json")
    done = subprocess.run(
        torchrun_command(folder / "train.json", processes=arguments.processes),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        sys.exit(f"the trainer ended with {done.returncode}:\n{(done.stdout + done.stderr)[-4000:]}")
    steps = [json.loads(line) for line in (job.output / "metrics.jsonl").read_text().splitlines()][WARM_STEPS:]
    step_s = statistics.median(step["step_s"] for step in steps)
    mfus = [step["mfu"] for step in steps if step["mfu"] is not None]
    tokens = arguments.batch_sequences * arguments.sequence_tokens
    return {
        "model": arguments.preset,
        "sequence_tokens": arguments.sequence_tokens,
        "batch_tokens": tokens,
        "microbatch_sequences": arguments.microbatch_sequences,
        "tokens_per_s": tokens / step_s,
        "mfu": round(statistics.median(mfus), 4) if mfus else None,
        "last_loss": steps[-1]["loss"],
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "torch": torch.__version__,
    }


def make_job(arguments: argparse.Namespace, folder: Path) -> TrainJob:
    """A training job on a corpus that is twice as long as the budget."""
    budget = arguments.steps * arguments.batch_sequences * arguments.sequence_tokens
    words = {"<|begin|>": 0, "<|end|>": 1, **{f"w{number}": number for number in range(2, VOCABULARY)}}
    tokenizer = folder / "tokenizer"
    tokenizer.mkdir()
    Tokenizer(WordLevel(words, unk_token="<|end|>")).save(str(tokenizer / "tokenizer.json"))
    digest = sha256((tokenizer / "tokenizer.json").read_bytes()).hexdigest()
    header = ShardHeader(vocab_size=VOCABULARY, tokenizer_digest=digest, bos_id=0, eos_id=1)
    (folder / "corpus" / "shards").mkdir(parents=True)
    shard = write_shard(folder / "corpus" / "shards" / "00000.arrow", documents(2 * budget), header)
    corpus = CorpusTokens("synthetic", 1_000_000, shard.tokens, shard.documents, (shard,))
    mixture = Mixture(
        seed=0,
        sequence_tokens=arguments.sequence_tokens,
        batch_tokens=arguments.batch_sequences * arguments.sequence_tokens,
        token_budget=budget,
        tokenizer_digest=digest,
        vocab_size=VOCABULARY,
        corpora=(corpus,),
    )
    save_mixture(mixture, folder / "mixture.json")
    return TrainJob(
        config=TrainConfig(model=ModelConfig(preset=arguments.preset), schedule=ScheduleConfig(), peak_lr=3e-4),
        mixture=folder / "mixture.json",
        corpora={"synthetic": folder / "corpus"},
        tokenizer=tokenizer,
        output=folder / "out",
        place=Place(microbatch_sequences=arguments.microbatch_sequences, checkpoint_every_s=3600),
    )


def documents(num_tokens: int) -> list[TokenDocument]:
    """Random documents of about so many tokens, with lengths as uneven as real ones."""
    generator, made, total = np.random.default_rng(0), [], 0
    while total < num_tokens:
        length = 64 + int(generator.exponential(MEAN_DOCUMENT_TOKENS))
        tokens = generator.integers(2, VOCABULARY, length).astype(np.uint16)
        tokens[0], tokens[-1] = 0, 1
        made.append(TokenDocument(f"synthetic/{len(made)}", "synthetic", "CC0-1.0", tokens))
        total += length
    return made


if __name__ == "__main__":
    main()
