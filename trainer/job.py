"""`train.json`: one training run, its config (identity) apart from its place. Read by `python -m trainer --config`.

    {"config": {...}, "mixture": "/path/mixture.json", "corpora": {"pubmed": "/path/of/tokenize/directory"},
     "tokenizer": "/path/dir", "init_from": null, "trunk": null, "output": "/path/out",
     "held_out": {"directory": "/path/of/tokenize_held_out/directory", "tokens": 100000, "every_tokens": null},
     "place": {"device": "auto", "microbatch_sequences": 4, "checkpoint_every_s": 300, "keep_checkpoints": 2}}

Output directory: `metrics.jsonl`, `events.jsonl`, `held_out.jsonl`, `checkpoints/`, `model/` and, written last,
`done.json`; instead `preempted.json` when it was asked to stop and left a checkpoint, `stopped.json` when going on
would be of no use.
"""

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from . import strict
from .config import TrainConfig

STATE = "state"  # of an output directory: where a run at a flat rate leaves its end for others to go on from

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_REFUSED = 2  # the job cannot work; stderr says why
EXIT_STOPPED = 3  # `stopped.json` says why: another start would come to the same end
EXIT_PREEMPTED = 75  # EX_TEMPFAIL: run the same command again to go on
EXIT_OUT_OF_MEMORY = 77  # of a rank: start again with half the microbatch


Attention = Literal["fa4", "documents", "flex_attention", "sdpa"]
Recompute = Literal["none", "selective", "full"]


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where and how a run is executed. No field changes what is trained beyond rounding."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Kind of processor; auto takes CUDA where there is one."""
    microbatch_sequences: int = field(default=4, metadata={"ge": 1})
    """Sequences that a rank forwards at once."""
    checkpoint_every_s: float = field(default=300.0, metadata={"gt": 0})
    """Seconds of training between checkpoints."""
    keep_checkpoints: int = field(default=2, metadata={"ge": 1})
    """Newest checkpoints that are kept; two survive a damaged one."""
    keep_every_steps: int | None = field(default=None, metadata={"ge": 1})
    """Steps between checkpoints that are kept for good: the first at or after each multiple."""
    hang_after_s: float = field(default=300.0, metadata={"gt": 0})
    """Seconds without a sign of life from any rank after which all are killed and started again."""
    probe_memory: Literal["auto", "always", "never"] = "auto"
    """Try the microbatch in a process of its own before the run; auto does so on CUDA."""
    activation_checkpointing: Recompute = "none"
    """Compute activations again in the backward pass: selective keeps matrix products and attention, full only each
    layer's input, for a third more time."""
    attention: Literal["auto", Attention] = "auto"
    """How documents are kept apart (`trainer.attention`); auto takes the fastest that model and device allow."""
    compile: Literal["auto", "always", "never"] = "auto"
    """Compile each layer and the loss; auto does so on CUDA. A compiled model rounds otherwise than an eager one."""
    shard_ranks: int | None = field(default=None, metadata={"ge": 1})
    """Ranks that parameters are sharded over; each such group holds them all. Null: the ranks of a node, where there
    are several nodes of several ranks, else all."""

    def __post_init__(self) -> None:
        strict.check_bounds(self)


@dataclass(frozen=True, kw_only=True)
class HeldOutJob:
    """Text that no training sees, and how often it is looked at. Changes nothing of what is trained."""

    directory: Path
    """Made by `tokenize_held_out`: `held_out.json` and a token shard for each source."""
    tokens: int = field(default=100_000, metadata={"ge": 1})
    """Tokens of each source to look at, at most: whole documents, fewer if the token budget is small."""
    every_tokens: int | None = field(default=None, metadata={"ge": 1})
    """Trained tokens between two looks; null for 10 to 50 in a run, at about 3 % of its compute."""

    def __post_init__(self) -> None:
        strict.check_bounds(self)


@dataclass(frozen=True, kw_only=True)
class TrainJob:
    """All that the trainer is told."""

    config: TrainConfig
    mixture: Path
    corpora: dict[str, Path]
    tokenizer: Path
    output: Path
    init_from: Path | None = None
    trunk: Path | None = None
    held_out: HeldOutJob | None = None
    place: Place = field(default_factory=Place)

    def __post_init__(self) -> None:
        if (self.config.model is None) == (self.init_from is None):
            both = "both are" if self.init_from is not None else "neither is"
            raise ValueError(
                f"`config.model` (from scratch) or `init_from` (continue) decides the model, but {both} given; "
                f"set `config.model` to null to continue, or `init_from` to null to start from scratch."
            )


def load_job(path: Path) -> TrainJob:
    """Read and check a `train.json`."""
    return strict.load(TrainJob, path)


def save_job(job: TrainJob, path: Path) -> None:
    """Write `job` as the JSON that `load_job` reads."""
    path.write_text(json.dumps(dataclasses.asdict(job), indent=1, sort_keys=True, default=str) + "\n", encoding="utf-8")


Outcome = Literal["done", "preempted", "stopped", "failed"]


def outcome(output: Path) -> Outcome:
    """How the run in `output` ended. torchrun's exit code does not tell: it is 1 after a clean stop, too."""
    endings: tuple[Outcome, ...] = ("done", "preempted", "stopped")
    return next((ending for ending in endings if (output / f"{ending}.json").is_file()), "failed")
