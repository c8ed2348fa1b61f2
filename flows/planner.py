"""The planner: walks the chain without building, and says of each stage whether it is reused or built, and why.

A stage after one that will be built cannot know its key yet, for inputs enter by content: should the rebuilt stage
come out with the same bytes, everything after it is reused after all. The plan says so rather than guess.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeGuard, get_args

from domainlm.flows.chain import Output
from domainlm.tasks.manifest import Manifest, Part
from domainlm.tasks.stage import Stage
from domainlm.tasks.store import Request, Sealed, Store

Until = Literal["acquire", "annotate", "filter", "deduplicate", "decontaminate", "tokenize", "mix", "train"]
FORESEEN = "foreseen"
UNLESS = "`after x`: x is built first. If it comes out with the same bytes as before, what follows is reused after all."
ABSENT = object()


@dataclass(frozen=True)
class PlanLine:
    """One stage of a plan. `because` is why it is built, one reason a line; empty when it is reused."""

    name: str
    directory: str
    reused: bool
    because: tuple[str, ...] = ()


@dataclass(frozen=True)
class Foreseen:
    """The output of a stage that is not built yet."""

    name: str

    def part(self, prefix: str = "") -> Part:
        """A part without bytes, by which the stages after it know that they cannot know their key."""
        return Part(root=Path(), files=(), digest=FORESEEN, bytes=0, rows=None, origin=self.name)


class Planner:
    """A `Make` that builds nothing and writes a plan."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.made: dict[str, Output] = {}
        self.lines: list[PlanLine] = []

    def __call__(self, stage: Stage[Any], config: object, inputs: Mapping[str, Part], *, label: str = "") -> Output:
        """The sealed output if the store has it, else a foreseen one and a line that says why it must be built."""
        name = stage_name(stage.name, label)
        request = stage.request(config, inputs, label=label)
        sealed = None if waits_for(inputs) else self.store.find(request)
        output: Output = sealed or Foreseen(name)
        if sealed:
            self.lines.append(PlanLine(name, sealed.path.name, reused=True))
        else:
            because = tuple(explain(request, self.store.sealed(stage.name, label)))
            directory = request.name if not waits_for(inputs) else f"{name.replace('.', '-')}-?"
            self.lines.append(PlanLine(name, directory, reused=False, because=because))
        self.made[name] = output
        return output


def stage_name(stage: str, label: str) -> str:
    """How a stage of a build is called: `filter.pubmed`, or `mix`."""
    return f"{stage}.{label}" if label else stage


def up_to(stage: str | None, lines: Sequence[PlanLine]) -> Sequence[PlanLine]:
    """The plan of a build that ends after the last stage of this name; all of it for None.

    Raises:
        ValueError: the recipe has no such stage.
    """
    if stage is None:
        return lines
    places = [place for place, line in enumerate(lines) if line.name.partition(".")[0] == stage]
    if not places or stage not in get_args(Until):
        there = {line.name.partition(".")[0] for line in lines}
        names = [name for name in get_args(Until) if name in there]
        raise ValueError(f"until: got {stage!r}; this recipe can stop after {', '.join(names)}.")
    return lines[: places[-1] + 1]


def waits_for(inputs: Mapping[str, Part]) -> list[str]:
    """Stages that have to be built before this one can know its key."""
    return sorted({part.origin for part in inputs.values() if part.digest == FORESEEN and part.decides})


def explain(request: Request, before: list[Sealed]) -> list[str]:
    """Why `request` is not in the store: what differs from the nearest of the directories sealed before."""
    if not before:
        return ["never built"]
    reasons = [_differences(request, sealed.manifest) for sealed in before]
    return min(reversed(reasons), key=len)


def _differences(request: Request, before: Manifest) -> list[str]:
    reasons = []
    if request.version != before.version:
        reasons.append(f"version {before.version} -> {request.version}: this stage's own code writes other bytes now")
    reasons += _config_differences("", request.config, before.config)
    inputs = {name: part for name, part in request.inputs.items() if part.decides}
    inputs_before = {name: record for name, record in before.inputs.items() if record.decides}
    for name in sorted({*inputs, *inputs_before}):
        new, old = inputs.get(name), inputs_before.get(name)
        if new is None:
            reasons.append(f"input {name} is gone")
        elif old is None:
            reasons.append(f"input {name} is new")
        elif new.digest == FORESEEN:
            reasons.append(f"after {new.origin}")
        elif new.digest != old.digest:
            reasons.append(f"input {name} has other bytes ({old.digest[:8]} -> {new.digest[:8]})")
    return list(dict.fromkeys(reasons)) or ["its sealed directory is gone"]


def _config_differences(path: str, new: object, old: object) -> list[str]:
    if isinstance(new, Mapping) and isinstance(old, Mapping):
        return [
            reason
            for key in sorted({*new, *old})
            for reason in _config_differences(f"{path}.{key}".lstrip("."), new.get(key, ABSENT), old.get(key, ABSENT))
        ]
    if isinstance(new, list | tuple) and isinstance(old, list | tuple):
        new_named, old_named = _by_name(new), _by_name(old)
        reasons = _config_differences(path, new_named, old_named)
        common = [name for name in new_named if name in old_named]
        if common != [name for name in old_named if name in new_named]:
            reasons.append(f"{path}: another order")
        return reasons
    if new == old:
        return []
    if old is ABSENT or new is ABSENT:
        return [f"{path} is {'new' if old is ABSENT else 'gone'}"]
    return [f"{path}: {old!r} -> {new!r}"]


def _by_name(entries: Sequence[object]) -> dict[str, object]:
    """The entries of a list by what a person calls them: a rule by its name, anything else by its place."""
    named = {}
    for place, entry in enumerate(entries):
        name = next((str(entry[key]) for key in ("name", "rule") if key in entry), None) if _is_map(entry) else None
        named[name or str(place)] = entry
    return named


def _is_map(entry: object) -> TypeGuard[Mapping[str, object]]:
    return isinstance(entry, Mapping)
