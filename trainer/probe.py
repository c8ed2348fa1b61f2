"""Does the microbatch fit? One step of the real model on made-up tokens, in a process of its own that may die of it.

Run by `trainer.unattended` under torchrun with as many ranks as the run, as `-m trainer.probe --config train.json`.
Exit code 0: it fits; 77: out of memory. It writes no more than its signs of life.
"""

import argparse
import logging
from collections.abc import Callable
from pathlib import Path

import torch

from .__main__ import run_rank
from .assemble import model_config, sharded_model
from .fsdp import accumulate
from .heartbeat import Heart
from .job import TrainJob
from .ledger import open_streams
from .microbatch import load_microbatch
from .mixture import load_mixture
from .model import TensorSource, without_dropout
from .optimizer import ShardedOptimizer
from .preflight import check_batch, check_files, check_model, check_tokens
from .ranks import Ranks, end
from .tensors import staged


def prepare(job: TrainJob, ranks: Ranks) -> Callable[[], int]:
    """The cheap checks, and then one step."""
    heart = Heart(job.output, ranks.rank)
    check_files(job)
    mixture = load_mixture(job.mixture)
    check_batch(mixture, num_ranks=ranks.num_ranks)
    header = check_tokens(mixture, open_streams(mixture, job.corpora))
    hf_config = without_dropout(model_config(job, header))
    check_model(mixture, hf_config, job)
    size = min(load_microbatch(job).sequences, mixture.batch_sequences // ranks.num_ranks)

    def work() -> int:
        model = sharded_model(job, ranks, hf_config, small_weights())
        heart.beat()
        optimizer = ShardedOptimizer(model, job.config.optimizer)
        tokens = torch.randint(mixture.vocab_size, (size, mixture.sequence_tokens), device=ranks.device)
        positions = torch.arange(mixture.sequence_tokens, device=ranks.device).repeat(size, 1)
        for is_last in (False, True):  # gradients are added up while activations of the next microbatch are there
            accumulate(model, is_last=is_last)
            model(tokens, positions, tokens).backward()
            heart.beat()
        optimizer.step(lr=0.0, grad_norm=1.0)
        staged(optimizer)
        if ranks.device.type == "cuda":
            peak_gib = torch.cuda.max_memory_allocated(ranks.device) / 2**30
            logging.info("a microbatch of %d sequences fits: %.1f GiB at the peak.", size, peak_gib)
        return 0

    return work


def small_weights() -> TensorSource:
    """Weights whose gradients are finite; their values do not matter here."""
    return lambda name, shape: torch.full(shape, 0.01)


def main() -> int:
    """Parse the command line and try; returns the exit code."""
    parser = argparse.ArgumentParser(prog="trainer.probe", description="Try one step of a job.")
    parser.add_argument("--config", type=Path, required=True, help="path of train.json")
    return run_rank(parser.parse_args().config, prepare)


if __name__ == "__main__":
    end(main())
