"""What a training run is: model, optimizer, schedule. It decides the weights and is hashed; `Place` in `job.py` is not.

Frozen dataclasses without pydantic. A recipe embeds `TrainConfig`: pydantic takes descriptions from the docstrings and
bounds from each field's metadata, and the same bounds are checked here when the trainer runs alone.
Class docstrings are titles of a form, so they have no full stop. Lengths and schedule spans are in tokens.
"""

import math
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Literal

from .strict import check_bounds

Family = Literal["llama", "qwen3"]

_STRICT = {"extra": "forbid", "use_attribute_docstrings": True}


@dataclass(frozen=True)
class ModelShape:
    """The sizes of a decoder, all given. Qwen3 is Llama with queries and keys normalised in each head."""

    family: Family
    layers: int
    width: int
    heads: int
    kv_heads: int
    head_width: int
    mlp_width: int
    tie_embeddings: bool
    rope_theta: float
    max_positions: int

    def __post_init__(self) -> None:
        if self.heads % self.kv_heads or self.head_width % 2:
            raise ValueError(
                f"heads {self.heads}, kv_heads {self.kv_heads}, head_width {self.head_width} do not fit: heads must be "
                f"a multiple of kv_heads, and head_width must be even."
            )

    def num_parameters(self, vocab_size: int) -> int:
        """Parameters of the model with a vocabulary."""
        attention = 2 * self.width * self.head_width * (self.heads + self.kv_heads)
        norms = 2 * self.width + (2 * self.head_width if self.family == "qwen3" else 0)
        layer = attention + 3 * self.width * self.mlp_width + norms
        embeddings = vocab_size * self.width * (1 if self.tie_embeddings else 2)
        return embeddings + self.layers * layer + self.width


# 540k tokens of trials, 6M parameters, rate 1e-3: 2 % of the budget as warm-up 1.937 bits per byte, 10 % 1.910.
MAX_DEFAULT_WARMUP = 100_000_000

# Named after their size with the vocabularies that such models usually have: 4k for 6m, 50k and more from 125m. The
# shapes of qwen3-0.6b and more are those of Qwen3 (Yang et al. 2025, table 1), but for the longest sequence. From 125m
# on heads are 128 wide: half the softmax of 64, for the same matrix products. On an H100 a step of llama-125m and of
# llama-350m takes 4 % less.
PRESETS: dict[str, ModelShape] = {
    "llama-6m": ModelShape("llama", 6, 256, 4, 4, 64, 704, True, 10_000.0, 2048),
    "llama-10m": ModelShape("llama", 8, 320, 5, 5, 64, 864, True, 10_000.0, 2048),
    "llama-30m": ModelShape("llama", 8, 512, 8, 8, 64, 1376, True, 10_000.0, 2048),
    "llama-125m": ModelShape("llama", 12, 768, 6, 6, 128, 2048, True, 10_000.0, 4096),
    "llama-350m": ModelShape("llama", 24, 1024, 8, 8, 128, 2816, True, 10_000.0, 4096),
    "llama-1.2b": ModelShape("llama", 16, 2048, 16, 4, 128, 8192, True, 500_000.0, 8192),
    "llama-3b": ModelShape("llama", 28, 3072, 24, 8, 128, 8192, True, 500_000.0, 8192),
    "llama-7b": ModelShape("llama", 32, 4096, 32, 8, 128, 14336, False, 500_000.0, 8192),
    "qwen3-10m": ModelShape("qwen3", 8, 320, 5, 5, 64, 864, True, 10_000.0, 2048),
    "qwen3-30m": ModelShape("qwen3", 8, 512, 8, 4, 64, 1536, True, 10_000.0, 2048),
    "qwen3-125m": ModelShape("qwen3", 12, 768, 6, 3, 128, 2304, True, 10_000.0, 4096),
    "qwen3-350m": ModelShape("qwen3", 24, 1024, 8, 4, 128, 3072, True, 10_000.0, 4096),
    "qwen3-0.6b": ModelShape("qwen3", 28, 1024, 16, 8, 128, 3072, True, 1_000_000.0, 8192),
    "qwen3-1.7b": ModelShape("qwen3", 28, 2048, 16, 8, 128, 6144, True, 1_000_000.0, 8192),
    "qwen3-4b": ModelShape("qwen3", 36, 2560, 32, 8, 128, 9728, True, 1_000_000.0, 8192),
    "qwen3-7b": ModelShape("qwen3", 32, 4096, 32, 8, 128, 12288, False, 1_000_000.0, 8192),
}


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Model from scratch"""

    __pydantic_config__: ClassVar[dict[str, Any]] = {**_STRICT, "title": "Model from scratch"}

    preset: Literal[
        "llama-6m", "llama-10m", "llama-30m", "llama-125m", "llama-350m", "llama-1.2b", "llama-3b", "llama-7b",
        "qwen3-10m", "qwen3-30m", "qwen3-125m", "qwen3-350m", "qwen3-0.6b", "qwen3-1.7b", "qwen3-4b", "qwen3-7b",
    ] = "llama-6m"  # fmt: skip
    """Architecture and named sizes of a decoder; each field below replaces one of the sizes."""
    layers: int | None = field(default=None, metadata={"ge": 1})
    """Transformer layers."""
    width: int | None = field(default=None, metadata={"ge": 8})
    """Size of the hidden states; a multiple of the heads, unless head_width is given."""
    heads: int | None = field(default=None, metadata={"ge": 1})
    """Attention heads."""
    kv_heads: int | None = field(default=None, metadata={"ge": 1, "title": "Key-value heads"})
    """Key and value heads; fewer than heads is grouped-query attention."""
    head_width: int | None = field(default=None, metadata={"ge": 2})
    """Size of a head; where width or heads are replaced, width / heads if not given."""
    mlp_width: int | None = field(default=None, metadata={"ge": 1, "title": "MLP width"})
    """Inner size of the feed-forward part."""
    tie_embeddings: bool | None = None
    """Use one matrix as embedding and as output head."""
    rope_theta: float | None = field(default=None, metadata={"gt": 0, "title": "RoPE theta"})
    """Base of the rotary position embedding."""
    max_positions: int | None = field(default=None, metadata={"ge": 2})
    """Longest sequence in tokens that the model is made for."""

    def __post_init__(self) -> None:
        check_bounds(self)
        _ = self.shape

    @property
    def shape(self) -> ModelShape:
        """The preset with the replaced fields."""
        if self.preset not in PRESETS:
            raise ValueError(f"model preset {self.preset!r} is unknown; take one of {', '.join(PRESETS)}.")
        preset = PRESETS[self.preset]
        given = {f.name: getattr(self, f.name) for f in fields(preset) if f.name != "family"}
        chosen = {name: getattr(preset, name) if value is None else value for name, value in given.items()}
        if self.head_width is None and (self.width, self.heads) != (None, None):
            if chosen["width"] % chosen["heads"]:
                raise ValueError(
                    f"width {chosen['width']} and heads {chosen['heads']} do not fit: width must be a multiple of "
                    f"heads, or head_width given."
                )
            chosen["head_width"] = chosen["width"] // chosen["heads"]
        return ModelShape(family=preset.family, **chosen)


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """AdamW, or Muon for the hidden matrices"""

    __pydantic_config__: ClassVar[dict[str, Any]] = {**_STRICT, "title": "Optimizer"}

    name: Literal["adamw", "muon"] = "adamw"
    """The update rule. muon is for the matrices of the layers, at the same rates; all else stays with AdamW."""
    beta1: float = field(default=0.9, metadata={"ge": 0, "lt": 1})
    """AdamW: decay of the running mean of the gradient."""
    beta2: float = field(default=0.95, metadata={"ge": 0, "lt": 1})
    """AdamW: decay of the running mean of the squared gradient."""
    eps: float = field(default=1e-8, metadata={"gt": 0, "title": "Epsilon"})
    """AdamW: added to the root of the second moment."""
    momentum: float | None = field(default=None, metadata={"ge": 0, "lt": 1})
    """Muon: decay of the running mean of the gradient; 0.95 if not given."""
    weight_decay: float = field(default=0.1, metadata={"ge": 0})
    """Decoupled weight decay of matrices; norms, biases and embeddings have none."""
    grad_clip: float = field(default=1.0, metadata={"gt": 0, "title": "Gradient clip"})
    """Largest norm of the whole gradient; a larger one is scaled down to it."""

    def __post_init__(self) -> None:
        check_bounds(self)
        if self.momentum is not None and self.name != "muon":
            raise ValueError(f"momentum has no effect on optimizer {self.name!r}; remove it or take 'muon'.")

    @property
    def muon_momentum(self) -> float:
        """Momentum of Muon."""
        return 0.95 if self.momentum is None else self.momentum


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """Learning rate over tokens"""

    __pydantic_config__: ClassVar[dict[str, Any]] = {**_STRICT, "title": "Schedule"}

    name: Literal["wsd", "cosine", "linear", "constant"] = "wsd"
    """Form after warm-up: flat then down (wsd), down along a cosine, down in a line, or flat."""
    warmup_tokens: int | None = field(default=None, metadata={"ge": 0})
    """Tokens over which the rate rises in a line; by default a tenth of the budget, at most 100 million."""
    initial_fraction: float = field(default=0.0, metadata={"ge": 0, "lt": 1})
    """Rate at the start as a fraction of the peak. For given weights, zero is as good as the rate their training
    ended with: the peak decides, and not the way to it (Gupta et al. 2023)."""
    decay_tokens: int | None = field(default=None, metadata={"ge": 1})
    """For wsd: tokens of the fall at the end; a fifth of the token budget if not given."""
    final_fraction: float = field(default=0.0, metadata={"ge": 0, "le": 1})
    """Rate at the end as a fraction of the peak; constant has none."""

    def __post_init__(self) -> None:
        check_bounds(self)
        if self.decay_tokens is not None and self.name != "wsd":
            raise ValueError(f"decay_tokens has no effect on schedule {self.name!r}; remove it or take 'wsd'.")
        if self.final_fraction and self.name == "constant":
            raise ValueError("final_fraction has no effect on schedule 'constant'; remove it or take another schedule.")
        if self.initial_fraction and self.warmup_tokens == 0:
            raise ValueError("initial_fraction has no effect without a warm-up; remove it or raise warmup_tokens.")

    def learning_rate(self, tokens: float, *, token_budget: int, peak: float) -> float:
        """The rate after `tokens` of the token budget; a step takes the rate of its middle, which is never zero."""
        warmup = self.warmup_span(token_budget)
        if tokens < warmup:
            return peak * (self.initial_fraction + (1 - self.initial_fraction) * tokens / warmup)
        low = self.final_fraction
        if self.name == "constant":
            return peak
        if self.name == "wsd":
            span = self.decay_span(token_budget)
            return peak * (low + (1 - low) * min(1.0, max(0, token_budget - tokens) / span))
        left = max(0, token_budget - tokens) / max(1, token_budget - warmup)
        if self.name == "linear":
            return peak * (low + (1 - low) * left)
        return peak * (low + (1 - low) * 0.5 * (1 - math.cos(math.pi * left)))

    def warmup_span(self, token_budget: int) -> int:
        """Tokens of the rise at the start."""
        return min(token_budget // 10, MAX_DEFAULT_WARMUP) if self.warmup_tokens is None else self.warmup_tokens

    def decay_span(self, token_budget: int) -> int:
        """Tokens of the fall at the end of wsd."""
        return max(1, token_budget // 5) if self.decay_tokens is None else self.decay_tokens


@dataclass(frozen=True, kw_only=True)
class GuardConfig:
    """What counts as gone wrong, and how often it is put right"""

    __pydantic_config__: ClassVar[dict[str, Any]] = {**_STRICT, "title": "Guard"}

    window_steps: int = field(default=128, metadata={"ge": 8})
    """Steps whose losses a new one is compared with; judging begins when a quarter of them are there."""
    deviations: float = field(default=6.0, metadata={"gt": 0})
    """A loss is high above the window's median by so many robust standard deviations (1.4826 MAD, at least 1 %)."""
    patience_steps: int = field(default=3, metadata={"ge": 1})
    """High losses in a row that are a spike; one alone is mostly a hard batch."""
    max_rollbacks: int = field(default=3, metadata={"ge": 0})
    """Rollbacks within one window of steps, after which the run stops."""
    max_nonfinite_steps: int = field(default=5, metadata={"ge": 1, "title": "Non-finite steps"})
    """Steps in a row without a finite loss and gradient, after which the run stops."""

    def __post_init__(self) -> None:
        check_bounds(self)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Training"""

    __pydantic_config__: ClassVar[dict[str, Any]] = {**_STRICT, "title": "Training"}

    model: ModelConfig | None = field(default_factory=ModelConfig)
    """The model to pretrain from scratch; null to continue from given weights."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """How gradients become updates."""
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    """How the learning rate moves over the token budget."""
    peak_lr: float = field(default=1e-3, metadata={"gt": 0, "le": 1, "title": "Peak learning rate"})
    """Highest learning rate; about 1e-3 up to 100M parameters, 3e-4 for 1B and more, less to continue."""
    precision: Literal["bf16", "fp32"] = "bf16"
    """Arithmetic of forward and backward; master weights, moments and gradient sums are fp32 in both."""
    export_precision: Literal["bf16", "fp32"] = "bf16"
    """Precision of the exported weights."""
    seed: int = field(default=0, metadata={"ge": 0})
    """Seed of the initial weights; the order of the data has its own in the mixture."""
    z_loss: float = field(default=0.0, metadata={"ge": 0, "le": 1, "title": "z-loss"})
    """Weight of the squared log of the softmax denominator, against drifting logits; 1e-4 is usual."""
    guard: GuardConfig = field(default_factory=GuardConfig)
    """What counts as gone wrong in training, and what is done then."""

    def __post_init__(self) -> None:
        check_bounds(self)
