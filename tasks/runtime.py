"""The runtime: the place where a recipe is built. Nothing in it changes a key or renames a directory."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator

from domainlm.trainer.job import Recompute


class SlurmSettings(BaseModel):
    """What a cluster wants to know of a job."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="Slurm")

    partition: str = Field(title="Partition", description="Where the jobs run.")
    time_limit: str = Field("24:00:00", title="Time limit", description="Of each array task.")
    qos: str = Field("", title="Quality of service", description="Empty: the cluster's own.")
    sbatch: Mapping[str, str] = Field(
        default_factory=dict, title="sbatch options", description="More of them by name, such as account."
    )


class TrainingNodes(BaseModel):
    """The nodes that training runs on, all of which see the store under the same path."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="Training nodes")

    nodes: str = Field(
        title="Nodes", pattern=r"^[1-9]\d*(:[1-9]\d*)?$", description="`4`, or `3:4` to go on with three."
    )
    rendezvous: str = Field(
        title="Rendezvous", pattern=r"^[^:\s]+:\d+$", description="host:port where they meet; it must not be lost."
    )
    launcher: tuple[str, ...] = Field(
        (),
        title="Launcher",
        description="What runs the command after it once on each node: `[srun, --ntasks-per-node=1]`. Empty: this "
        "node alone, and the others are started by other means.",
    )


class Runtime(BaseModel):
    """Paths, workers, processes, devices: where and how wide, never what."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="Runtime")

    store: Path = Field(Path("store"), title="Store", description="Directory of sealed stage outputs.")
    data: Path = Field(Path(), title="Data", description="Directory that a recipe's relative paths start from.")
    workers: PositiveInt = Field(1, title="Workers", description="Processes for the stages that work on documents.")
    executor: Literal["local", "ray", "slurm"] = Field(
        "local", title="Executor", description="Where those processes run: here, in a Ray cluster, as Slurm jobs."
    )
    worker_memory_gb: float = Field(
        4.0, gt=0, title="Memory of a worker", description="What ray and slurm are asked for."
    )
    slurm: SlurmSettings | None = Field(None, title="Slurm", description="Needed by the executor slurm.")
    processes: PositiveInt = Field(1, title="Training processes", description="Ranks on this node, one a GPU.")
    threads: PositiveInt = Field(1, title="Threads", description="Threads of each training or evaluation process.")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", title="Device", description="Where tensors live.")
    microbatch_sequences: PositiveInt = Field(
        4, title="Microbatch", description="Sequences that one rank forwards at once; lower it when memory runs out."
    )
    activation_checkpointing: Recompute = Field(
        "none",
        title="Activation checkpointing",
        description="What is computed again in the backward pass, to save memory: all but matrix products and "
        "attention (selective), or all but the input of each layer (full).",
    )
    compile: Literal["auto", "always", "never"] = Field(
        "auto", title="Compile", description="Compile each layer of the model; auto does so on CUDA."
    )
    shard_ranks: PositiveInt | None = Field(
        None,
        title="Shard over",
        description="Ranks that parameters are sharded over, each such group holding all of them; null for those of a "
        "node where there are several, else all.",
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
    training: TrainingNodes | None = Field(
        None, title="Training nodes", description="Training on several nodes; null for this one."
    )
    tracker: Literal["mlflow", "wandb"] | None = Field(
        None, title="Tracker", description="Where training is shown, beside Prefect."
    )
    tracker_to: str | None = Field(
        None,
        title="Tracker address",
        description="MLflow's tracking URI or W&B's server; null keeps all on this machine, in the store.",
    )
    tracker_project: str = Field("domainlm", title="Tracker project", description="Experiment or project there.")
    held_out_tokens: PositiveInt = Field(
        100_000, title="Held-out tokens", description="Of each source, that training is watched by, at most."
    )
    held_out_every_tokens: PositiveInt | None = Field(
        None,
        title="Held-out interval",
        description="Trained tokens between two looks at them; null for 10 to 50 looks at about 3 % of the time.",
    )
    evaluate_batch: PositiveInt = Field(8, title="Evaluation batch", description="Requests that are scored at once.")

    @model_validator(mode="after")
    def _has_effect(self) -> Self:
        if (self.executor == "slurm") != (self.slurm is not None):
            raise ValueError(
                "executor: slurm needs `slurm.partition`."
                if self.slurm is None
                else f"`slurm` has no effect with executor: {self.executor}."
            )
        if self.tracker_to is not None and self.tracker is None:
            raise ValueError("`tracker_to` has no effect without `tracker`: mlflow or wandb.")
        return self
