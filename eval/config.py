"""What an evaluation is: `EvaluateConfig` is the recipe's part and is hashed, `Job` adds the paths and the place.

Frozen dataclasses without pydantic. A recipe embeds `EvaluateConfig`; `evaluate.json` holds a `Job`:

    {"model": "/hf/dir", "weights": "trained", "seed": 0, "benchmarks": [{"name": "medqa", ...}],
     "held_out": {"pubmed": "/dir/of/parquet"}, "output": "/out", "place": {"device": "auto", "batch_size": 8}}
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from domainlm.eval.benchmarks import Benchmark
from domainlm.trainer import strict

Weights = Literal["trained", "untrained"]


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Evaluation"""

    __pydantic_config__: ClassVar[dict[str, Any]] = {
        "extra": "forbid",
        "use_attribute_docstrings": True,
        "title": "Evaluation",
    }

    benchmarks: tuple[Benchmark, ...] = ()
    """Test sets to ask. Decontamination removes their questions from the corpora."""
    held_out_bytes: int = field(default=500_000, metadata={"ge": 1})
    """Text of each source's held-out documents to measure: whole documents, drawn by the sha256 of their ids."""
    context_tokens: int | None = field(default=None, metadata={"ge": 8})
    """Tokens that the model reads at once: at most those it was trained on. Null is the limit in its config.json."""
    dtype: Literal["float32", "bfloat16"] = field(default="float32", metadata={"title": "Precision"})
    """Precision while evaluating. bfloat16 takes about half the time, and moves log-likelihoods in the third digit."""
    seed: int = field(default=0, metadata={"ge": 0})
    """Decides the untrained twin's weights and the resamples of the intervals."""

    def __post_init__(self) -> None:
        """Refuse benchmarks that would overwrite each other's samples."""
        strict.check_bounds(self)
        names = [benchmark.name for benchmark in self.benchmarks]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(
                f"benchmarks named twice: {', '.join(twice)}. Give each its own name (medqa_letters, ...)."
            )


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where it runs: moves log-likelihoods in the sixth digit of float32, and what is printed of them hardly ever."""

    device: str = "auto"
    batch_size: int = field(
        default=8, metadata={"ge": 1}
    )  # on 2 CPU cores 4 and 8 are fastest, 32 takes half as much more

    def __post_init__(self) -> None:
        """Check the batch size."""
        strict.check_bounds(self)


@dataclass(frozen=True, kw_only=True)
class Job(EvaluateConfig):
    """One evaluation of one model, as `evaluate.json` asks for it."""

    model: Path
    weights: Weights
    output: Path
    held_out: dict[str, Path] = field(default_factory=dict)
    place: Place = Place()
