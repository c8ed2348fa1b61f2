"""`train.json`: one training run, its config (identity) apart from its place. Read by `python -m trainer --config`.

    {"config": {...}, "mixture": "/path/mixture.json", "corpora": {"pubmed": "/path/of/tokenize/directory"},
     "tokenizer": "/path/dir", "init_from": null, "output": "/path/out",
     "place": {"device": "auto", "microbatch_sequences": 4, "checkpoint_every_s": 300, "keep_checkpoints": 2}}

Output directory: `metrics.jsonl`, `events.jsonl`, `checkpoints/`, `model/` and, written last, `done.json`;
`preempted.json` instead when it was asked to stop and left a checkpoint.
"""

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from . import strict
from .config import TrainConfig

EXIT_DONE = 0
EXIT_PREEMPTED = 75  # EX_TEMPFAIL: run the same command again to go on


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
    activation_checkpointing: bool = False
    """Compute activations again in the backward pass: less memory, a third more time."""

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


def outcome(output: Path) -> Literal["done", "preempted", "failed"]:
    """How the run in `output` ended. torchrun's exit code does not tell: it is 1 after a clean stop, too."""
    if (output / "done.json").is_file():
        return "done"
    return "preempted" if (output / "preempted.json").is_file() else "failed"
