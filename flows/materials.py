"""What a recipe takes from outside: source files, benchmark files, first weights.

All of it is looked at before any work: a missing source, a benchmark that changed or weights that are not there stop
the build in its first seconds.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from domainlm.eval.benchmarks import load_questions
from domainlm.flows.approval import newest_approved
from domainlm.flows.recipe import Recipe, Source
from domainlm.flows.show import newest
from domainlm.tasks.manifest import Part, outside
from domainlm.tasks.runtime import Runtime
from domainlm.tasks.source_files import find_files
from domainlm.tasks.store import Store
from domainlm.trainer.job import STATE

PUBLISHED, APPROVED = "published:", "approved:"


@dataclass(frozen=True)
class Materials:
    """Inputs from outside the store. `files` has no entry for a remote source, which `acquire` fetches itself."""

    files: Mapping[str, Part]
    benchmarks: Mapping[str, Part]
    init_from: Part | None
    trunk: Part | None = None


def gather(recipe: Recipe, runtime: Runtime) -> Materials:
    """Everything that `recipe` needs from outside, digested. Raises FileNotFoundError or ValueError."""
    data = runtime.data.resolve()
    return Materials(
        files={source.name: source_files(source, data) for source in recipe.sources if source.path is not None},
        benchmarks=benchmark_files(recipe, data),
        init_from=first_weights(recipe, runtime) if recipe.train.init_from else None,
        trunk=find_trunk(recipe.train.trunk, recipe, runtime) if recipe.train.trunk else None,
    )


def source_files(source: Source, data: Path) -> Part:
    """The files that a local source's path matches, none of them outside the data directory."""
    pattern = source.path or ""
    try:
        files = find_files(data, f"{pattern.rstrip('/')}/**/*" if (data / pattern).is_dir() else pattern)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"source {source.name!r}: {error} `--data` says where paths start.") from None
    return outside(_common_folder(files), files, origin=f"source {source.name}")


def benchmark_files(recipe: Recipe, data: Path) -> dict[str, Part]:
    """The benchmarks' files; every question is read, so that a changed or broken file stops the build now."""
    found = {}
    for benchmark in recipe.evaluate.benchmarks:
        path = data / benchmark.path
        load_questions(benchmark, path)
        found[benchmark.name] = outside(path.parent, [path], origin=f"benchmark {benchmark.name}")
    return found


def first_weights(recipe: Recipe, runtime: Runtime) -> Part:
    """The Hugging Face directory that training continues from."""
    return find_model(recipe.train.init_from or "", recipe, runtime, asked_by="train.init_from")


def find_trunk(name: str, recipe: Recipe, runtime: Runtime) -> Part:
    """The state at the end of a recipe's newest published run at a flat rate."""
    store = Store(runtime.store / recipe.domain)
    _newest_published(name, recipe, runtime, asked_by="train.trunk")
    try:
        return newest(store, name).stages["train"].part(STATE)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"train.trunk: the newest model of recipe {name!r} was trained to its end and has left no state to go on "
            f"from ({error}). A trunk has `schedule: {{name: constant}}`."
        ) from error


def find_model(wanted: str, recipe: Recipe, runtime: Runtime, *, asked_by: str) -> Part:
    """A Hugging Face directory below the data directory, or `published:RECIPE` or `approved:RECIPE` of the domain."""
    if wanted.startswith(PUBLISHED):
        return _newest_published(wanted.removeprefix(PUBLISHED), recipe, runtime, asked_by)
    if wanted.startswith(APPROVED):
        return newest_approved(Store(runtime.store / recipe.domain), wanted.removeprefix(APPROVED)).part("model")
    folder = (runtime.data / wanted).resolve()
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(
            f"{asked_by}: {folder} has no config.json. It must be a Hugging Face directory (config, safetensors, "
            f"tokenizer) below the data directory, or `{PUBLISHED}RECIPE`, or `{APPROVED}RECIPE`."
        )
    return outside(folder, [path for path in folder.rglob("*") if path.is_file()], origin=f"weights {wanted}")


def _newest_published(name: str, recipe: Recipe, runtime: Runtime, asked_by: str) -> Part:
    published = Store(runtime.store / recipe.domain).sealed("publish", name)
    if not published:
        raise FileNotFoundError(
            f"{asked_by}: no model of recipe {name!r} is published in {runtime.store / recipe.domain}. Build that "
            f"recipe first (`domainlm build {name}`)."
        )
    return published[-1].part("model")


def _common_folder(paths: list[Path]) -> Path:
    folder = paths[0].parent
    while not all(path.is_relative_to(folder) for path in paths):
        folder = folder.parent
    return folder
