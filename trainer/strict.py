"""JSON in, frozen dataclasses out: unknown keys, missing keys and wrong types are refused with their path.

The trainer runs without pydantic, so this is the one place where its files are checked against their types.
"""

import dataclasses
import difflib
import json
import operator
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")

_BOUNDS: dict[str, tuple[str, Callable[[float, float], bool]]] = {
    "ge": ("at least", operator.ge),
    "gt": ("more than", operator.gt),
    "le": ("at most", operator.le),
    "lt": ("less than", operator.lt),
}


def load(cls: type[T], path: Path) -> T:
    """Read `path` as one `cls`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not JSON, or does not fit `cls`; the message names the key.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; a {cls.__name__} in JSON is needed there.")
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not valid JSON ({error}); write it again with the tool that made it.") from error
    try:
        return parse(cls, value)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def parse(cls: type[T], value: object, where: str = "") -> T:
    """Build the dataclass `cls` from decoded JSON; `where` is the path of `value` for messages."""
    if not isinstance(value, dict):
        raise ValueError(f"{where or 'the document'} is {_show(value)}, but an object ({cls.__name__}) is needed.")
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for key in value:
        if key not in fields:
            near = difflib.get_close_matches(key, fields, n=1)
            hint = f"did you mean `{near[0]}`?" if near else f"known keys: {', '.join(fields)}."
            raise ValueError(f"unknown key `{_join(where, key)}`; {hint}")
    for name, field in fields.items():
        has_default = field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
        if name not in value and not has_default:
            raise ValueError(f"key `{_join(where, name)}` is missing; add it.")
    hints = get_type_hints(cls)
    arguments = {key: _convert(hints[key], item, _join(where, key)) for key, item in value.items()}
    try:
        return cls(**arguments)
    except ValueError as error:
        raise ValueError(f"{where}: {error}" if where else str(error)) from error


def check_bounds(value: object) -> None:
    """Raise ValueError where a field of the dataclass `value` lies outside the bounds in its metadata.

    The same metadata (`ge`, `gt`, `le`, `lt`) is what pydantic shows in its JSON schema.
    """
    for field in dataclasses.fields(value):  # type: ignore[arg-type]
        number = getattr(value, field.name)
        for key, (words, holds) in _BOUNDS.items():
            if number is not None and key in field.metadata and not holds(number, field.metadata[key]):
                name = f"{type(value).__name__}.{field.name}"
                raise ValueError(f"{name} is {number}, but must be {words} {field.metadata[key]}.")


def _convert(hint: Any, value: Any, where: str) -> Any:
    """`value` as the type `hint`, or ValueError."""
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return _convert_union(get_args(hint), value, where)
    if origin is Literal:
        return _literal(get_args(hint), value, where)
    if origin is tuple:
        item = get_args(hint)[0]
        return tuple(_convert(item, v, f"{where}[{i}]") for i, v in enumerate(_need(list, value, where)))
    if origin is dict:
        return {k: _convert(get_args(hint)[1], v, _join(where, k)) for k, v in _need(dict, value, where).items()}
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return parse(hint, value, where)
    if hint is Path:
        return Path(_need(str, value, where))
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return _need(hint, value, where)


def _convert_union(options: tuple[Any, ...], value: Any, where: str) -> Any:
    """Unions here are `X | None` only."""
    if value is None and type(None) in options:
        return None
    return _convert(next(option for option in options if option is not type(None)), value, where)


def _literal(options: tuple[Any, ...], value: Any, where: str) -> Any:
    if value not in options:
        near = difflib.get_close_matches(str(value), [str(option) for option in options], n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise ValueError(f"`{where}` is {_show(value)}, but must be one of {', '.join(map(repr, options))}{hint}.")
    return value


def _need(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ValueError(f"`{where}` is {_show(value)}, but must be of type {kind.__name__}.")
    return value


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def _show(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
