"""From a job to the parts of a run: checks first, cheap ones before dear ones, then data, model, optimizer."""

import dataclasses
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from transformers import PreTrainedConfig

from . import preflight
from .attention import attention_for
from .checkpoint import has_checkpoints
from .extension import Extension, load_extension
from .fsdp import shard
from .job import TrainJob
from .layers import compile_layers, recompute_activations
from .ledger import open_streams
from .loader import Loader
from .mixture import Mixture, load_mixture
from .model import (
    LanguageModel,
    TensorSource,
    build_on_meta,
    fresh_config,
    fresh_weights,
    given_config,
    given_weights,
    materialise,
    without_dropout,
)
from .optimizer import ShardedOptimizer
from .ranks import Ranks
from .sampler import Sampler
from .shards import ShardHeader
from .trunk import check_trunk, trunk_digest


@dataclass(frozen=True)
class Parts:
    """What the loop works with."""

    mixture: Mixture
    loader: Loader
    hf_config: PreTrainedConfig
    model: LanguageModel
    optimizer: ShardedOptimizer
    initial: Callable[[], TensorSource]
    """The weights before the first step."""
    has_initial: bool
    """Whether the model has them: not where a checkpoint or a trunk replaces them, for they can take a minute."""
    identity: dict[str, Any]
    """What decides the weights; a checkpoint of another identity is refused."""


def assemble(job: TrainJob, ranks: Ranks) -> Parts:
    """Check the job against its files, and build the parts.

    Raises:
        FileNotFoundError, ValueError: the run cannot work; the message says what to do.
    """
    preflight.check_files(job)
    mixture = load_mixture(job.mixture)
    preflight.check_batch(mixture, num_ranks=ranks.num_ranks)
    preflight.check_tokenizer(mixture, job.tokenizer)
    streams = open_streams(mixture, job.corpora)
    hf_config = without_dropout(model_config(job, preflight.check_tokens(mixture, streams)))
    preflight.check_model(mixture, hf_config, job)
    preflight.verify_shards(mixture, job.corpora, ranks, record=job.output / "verified.json")
    identity = _identity(job, mixture)
    if job.trunk is not None:
        check_trunk(job.trunk, identity, mixture, job.config)
    loader = Loader(Sampler(mixture), streams, rank=ranks.rank, num_ranks=ranks.num_ranks)
    initial = partial(initial_weights, job, hf_config)
    has_initial = job.trunk is None and not has_checkpoints(job.output)
    model = sharded_model(job, ranks, hf_config, initial() if has_initial else None)
    optimizer = ShardedOptimizer(model, job.config.optimizer)
    return Parts(mixture, loader, hf_config, model, optimizer, initial, has_initial, identity)


def model_config(job: TrainJob, header: ShardHeader) -> PreTrainedConfig:
    """The architecture of the job."""
    if job.config.model is None:
        assert job.init_from is not None  # TrainJob lets no other case exist
        config = given_config(job.init_from)
        if extension_of(job) is not None:  # rows that the base has beyond its tokenizer stay
            config.vocab_size = max(config.vocab_size, header.vocab_size)
        return config
    return fresh_config(job.config.model, vocab_size=header.vocab_size, bos_id=header.bos_id, eos_id=header.eos_id)


def initial_weights(job: TrainJob, hf_config: PreTrainedConfig) -> TensorSource:
    """Where the weights before the first step come from."""
    if job.init_from is None:
        return fresh_weights(hf_config, job.config.seed)
    return given_weights(job.init_from, extension_of(job))


def extension_of(job: TrainJob) -> Extension | None:
    """The new tokens that the tokenizer has beyond that of the weights which training continues from."""
    return None if job.init_from is None else load_extension(job.tokenizer)


def sharded_model(
    job: TrainJob, ranks: Ranks, hf_config: PreTrainedConfig, source: TensorSource | None
) -> LanguageModel:
    """The model with its memory on this rank's device; without a source its parameters are still to be loaded."""
    place, bf16 = job.place, job.config.precision == "bf16"
    attention = attention_for(hf_config, ranks.device, bf16=bf16, asked=place.attention)
    model = build_on_meta(hf_config, z_loss=job.config.z_loss, attention=attention)
    recompute_activations(model, place.activation_checkpointing)
    if place.compile == "always" or (place.compile == "auto" and ranks.device.type == "cuda"):
        compile_layers(model)
    shard(model, ranks.mesh, bf16=bf16)
    materialise(model, ranks.device, source)
    model.train()
    return model


def _identity(job: TrainJob, mixture: Mixture) -> dict[str, Any]:
    values = dataclasses.asdict(mixture)
    corpora = json.dumps(values.pop("corpora"), sort_keys=True)
    config = dataclasses.asdict(job.config)
    del config["guard"]  # its decisions are in the run itself; after a stop they may be others
    return {
        "config": config,
        "mixture": {**values, "corpora_sha256": hashlib.sha256(corpora.encode()).hexdigest()},
        "init_from": None if job.init_from is None else _directory_digest(job.init_from),
        "trunk": trunk_digest(job.trunk),
    }


def _directory_digest(directory: Path) -> str:
    """Tells one Hugging Face directory from another by its config and the sizes of its weights."""
    digest = hashlib.sha256((directory / "config.json").read_bytes())
    for path in sorted(directory.glob("*.safetensors")):
        digest.update(f"{path.name} {path.stat().st_size}\n".encode())
    return digest.hexdigest()
