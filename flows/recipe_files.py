"""Recipes as YAML files: found by name or path, extended, overridden with `--set`.

extends: biomedical            take another recipe (a path, or the name of a shipped one) and change some of it
name: biomedical-small         maps are merged, anything else replaces what was there
sources: {pubmed: {path: x}}   a map over a list changes the entries that have these names
mix: {token_budget: 2000000}
"""

import re
from collections.abc import Hashable, Mapping, Sequence
from difflib import get_close_matches
from importlib import resources
from pathlib import Path

import yaml

Tree = dict[str, object]


class RecipeError(ValueError):
    """A recipe that cannot be built, with every reason at once."""


class _Loader(yaml.SafeLoader):
    """Safe YAML that refuses a key given twice, which YAML would let pass with the last one winning."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, object]:
        seen: set[object] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=deep)
            if key in seen:
                raise RecipeError(f"{key_node.start_mark}: `{key}` is given twice; keep one of them.".strip())
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


_Loader.add_implicit_resolver(  # 2e9 is a number to people, and to YAML 1.2
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def shipped_recipes() -> list[str]:
    """Names of the recipes that come with domainlm."""
    folder = resources.files("domainlm.flows.recipes")
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def read_tree(name_or_path: str, *, beside: Path) -> Tree:
    """YAML of a recipe as a tree, with what it extends merged in."""
    text, folder = _find(name_or_path, beside)
    try:
        tree = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise RecipeError(f"{name_or_path} is not YAML: {error}") from None
    if not isinstance(tree, dict):
        raise RecipeError(f"{name_or_path} holds {type(tree).__name__}; a recipe is a map that starts with `name:`.")
    if "extends" not in tree:
        return tree
    base = read_tree(str(tree.pop("extends")), beside=folder)
    if "name" in tree and "domain" not in tree:
        base.pop("domain", None)
    return merge(base, tree)


def merge(base: Tree, change: Mapping[str, object]) -> Tree:
    """`base` with `change` over it, as a JSON merge patch (RFC 7396), which also changes lists of named entries."""
    merged = dict(base)
    for key, value in change.items():
        old = merged.get(key)
        if isinstance(old, list) and isinstance(value, dict):
            merged[key] = _merge_entries(key, old, value)
        else:
            merged[key] = merge(old if isinstance(old, dict) else {}, value) if isinstance(value, dict) else value
    return {key: value for key, value in merged.items() if value is not None}


def _merge_entries(key: str, entries: Sequence[object], change: Mapping[str, object]) -> list[object]:
    """The entries of a list with those changed that `change` names; null takes one out."""
    names = [_name_of(entry) for entry in entries]
    if strays := [name for name in change if name not in names]:
        raise RecipeError(f"{key}: nothing there is called {strays[0]!r}; there are {', '.join(map(str, names))}.")
    merged = []
    for name, entry in zip(names, entries, strict=True):
        value = change.get(name, {}) if name is not None else {}
        if value is not None:
            merged.append(merge(entry, value) if isinstance(entry, dict) and isinstance(value, dict) else value)
    return merged


def _name_of(entry: object) -> str | None:
    """What a person calls an entry of a list: a source or a benchmark by its name, a rule by its kind."""
    return (
        next((str(entry[key]) for key in ("name", "rule") if key in entry), None) if isinstance(entry, dict) else None
    )


def apply_setting(tree: Tree, setting: str) -> None:
    """Apply one `a.b=value` (the value is YAML) in place. A list is entered by number or by the `name` of its entry."""
    path, equals, text = setting.partition("=")
    if not equals or not path:
        raise RecipeError(f"--set {setting!r}: write it as path=value, for example --set mix.token_budget=2000000.")
    *parents, last = path.split(".")
    here: object = tree
    for step in parents:
        here = _enter(here, step, setting)
    if isinstance(here, dict):
        here[last] = yaml.load(text, Loader=_Loader)
    elif isinstance(here, list) and last.isdigit() and int(last) < len(here):
        here[int(last)] = yaml.load(text, Loader=_Loader)
    else:
        raise RecipeError(f"--set {setting!r}: {'.'.join(parents)} has no entry {last!r}.")


def _enter(here: object, step: str, setting: str) -> object:
    if isinstance(here, dict):
        if here.get(step) is None:
            here[step] = {}
        return here[step]
    if isinstance(here, list):
        if step.isdigit() and int(step) < len(here):
            return here[int(step)]
        for entry in here:
            if _name_of(entry) == step:
                return entry
    raise RecipeError(f"--set {setting!r}: nothing called {step!r} can be entered there.")


def _find(name_or_path: str, beside: Path) -> tuple[str, Path]:
    for path in (beside / name_or_path, Path(name_or_path), beside / f"{name_or_path}.yaml"):
        if path.suffix in (".yaml", ".yml") and path.is_file():
            return path.read_text(encoding="utf-8"), path.parent
    names = shipped_recipes()
    if name_or_path in names:
        return resources.files("domainlm.flows.recipes").joinpath(f"{name_or_path}.yaml").read_text(
            encoding="utf-8"
        ), Path()
    close = get_close_matches(name_or_path, names, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"shipped recipes: {', '.join(names)}."
    raise RecipeError(f"no recipe {name_or_path!r}: it is neither a YAML file nor a shipped name; {hint}")
