"""What a recipe has published, from its sealed directories: path, keys, counts, scores, timings. Needs no Prefect."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from domainlm.tasks.store import Sealed, Store

ORDER = (  # of the chain; a manifest keeps its inputs by name
    *("acquire", "learn_domain", "annotate", "filter", "deduplicate", "decontaminate", "train_tokenizer"),
    *("extend_tokenizer", "tokenize", "mix", "train", "evaluate"),
)
HEADLINES = ("accuracy", "answer_bits_per_byte", "bits_per_byte")


class NothingPublished(FileNotFoundError):
    """No finished build to look at."""


@dataclass(frozen=True)
class Headline:
    """A score of the model with its 95 % interval, beside its base's and chance."""

    benchmark: str
    metric: str
    model: float
    low: float | None
    high: float | None
    base: float
    chance: float | None
    note: str


@dataclass(frozen=True)
class Published:
    """A published model and the stages it was made by, `<stage>.<label>` first to last."""

    sealed: Sealed
    stages: dict[str, Sealed]


def newest(store: Store, recipe: str) -> Published:
    """The newest published model of a recipe, with its stages. Raises NothingPublished."""
    model = published_model(store, recipe)
    stages = {}
    for name, record in sorted(model.manifest.inputs.items(), key=lambda item: ORDER.index(item[0].split(".")[0])):
        path = store.root / record.origin.split("/")[0]
        stages[name] = Sealed.load(path)
    return Published(model, {**stages, "publish": model})


def published_model(store: Store, recipe: str, directory: str | None = None) -> Sealed:
    """A published model of a recipe by its directory's name, or the newest. Raises NothingPublished."""
    published = store.sealed("publish", recipe)
    if not published:
        raise NothingPublished(f"recipe {recipe!r} has no model in {store.root} yet; `domainlm build {recipe}` first.")
    names = [model.path.name for model in published]
    if directory is not None and directory not in names:
        raise NothingPublished(f"{store.root} has no published model {directory!r}; there are {', '.join(names)}.")
    return published[-1] if directory is None else published[names.index(directory)]


def report(published: Published) -> dict[str, object]:
    """All that `domainlm show --json` prints."""
    return {
        "path": str(published.sealed.path.resolve()),
        "stages": {
            name: {
                "directory": one.path.name,
                "key": one.manifest.key,
                "digest": one.manifest.digest,
                "entered": dict(one.manifest.entered),
                "fates": dict(one.manifest.fates),
                "counts": dict(one.manifest.counts),
                "seconds": one.manifest.provenance.seconds,
            }
            for name, one in published.stages.items()
        },
        "report": read_report(published.sealed.path),
    }


def read_report(path: Path) -> dict[str, object]:
    """`report.json` of a published directory."""
    found: dict[str, object] = json.loads((path / "report.json").read_text())
    return found


def headline_scores(path: Path) -> list[Headline]:
    """Accuracies and bits per byte of a published model beside its base's."""
    return [
        Headline(
            benchmark=pair["benchmark"],
            metric=pair["metric"].replace("_", " "),
            model=pair["model"]["value"],
            low=pair["model"]["low"],
            high=pair["model"]["high"],
            base=pair["base"]["value"],
            chance=pair["model"]["chance"],
            note=pair["model"]["note"],
        )
        for pair in cast("list[dict[str, Any]]", read_report(path)["scores"])
        if pair["metric"] in HEADLINES
    ]


def verdict_sentence(path: Path) -> str:
    """What the paired tests say of a published model, in one sentence."""
    verdict = cast("dict[str, Any]", read_report(path)["verdict"])
    return f"Against its {verdict['base']}: questions {verdict['questions']}, held-out text {verdict['text']}."
