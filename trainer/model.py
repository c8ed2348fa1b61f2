"""The model: any Hugging Face decoder, from scratch or from a directory, with its loss outside the model.

`LanguageModel` is what FSDP wraps: tokens in, summed cross-entropy out. The head is applied in chunks of tokens,
because the full logits would be the largest tensor of all. Parameters are made on the meta device and filled after
sharding, one by one, from a source that is the same on every rank, so that no world size gives other weights.

Shape legend: B sequences, T tokens, N = B*T, D model width, V vocabulary.
"""

import hashlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, PreTrainedConfig, PreTrainedModel, Qwen3Config

from .attention import BY_BOUNDS, document_bounds
from .config import ModelConfig
from .cross_entropy import summed_cross_entropy
from .extension import Extension, extended
from .job import Attention

TensorSource = Callable[[str, torch.Size], Tensor]

# A family that scales or caps its logits after the head would train on another loss than it is used with.
LOGIT_TRANSFORMS = ("final_logit_softcapping", "logits_scaling", "logit_scale", "output_multiplier_scale")


class LanguageModel(nn.Module):
    """A Hugging Face decoder whose forward gives the summed loss of a microbatch."""

    def __init__(self, causal: PreTrainedModel, *, z_loss: float) -> None:
        super().__init__()
        self.causal = causal
        self.z_loss = z_loss
        self.head = _plain_head(causal)
        self.compiles_loss = False
        """Whether the loss of a chunk runs compiled (`layers.compile_layers`)."""
        self.keeps_whole = False
        """Whether parameters stay whole from a step's first forward to its last backward (`fsdp.shard`)."""

    @property
    def layers(self) -> nn.ModuleList:
        """The transformer layers."""
        return _find_layers(self.causal)

    def forward(self, input_ids: Tensor, position_ids: Tensor, targets: Tensor, bounds: Tensor | None = None) -> Tensor:
        """Cross-entropy summed over the targets [B, T] that are not negative, in fp32; in training with z-loss.

        `position_ids` restart at each document, and no document sees another. `bounds` are the `document_bounds` of
        these; found here if they are not given, which on a GPU waits for it.
        """
        more: dict[str, Tensor] = {}
        if self.causal.config._attn_implementation in BY_BOUNDS:
            more["cu_seq_lens_q"] = document_bounds(position_ids) if bounds is None else bounds
            torch._dynamo.maybe_mark_dynamic(more["cu_seq_lens_q"], 0)  # one graph for any number of documents
        decoder = self.causal.base_model
        hidden = decoder(input_ids=input_ids, position_ids=position_ids, use_cache=False, **more).last_hidden_state
        return summed_cross_entropy(
            hidden.flatten(0, 1),
            self.head.weight,
            targets.flatten(),
            z_loss=self.z_loss if self.training else 0.0,
            compiled=self.compiles_loss,
        )


def fresh_config(model: ModelConfig, *, vocab_size: int, bos_id: int, eos_id: int) -> PreTrainedConfig:
    """The Hugging Face configuration of a model from scratch."""
    shape = model.shape
    family: type[PreTrainedConfig] = {"llama": LlamaConfig, "qwen3": Qwen3Config}[shape.family]
    return family(
        vocab_size=vocab_size,
        hidden_size=shape.width,
        intermediate_size=shape.mlp_width,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_width,
        max_position_embeddings=shape.max_positions,
        tie_word_embeddings=shape.tie_embeddings,
        rope_parameters={"rope_type": "default", "rope_theta": shape.rope_theta},
        initializer_range=initial_std(shape.width),
        bos_token_id=bos_id,
        eos_token_id=eos_id,
    )


def given_config(directory: Path) -> PreTrainedConfig:
    """The configuration of the Hugging Face directory that training continues from."""
    return cast(PreTrainedConfig, AutoConfig.from_pretrained(directory, local_files_only=True, trust_remote_code=False))


def without_dropout(config: PreTrainedConfig) -> PreTrainedConfig:
    """The configuration with every dropout at zero: it would draw other numbers for each number of ranks."""
    for name, value in config.to_dict().items():
        if ("dropout" in name or name.endswith("pdrop")) and isinstance(value, float):
            setattr(config, name, 0.0)
    return config


def build_on_meta(config: PreTrainedConfig, *, z_loss: float, attention: Attention = "sdpa") -> LanguageModel:
    """The model with its buffers, but without memory behind its parameters; shard it, then `materialise` it."""
    with torch.device("meta"):
        causal = AutoModelForCausalLM.from_config(
            config, dtype=torch.float32, attn_implementation=attention, trust_remote_code=False
        )
    for module in causal.modules():
        buffers = dict(module.named_buffers(recurse=False))
        for name, buffer in buffers.items():
            setattr(module, name, torch.empty_like(buffer, device="cpu"))
        if buffers:
            causal._init_weights(module)  # rotary frequencies and the like: they are in no file
    return LanguageModel(causal, z_loss=z_loss)


def materialise(model: LanguageModel, device: torch.device, source: TensorSource | None) -> None:
    """Give the parameters memory on `device` and their values from `source`, each rank its own part."""
    buffers = {name: buffer.to(device, copy=True) for name, buffer in model.named_buffers()}
    model.to_empty(device=device)
    model.causal.tie_weights()  # to_empty gives each module its own memory
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            buffer.copy_(buffers[name])
    if source is not None:
        fill(model, device, source)


def fill(model: LanguageModel, device: torch.device, source: TensorSource) -> None:
    """Give the parameters their values from `source`, in the memory that they have."""
    with torch.no_grad():
        for name, parameter in model.causal.named_parameters():
            full = source(name, parameter.shape).to(device=device, dtype=parameter.dtype)
            if isinstance(parameter, DTensor):
                full = distribute_tensor(full, parameter.device_mesh, parameter.placements, src_data_rank=None)
            parameter.copy_(full)


def fresh_weights(config: PreTrainedConfig, seed: int) -> TensorSource:
    """Initial weights by name: each tensor has a random stream of its own, so order and ranks do not matter.

    Normal with `initial_std`; what is added to the residual stream is scaled by 1/sqrt(2 layers) (GPT-2); norms are 1.
    """
    std, residual = initial_std(config.hidden_size), 1 / math.sqrt(2 * config.num_hidden_layers)

    def source(name: str, shape: torch.Size) -> Tensor:
        if len(shape) < 2:
            return torch.zeros(shape) if name.endswith("bias") else torch.ones(shape)
        digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
        scale = residual if name.endswith(("o_proj.weight", "down_proj.weight")) else 1.0
        return torch.empty(shape).normal_(0.0, std * scale, generator=generator)

    return source


def initial_std(width: int) -> float:
    """Standard deviation of initial weights: 0.02 as in GPT-2 for large models, more for narrow ones."""
    return max(0.02, 0.5 / math.sqrt(width))


def given_weights(directory: Path, extension: Extension | None = None) -> TensorSource:
    """The weights of a Hugging Face directory by name (safetensors only), and rows for new tokens.

    Raises:
        ValueError: the files lack a weight of the architecture, or one has another shape.
    """
    loaded, report = AutoModelForCausalLM.from_pretrained(
        directory,
        dtype="auto",
        local_files_only=True,
        trust_remote_code=False,
        use_safetensors=True,
        output_loading_info=True,
    )
    if report["missing_keys"] or report["mismatched_keys"]:
        raise ValueError(
            f"{directory} is no complete checkpoint of {type(loaded).__name__}: "
            f"missing {sorted(report['missing_keys'])}, of another shape "
            f"{sorted(map(str, report['mismatched_keys']))}; export it again."
        )
    weights: dict[str, Tensor] = dict(loaded.named_parameters())
    tables = [loaded.get_input_embeddings().weight, loaded.get_output_embeddings().weight]

    def source(name: str, shape: torch.Size) -> Tensor:
        weight = weights[name].detach()
        if extension is not None and any(weights[name] is table for table in tables):
            return extended(weight, extension, shape[0])
        return weight

    return source


def _plain_head(causal: PreTrainedModel) -> nn.Linear:
    """The output head, if the loss can be computed from it alone."""
    head = causal.get_output_embeddings()
    family = type(causal).__name__
    active = [name for name in LOGIT_TRANSFORMS if getattr(causal.config, name, None) not in (None, 1, 1.0)]
    if not isinstance(head, nn.Linear) or head.bias is not None or active:
        raise ValueError(
            f"{family} has {', '.join(active) or 'a head that is no plain matrix'}, which the chunked loss does not "
            f"compute; take another model family."
        )
    return head


def _find_layers(causal: PreTrainedModel) -> nn.ModuleList:
    for module in causal.base_model.children():
        if isinstance(module, nn.ModuleList) and len(module) == causal.config.num_hidden_layers:
            return module
    raise ValueError(f"{type(causal).__name__} has no list of layers to shard; take another model family.")
