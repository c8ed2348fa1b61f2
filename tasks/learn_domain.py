"""Learn to tell a domain from other text, offline, from seed documents: sources of the domain, and sources of none.

In: `seed.<source>` and `other.<source>` (shards of Parquet). Out: `model/weights.npy`. Every fifth document is held
out; the manifest's counts say how well the model tells those: `f1`, `precision`, `recall`.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from domainlm.tasks import domain
from domainlm.tasks.manifest import Books, Part
from domainlm.tasks.runtime import Runtime
from domainlm.tasks.stage import Inputs, stage
from domainlm.tasks.tables import bounded_batches

SEED, OTHER = "seed.", "other."
HELD_OUT = 5  # one document in so many
LEAST_DOCUMENTS = 10


class LearnDomainConfig(BaseModel):
    """Which sources are of the domain, and how much is learned from."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="Domain classifier")

    seeds: tuple[str, ...] = Field(title="Seeds", min_length=1, description="Sources that are of the domain.")
    others: tuple[str, ...] = Field(title="Others", min_length=1, description="Sources that are not.")
    max_documents: PositiveInt = Field(5_000, title="Most documents", description="Of each source, by their digest.")
    epochs: PositiveInt = Field(5, title="Epochs", description="Times that each of them is learned from.")


@stage(version=1, disk_factor=0.0)
def learn_domain(config: LearnDomainConfig, inputs: Inputs, out: Path, runtime: Runtime) -> Books:
    """Choose documents, learn from four fifths, measure on the rest."""
    chosen = {name: choose(part, config.max_documents) for name, part in sorted(inputs.items())}
    texts = [text for _, part in chosen.items() for text in part]
    labels = np.array([name.startswith(SEED) for name, part in chosen.items() for _ in part], dtype=bool)
    if min(labels.sum(), (~labels).sum()) < LEAST_DOCUMENTS:
        raise ValueError(
            f"the seeds of the rule `domain` have {labels.sum():,} documents and the others {(~labels).sum():,}; each "
            f"needs {LEAST_DOCUMENTS}. Name larger sources in `seeds` and `others`."
        )
    held_out = np.arange(len(texts)) % HELD_OUT == 0
    features, ends = domain.featurize([text for text, out_ in zip(texts, held_out, strict=True) if not out_])
    weights = domain.learn(features, ends, labels[~held_out], config.epochs)
    domain.save_weights(out / "model", weights)
    tests = pa.array([text for text, out_ in zip(texts, held_out, strict=True) if out_], pa.string())
    said = domain.scores(tests, domain.load_weights(out / "model")).to_numpy() >= 0.5
    entered = {name: sum(pq.read_metadata(path).num_rows for path in part.paths()) for name, part in inputs.items()}
    return Books(
        entered=entered,
        fates={"chosen": len(texts), "not_chosen": sum(entered.values()) - len(texts)},
        counts={**measure_of(said, labels[held_out]), "held_out_documents": int(held_out.sum())},
    )


def choose(part: Part, max_documents: int) -> list[str]:
    """The beginnings of the texts with the lowest digests, in the order of these; one for each content."""
    found: dict[str, str] = {}
    for path in part.paths():
        for batch in bounded_batches(path, ("content_sha256", "text")):
            beginnings = pc.utf8_slice_codeunits(batch["text"], 0, domain.SAMPLE_CHARS)
            found.update(zip(batch["content_sha256"].to_pylist(), beginnings.to_pylist(), strict=True))
            found = dict(sorted(found.items())[:max_documents])
    return list(found.values())


def measure_of(said: NDArray[np.bool_], labels: NDArray[np.bool_]) -> Mapping[str, float]:
    """F1, precision and recall of the domain."""
    hits = float((said & labels).sum())
    precision, recall = hits / max(1, said.sum()), hits / max(1, labels.sum())
    f1 = 2 * precision * recall / (precision + recall) if hits else 0.0
    return {"f1": round(f1, 4), "precision": round(precision, 4), "recall": round(recall, 4)}


def parts_of(config: LearnDomainConfig, documents: Mapping[str, Part]) -> Iterator[tuple[str, Part]]:
    """The stage's inputs, from the acquired documents of each source."""
    yield from ((f"{SEED}{name}", documents[name]) for name in config.seeds)
    yield from ((f"{OTHER}{name}", documents[name]) for name in config.others)
