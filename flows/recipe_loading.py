"""From YAML to a checked `Recipe` or `Runtime`, or to every fault at once: path, value, nearest valid name."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path

from pydantic import BaseModel, ValidationError

from domainlm.flows.recipe import Recipe
from domainlm.flows.recipe_files import RecipeError, apply_setting, read_tree
from domainlm.tasks.runtime import Runtime


class RuntimeFault(ValueError):
    """A runtime that cannot be used, with every reason at once."""


def load_recipe(name_or_path: str, settings: Sequence[str] = ()) -> Recipe:
    """The recipe of a file or a shipped name, with `a.b=value` settings applied. Raises RecipeError."""
    tree = read_tree(name_or_path, beside=Path())
    for setting in settings:
        apply_setting(tree, setting)
    return validate(tree, name_or_path)


def validate(tree: Mapping[str, object], origin: str) -> Recipe:
    """The recipe that `tree` describes; every fault is named with its path, its value and the nearest valid name."""
    try:
        return Recipe.model_validate(tree)
    except ValidationError as error:
        raise RecipeError(f"{origin} is not a valid recipe:\n{_faults(error, Recipe)}") from None


def validate_runtime(tree: Mapping[str, object]) -> Runtime:
    """The runtime that `tree` describes; raises RuntimeFault with every fault."""
    try:
        return Runtime.model_validate(tree)
    except ValidationError as error:
        raise RuntimeFault(f"the runtime (`--runtime`, `--on`) is not valid:\n{_faults(error, Runtime)}") from None


def _faults(error: ValidationError, model: type[BaseModel]) -> str:
    schema = model.model_json_schema()
    return "\n".join(f"  {_describe(fault, schema)}" for fault in error.errors(include_url=False))


def _describe(fault: Mapping[str, object], schema: Mapping[str, object]) -> str:
    loc = fault["loc"]
    steps = [str(step) for step in loc] if isinstance(loc, tuple) else []
    path = ".".join(steps) or str(schema["title"]).lower()
    message = str(fault["msg"]).removeprefix("Value error, ")
    if fault["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        valid = _valid_names(steps[:-1], schema)
        close = get_close_matches(steps[-1], valid, n=1, cutoff=0.5)
        hint = f"did you mean `{close[0]}`?" if close else f"valid here: {', '.join(sorted(valid))}."
        return f"{path}: no such setting (its value is {fault['input']!r}); {hint}"
    if fault["type"] in ("missing", "missing_argument"):
        return f"{path}: is missing."
    if isinstance(fault["input"], dict | list | tuple):  # too long to show, and the message names what matters
        return f"{path}: {message}"
    return f"{path}: {message} (found {fault['input']!r})"


def _valid_names(steps: Sequence[str], schema: Mapping[str, object]) -> list[str]:
    """Setting names at a place of a JSON schema; union tags among the steps are passed over."""
    places: list[Mapping[str, object]] = [schema]
    for step in steps:
        entered = [inner for place in _expand(places, schema) if (inner := _child(place, step)) is not None]
        places = entered or places
    return sorted({name for place in _expand(places, schema) for name in _mapping(place.get("properties"))})


def _child(place: Mapping[str, object], step: str) -> Mapping[str, object] | None:
    if step.isdigit() and "items" in place:
        return _mapping(place["items"])
    inner = _mapping(place.get("properties")).get(step)
    return _mapping(inner) if inner is not None else None


def _expand(places: Sequence[Mapping[str, object]], schema: Mapping[str, object]) -> list[Mapping[str, object]]:
    """The places with references followed and unions opened."""
    found: list[Mapping[str, object]] = []
    todo = list(places)
    while todo:
        place = todo.pop()
        if "$ref" in place:
            todo.append(_mapping(_mapping(schema["$defs"])[str(place["$ref"]).rpartition("/")[2]]))
        found.append(place)
        for union in ("anyOf", "oneOf", "allOf"):
            options = place.get(union)
            todo.extend(_mapping(option) for option in options) if isinstance(options, list) else None
    return found


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}
