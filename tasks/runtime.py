"""The runtime: the place where a recipe is built. Nothing in it changes a key or renames a directory."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt


class Runtime(BaseModel):
    """Paths, workers, processes, devices: where and how wide, never what."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="Runtime")

    store: Path = Field(Path("store"), title="Store", description="Directory of sealed stage outputs.")
    data: Path = Field(Path(), title="Data", description="Directory that a recipe's relative paths start from.")
    workers: PositiveInt = Field(1, title="Workers", description="Processes for the stages that work on documents.")
    processes: PositiveInt = Field(
        1, title="Training processes", description="Ranks that torchrun starts on this node."
    )
    threads: PositiveInt = Field(1, title="Threads", description="Threads of each training or evaluation process.")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", title="Device", description="Where tensors live.")
    microbatch_sequences: PositiveInt = Field(
        4, title="Microbatch", description="Sequences that one rank forwards at once; lower it when memory runs out."
    )
    checkpoint_every_s: float = Field(
        300, gt=0, title="Checkpoint interval", description="Seconds of training between two checkpoints."
    )
    keep_checkpoints: PositiveInt = Field(2, title="Checkpoints kept", description="The newest ones; older ones go.")
    keep_every_steps: PositiveInt | None = Field(
        None, title="Kept for good", description="Steps between checkpoints that are never deleted; null for none."
    )
    hang_after_s: float = Field(
        300, gt=0, title="Hang", description="Seconds without a sign of life after which training is started again."
    )
    max_restarts: int = Field(
        3, ge=0, title="Restarts", description="Restarts of training after crashes without a new checkpoint in between."
    )
    evaluate_batch: PositiveInt = Field(8, title="Evaluation batch", description="Requests that are scored at once.")
