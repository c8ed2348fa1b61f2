"""A stage: a function from a config and its inputs to a directory, with the version that its bytes have.

    @stage(version=1)
    def tokenize(config: TokenizeConfig, inputs: Inputs, out: Path, runtime: Runtime) -> Books: ...

`tokenize` is then a `Stage`. A flow asks for it through a `Builder`, which runs it as a Prefect task, or through a
`Planner`, which says what would be built and why; both call `Stage.request` for the key.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import BaseModel

from domainlm.tasks.manifest import Books, Part
from domainlm.tasks.runtime import Runtime
from domainlm.tasks.store import Request, Sealed, Store

ConfigT = TypeVar("ConfigT")
Inputs = Mapping[str, Part]
Build = Callable[[ConfigT, Inputs, Path, Runtime], Books]


@dataclass(frozen=True)
class Stage(Generic[ConfigT]):
    """One kind of work. `disk_factor` times its inputs' bytes is the room it asks for before it starts."""

    name: str
    version: int
    function: Build[ConfigT]
    disk_factor: float
    resumes: bool

    def request(self, config: ConfigT, inputs: Inputs, *, label: str = "") -> Request:
        """What the store is asked for: identity of the config, digests of the inputs."""
        return Request(
            stage=self.name,
            version=self.version,
            label=label,
            config=identity(config),
            inputs=inputs,
            disk_bytes=int(self.disk_factor * sum(part.bytes for part in inputs.values())),
            resumes=self.resumes,
        )

    def build(self, store: Store, config: ConfigT, inputs: Inputs, runtime: Runtime, *, label: str = "") -> Sealed:
        """The sealed output: reused if the store has it, else built here and now."""
        request = self.request(config, inputs, label=label)
        return store.build(request, lambda out: self.function(config, inputs, out, runtime))


def stage(
    *, version: int, disk_factor: float = 1.0, resumes: bool = False
) -> Callable[[Build[ConfigT]], Stage[ConfigT]]:
    """Make a stage of a build function; its name is the function's. Raise `version` when the bytes change."""

    def decorate(function: Build[ConfigT]) -> Stage[ConfigT]:
        name = getattr(function, "__name__", "")
        return Stage(name, version, function, disk_factor, resumes)

    return decorate


def identity(config: object) -> Mapping[str, object]:
    """The config as plain JSON values, for the key.

    A TypeAdapter made here would parse source code for docstrings, and in CPython 3.11 two threads that parse at the
    same time fail with a SystemError; Prefect has threads of its own.
    """
    if isinstance(config, BaseModel):
        return config.model_dump(mode="json")
    if is_dataclass(config) and not isinstance(config, type):
        return asdict(config)
    raise TypeError(f"a config must be a pydantic model or a dataclass, not {type(config).__name__}.")
