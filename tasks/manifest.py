"""The manifest of a sealed directory: what it is, what went in, what came out, and books that balance.

`manifest.json` is `Manifest` as JSON. Identity (config, digests) and evidence (provenance) stand side by side in it;
only the first is ever hashed: no time, host or absolute path decides a key or a content digest.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from domainlm.tasks.provenance import Provenance

MANIFEST_SCHEMA = 1
MANIFEST = "manifest.json"


class UnbalancedBooks(ValueError):
    """A stage cannot say where everything that entered it went."""


class NotCanonical(TypeError):
    """A value that has no faithful JSON form, so that no key can stand for it."""


@dataclass(frozen=True)
class Output:
    """One file of a sealed directory. A record (a log, a metric) is evidence: listed, but not part of the content."""

    path: str
    rows: int | None
    bytes: int
    sha256: str
    record: bool = False


@dataclass(frozen=True)
class Part:
    """Files that a stage reads: some of a sealed directory, or files from outside. `digest` stands for their bytes."""

    root: Path
    files: tuple[str, ...]
    digest: str
    bytes: int
    rows: int | None
    origin: str
    decides: bool = True
    """Whether it decides the bytes of the output. What is only looked at is recorded, and is part of no key."""

    def looked_at(self) -> "Part":
        """The same, for a stage that only looks at it."""
        return replace(self, decides=False)

    def paths(self) -> list[Path]:
        """The files, in order."""
        return [self.root / name for name in self.files]


@dataclass(frozen=True)
class Books:
    """Where everything went: what entered from each input, and the fate of all of it.

    A fate that has a directory of its own name (`kept`, `held_out`, `dead_letters`) must have as many rows there.
    `counts` are figures that need no balance. `records` name the files that are evidence and not content.
    """

    entered: Mapping[str, int] = field(default_factory=dict)
    fates: Mapping[str, int] = field(default_factory=dict)
    counts: Mapping[str, float] = field(default_factory=dict)
    records: tuple[str, ...] = ()


@dataclass(frozen=True)
class InputRecord:
    """An input as the manifest keeps it: where it came from and its content digest."""

    origin: str
    digest: str
    decides: bool = True
    """Whether it is part of the key."""


@dataclass(frozen=True)
class Manifest:
    """What a sealed directory is, what went in, what came out. `manifest.json` is this, as JSON."""

    schema: int
    stage: str
    label: str
    version: int
    key: str
    digest: str
    config: Mapping[str, object]
    inputs: Mapping[str, InputRecord]
    outputs: tuple[Output, ...]
    entered: Mapping[str, int]
    fates: Mapping[str, int]
    counts: Mapping[str, float]
    licenses: Mapping[str, int]
    provenance: Provenance

    @classmethod
    def load(cls, path: Path) -> "Manifest":
        """Read `path`; raises ValueError for a manifest of another schema."""
        raw = json.loads(path.read_text())
        if raw["schema"] != MANIFEST_SCHEMA:
            raise ValueError(
                f"{path} has manifest schema {raw['schema']}; this version reads {MANIFEST_SCHEMA}. Rebuild."
            )
        raw["inputs"] = {name: InputRecord(**record) for name, record in raw["inputs"].items()}
        raw["outputs"] = tuple(Output(**output) for output in raw["outputs"])
        raw["provenance"] = Provenance(**raw["provenance"])
        return cls(**raw)


def canonical_json(value: object) -> bytes:
    """JSON with one form per value; raises NotCanonical for what JSON cannot hold faithfully (NaN, paths, objects)."""
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise NotCanonical(
            f"{value!r} cannot be part of a key: {error}. Keys hold text, numbers, lists and maps."
        ) from None


def outside(root: Path, files: list[Path], *, origin: str) -> Part:
    """Files from outside the store as an input: their names below `root` and their bytes decide the digest."""
    names = sorted(str(path.relative_to(root)) for path in files)
    return Part(
        root=root,
        files=tuple(names),
        digest=digest_of((name, file_sha256(root / name)) for name in names),
        bytes=sum((root / name).stat().st_size for name in names),
        rows=None,
        origin=origin,
    )


def list_outputs(directory: Path, records: tuple[str, ...]) -> tuple[Output, ...]:
    """Every file below `directory` with its size, rows and digest, by path. Those below `records` are evidence."""
    paths = sorted(path for path in directory.rglob("*") if path.is_file() and path.name != MANIFEST)
    names = [path.relative_to(directory).as_posix() for path in paths]
    return tuple(
        Output(name, count_rows(path), path.stat().st_size, file_sha256(path), any(is_below(name, r) for r in records))
        for name, path in zip(names, paths, strict=True)
    )


def check_books(name: str, inputs: Mapping[str, Part], books: Books, outputs: tuple[Output, ...]) -> None:
    """Everything that entered has a fate, and every fate with a directory has its rows; else UnbalancedBooks."""
    for source, entered in books.entered.items():
        expected = inputs[source].rows if source in inputs else None
        if expected is not None and expected != entered:
            raise UnbalancedBooks(f"{name} read {entered:,} rows of {source!r}, which has {expected:,}.")
    if sum(books.entered.values()) != sum(books.fates.values()):
        raise UnbalancedBooks(
            f"{name} took in {sum(books.entered.values()):,} and accounts for {sum(books.fates.values()):,}: "
            f"{dict(books.fates)}. Nothing was sealed; the unfinished directory is kept beside the store's others."
        )
    for fate, count in books.fates.items():
        rows = [output.rows for output in outputs if output.path.startswith(f"{fate}/")]
        if rows and sum_rows(rows) != count:
            raise UnbalancedBooks(f"{name} says {count:,} {fate}, and {fate}/ holds {sum_rows(rows)} rows.")


def count_rows(path: Path) -> int | None:
    """Rows of a Parquet or Arrow file, from its footer; None for other files."""
    if path.suffix == ".parquet":
        return int(pq.read_metadata(path).num_rows)
    if path.suffix == ".arrow":
        with pa.memory_map(str(path)) as source, pa.ipc.open_file(source) as reader:
            return sum(int(reader.get_batch(i).num_rows) for i in range(reader.num_record_batches))
    return None


def count_licenses(directory: Path) -> dict[str, int]:
    """Kept documents by licence."""
    counts: dict[str, int] = {}
    for path in sorted(directory.glob("kept/**/*.parquet")):
        if "license" in pq.read_schema(path).names:
            for entry in pq.read_table(path, columns=["license"])["license"].value_counts().to_pylist():
                counts[entry["values"]] = counts.get(entry["values"], 0) + entry["counts"]
    return dict(sorted(counts.items()))


def file_sha256(path: Path) -> str:
    """Sha256 of a file, hex."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def digest_of(entries: Iterable[tuple[str, str]]) -> str:
    """One digest for many files: over their names and digests, by name."""
    return hashlib.sha256(canonical_json(sorted(entries))).hexdigest()


def is_below(path: str, prefix: str) -> bool:
    """Whether `path` is `prefix` or below it; every path is below the empty prefix."""
    return not prefix or path == prefix or path.startswith(prefix + "/")


def sum_rows(counts: Iterable[int | None]) -> int | None:
    """The sum; None where one of them is not known."""
    total = 0
    for count in counts:
        if count is None:
            return None
        total += count
    return total
