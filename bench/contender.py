"""One contender of bench.train in a process of its own: `python -m bench.contender NAME train.json`.

    ours      this trainer, with the best attention that is installed
    varlen    this trainer, with torch's own
    trainer   Hugging Face `Trainer`: packed sequences with position ids, SDPA, fused AdamW, loader workers; on CUDA
              bf16 and torch_compile
    plain     a loop by hand around the same Hugging Face model, as one writes it: autocast, compile, SDPA
    smeared   the same loop without keeping documents apart: another result, and the fastest attention of SDPA
    matmul    no contender: a large matrix product, which says what the machine gives

All start from the same weights and read the same sequences in the same order, with the same learning rates. The last
line of the output is an object: seconds and losses of the steps, and the peak of memory.
"""

import argparse
import json
import logging
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset, Sampler, SequentialSampler
from transformers import AutoModelForCausalLM, PreTrainedModel

from trainer.assemble import assemble, initial_weights, model_config
from trainer.config import OptimizerConfig
from trainer.flops import attended, flops_per_token
from trainer.job import TrainJob, load_job
from trainer.ledger import open_streams
from trainer.loader import MASKED, Loader
from trainer.loop import Run
from trainer.microbatch import is_out_of_memory
from trainer.mixture import load_mixture
from trainer.model import build_on_meta
from trainer.ranks import end, join
from trainer.sampler import Sampler as Order

WORKERS = 2  # of the rivals' data loaders


def main() -> None:
    """Run the contender, and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    contenders = {"ours": ours, "varlen": ours, "trainer": hugging_face, "plain": plain, "smeared": smeared}
    parser.add_argument("name", choices=(*contenders, "matmul"))
    parser.add_argument("config", type=Path, nargs="?")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    if arguments.name == "matmul":
        print(json.dumps({"flops_per_s": matmul(), **memory()}))
        return
    job = load_job(arguments.config)
    try:
        result = contenders[arguments.name](job)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        print(json.dumps({"out_of_memory": str(error)[:300]}))
        return
    print(json.dumps({**result, **memory(), "flops_per_token": flops(job)}))


def ours(job: TrainJob) -> dict[str, Any]:
    """The steps of this trainer with all that belongs to them: data, metrics, signs of life."""
    ranks = join(job.place.device)
    run = Run(job, ranks, assemble(job, ranks))
    run.steps(run.restore())
    ranks.barrier()
    if not ranks.is_first:
        end(0)  # the first one tells
    lines = [json.loads(line) for line in (job.output / "metrics.jsonl").read_text().splitlines()]
    step_s = [line["step_s"] + line["data_s"] + line["stall_s"] for line in lines]
    attention = run.parts.model.causal.config._attn_implementation
    return {"step_s": step_s, "losses": [line["loss"] for line in lines], "attention": attention}


class Sequences(Dataset[dict[str, Tensor]]):
    """The sequences of a mixture in the order of training, as a map."""

    def __init__(self, job: TrainJob) -> None:
        mixture = load_mixture(job.mixture)
        self.order = Order(mixture)
        self.loader = Loader(self.order, open_streams(mixture, job.corpora), rank=0, num_ranks=1)
        self.count = mixture.num_steps * mixture.batch_sequences

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        ids, positions, targets = (tensor[0] for tensor in self.loader.sequence(self.order.locate(number)))
        return {"input_ids": ids, "position_ids": positions, "labels": targets, "shift_labels": targets}


def hugging_face(job: TrainJob) -> dict[str, Any]:
    """`transformers.Trainer`."""
    try:
        import accelerate  # noqa: F401 - Trainer needs it, and says so late
    except ImportError:
        sys.exit("Hugging Face Trainer needs `accelerate`, which is not installed: pip install accelerate.")
    from transformers import Trainer, TrainerCallback, TrainingArguments

    class InOrder(Trainer):
        def _get_train_sampler(self, *_: Any) -> Sampler[int]:
            return SequentialSampler(self.train_dataset)

    ends_s: list[float] = []

    class Clock(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            if not ends_s:
                ends_s.append(time.perf_counter())

        def on_step_end(self, *_: Any, **__: Any) -> None:
            ends_s.append(time.perf_counter())

    mixture, on_cuda = load_mixture(job.mixture), torch.cuda.is_available()
    model = fresh_model(job)
    optimizer = adamw(model, job.config.optimizer)
    rates = [rate / job.config.peak_lr for rate in learning_rates(job)]
    optimizer.param_groups[0]["lr"] = job.config.peak_lr
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rates[min(step, len(rates) - 1)])
    with tempfile.TemporaryDirectory() as folder:
        settings = TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=job.place.microbatch_sequences,
            gradient_accumulation_steps=mixture.batch_sequences // job.place.microbatch_sequences,
            max_steps=mixture.num_steps,
            max_grad_norm=job.config.optimizer.grad_clip,
            bf16=job.config.precision == "bf16",
            torch_compile=on_cuda,
            use_cpu=not on_cuda,
            dataloader_num_workers=WORKERS,
            dataloader_pin_memory=on_cuda,
            remove_unused_columns=False,
            logging_steps=1,
            logging_nan_inf_filter=False,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
        )
        trainer = InOrder(
            model, settings, train_dataset=Sequences(job), optimizers=(optimizer, schedule), callbacks=[Clock()]
        )
        trainer.train()
    losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    return {"step_s": differences(ends_s), "losses": losses}


def plain(job: TrainJob, *, keep_apart: bool = True) -> dict[str, Any]:
    """A training loop by hand."""
    mixture = load_mixture(job.mixture)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = fresh_model(job).to(device)
    optimizer = adamw(model, job.config.optimizer)
    forward = torch.compile(model) if device.type == "cuda" else model
    size = job.place.microbatch_sequences
    batches = iter(DataLoader(Sequences(job), size, num_workers=WORKERS, pin_memory=device.type == "cuda"))
    losses, ends_s = [], [time.perf_counter()]
    for rate in learning_rates(job):
        microbatches = [next(batches) for _ in range(mixture.batch_sequences // size)]
        num_targets = sum(int((batch["labels"] != MASKED).sum()) for batch in microbatches)
        total = torch.zeros((), device=device)
        for batch in microbatches:
            ids, positions, labels = (
                batch[key].to(device, non_blocking=True) for key in ("input_ids", "position_ids", "labels")
            )
            with torch.autocast(device.type, torch.bfloat16, enabled=job.config.precision == "bf16"):
                logits = forward(input_ids=ids, position_ids=positions if keep_apart else None, use_cache=False).logits
            loss = cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), reduction="sum") / num_targets
            loss.backward()
            total += loss.detach()
        torch.nn.utils.clip_grad_norm_(model.parameters(), job.config.optimizer.grad_clip)
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()
        optimizer.zero_grad()
        losses.append(total.item())
        ends_s.append(time.perf_counter())
    return {"step_s": differences(ends_s), "losses": losses}


def smeared(job: TrainJob) -> dict[str, Any]:
    """The loop by hand without document masks."""
    return plain(job, keep_apart=False)


def fresh_model(job: TrainJob) -> PreTrainedModel:
    """The model with the weights that ours starts from."""
    mixture = load_mixture(job.mixture)
    config = model_config(job, open_streams(mixture, job.corpora)[0].shards[0].header)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="sdpa")
    source = initial_weights(job, config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(source(name, parameter.shape))
    return model.train()


def adamw(model: PreTrainedModel, config: OptimizerConfig) -> torch.optim.AdamW:
    """The optimizer of the job, which has no weight decay."""
    betas = (config.beta1, config.beta2)
    return torch.optim.AdamW(model.parameters(), lr=0.0, betas=betas, eps=config.eps, weight_decay=0.0, fused=True)


def learning_rates(job: TrainJob) -> list[float]:
    """By step."""
    mixture, schedule = load_mixture(job.mixture), job.config.schedule
    middles = ((step + 0.5) * mixture.batch_tokens for step in range(mixture.num_steps))
    budget, peak = mixture.token_budget, job.config.peak_lr
    return [schedule.learning_rate(middle, token_budget=budget, peak=peak) for middle in middles]


def differences(ends_s: list[float]) -> list[float]:
    """Seconds between."""
    return [later - earlier for earlier, later in zip(ends_s, ends_s[1:], strict=False)]  # noqa: RUF007


def flops(job: TrainJob) -> int:
    """FLOPs of a token; of attention only what lies within documents, for all contenders alike."""
    sequences = Sequences(job)
    config = model_config(job, sequences.loader.streams[0].shards[0].header)
    positions = torch.stack([sequences[number]["position_ids"] for number in range(0, len(sequences), 16)])
    return flops_per_token(build_on_meta(config, z_loss=0.0), config, attended(positions))


def matmul() -> float:
    """FLOP/s of a large matrix product."""
    on_cuda = torch.cuda.is_available()
    size, device, dtype = (8192, "cuda", torch.bfloat16) if on_cuda else (2048, "cpu", torch.float32)
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    seconds, repeats = [], 10 if on_cuda else 1
    for _ in range(10):
        began_s = time.perf_counter()
        for _ in range(repeats):
            torch.mm(left, right)
        if on_cuda:
            torch.cuda.synchronize()
        seconds.append((time.perf_counter() - began_s) / repeats)
    return 2 * size**3 / statistics.median(seconds)


def memory() -> dict[str, Any]:
    """The peak: of the GPU's memory, or of the process."""
    if torch.cuda.is_available():
        return {"peak_gib": torch.cuda.max_memory_allocated() / 2**30, "device": torch.cuda.get_device_name()}
    return {"peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, "device": "cpu"}


if __name__ == "__main__":
    main()
