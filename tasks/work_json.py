"""The work of a rank as JSON, so that another machine can do it: no pickle, and nothing but what domainlm defines.

    {"$": "partial", "of": "domainlm.tasks.filter:filter_shard", "args": [{"$": "FilterConfig", ...}, ...], ...}

Plain values stay as they are; tuples, paths, mappings, dataclasses, pydantic models, functions and partials are
objects with a key `$`; arrays lie beside the file, in `<name>.arrays/`.
"""

import dataclasses
import json
from collections.abc import Mapping
from functools import partial
from importlib import import_module
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np
from pydantic import BaseModel

PACKAGE = "domainlm."


def save_work(work: object, path: Path) -> None:
    """Write `work` to `path`. Raises TypeError for what has no such form."""
    arrays = path.with_suffix(".arrays")
    arrays.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps(_Writer(arrays).encode(work)))
    temporary.replace(path)


def load_work(path: Path) -> Any:
    """What `save_work` wrote."""
    return _decode(json.loads(path.read_text()), path.with_suffix(".arrays"))


class _Writer:
    def __init__(self, arrays: Path) -> None:
        self.arrays = arrays
        self.num_arrays = 0

    def encode(self, value: object) -> object:
        if value is None or isinstance(value, bool | int | float | str):
            return value
        if isinstance(value, np.generic):
            return value.item()
        if isinstance(value, np.ndarray):
            return {"$": "array", "file": self._save(value)}
        if isinstance(value, list):
            return [self.encode(one) for one in value]
        if isinstance(value, tuple):
            return {"$": "tuple", "items": [self.encode(one) for one in value]}
        if isinstance(value, Path):
            return {"$": "path", "path": str(value)}
        if isinstance(value, Mapping):
            return {"$": "mapping", "items": [[self.encode(key), self.encode(one)] for key, one in value.items()]}
        if isinstance(value, partial):
            keywords = {name: self.encode(one) for name, one in value.keywords.items()}
            of, args = self.encode(value.func), [self.encode(one) for one in value.args]
            return {"$": "partial", "of": of, "args": args, "keywords": keywords}
        if isinstance(value, FunctionType | type):
            return {"$": "name", "name": _name(value)}
        return {"$": "object", "of": _name(type(value)), "fields": self._fields(value)}

    def _fields(self, value: object) -> dict[str, object]:
        if isinstance(value, BaseModel):  # field by field: a serializer may leave out what decides no bytes
            return {name: self.encode(getattr(value, name)) for name in type(value).model_fields}
        if dataclasses.is_dataclass(value):
            return {one.name: self.encode(getattr(value, one.name)) for one in dataclasses.fields(value) if one.init}
        raise TypeError(
            f"{type(value).__name__} cannot travel to another machine: give the rank's work dataclasses, pydantic "
            "models, paths, arrays and plain values."
        )

    def _save(self, array: "np.ndarray[Any, Any]") -> str:
        name = f"{self.num_arrays:05d}.npy"
        self.num_arrays += 1
        np.save(self.arrays / name, array, allow_pickle=False)
        return name


def _decode(value: Any, arrays: Path) -> Any:
    if isinstance(value, list):
        return [_decode(one, arrays) for one in value]
    if not isinstance(value, dict):
        return value
    match value["$"]:
        case "tuple":
            return tuple(_decode(value["items"], arrays))
        case "path":
            return Path(value["path"])
        case "mapping":
            return dict(_decode(value["items"], arrays))
        case "array":
            return np.load(arrays / value["file"], allow_pickle=False)
        case "name":
            return _find(value["name"])
        case "partial":
            keywords = {name: _decode(one, arrays) for name, one in value["keywords"].items()}
            return partial(_decode(value["of"], arrays), *_decode(value["args"], arrays), **keywords)
        case _:
            return _find(value["of"])(**{name: _decode(one, arrays) for name, one in value["fields"].items()})


def _name(value: Any) -> str:
    name = f"{value.__module__}:{value.__qualname__}"
    if not name.startswith(PACKAGE) or "<" in name:
        raise TypeError(f"{name} cannot travel to another machine: only what a module of {PACKAGE[:-1]} defines can.")
    return name


def _find(name: str) -> Any:
    module, _, qualified = name.partition(":")
    if not module.startswith(PACKAGE):
        raise ValueError(f"{name} is no part of {PACKAGE[:-1]}; this work was not written by it.")
    found: Any = import_module(module)
    for part in qualified.split("."):
        found = getattr(found, part)
    return found
