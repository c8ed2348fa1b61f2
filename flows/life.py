"""The life of a document (`domainlm why`): where it came from, every verdict, its duplicates, its fate, its tokens.

Read from the sealed directories alone, one column at a time; nothing is logged for it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq

from domainlm.tasks.store import Sealed


@dataclass(frozen=True)
class Event:
    """Something that happened to a document in a stage."""

    stage: str
    what: str
    details: Mapping[str, object]


def life_of(doc_id: str, stages: Mapping[str, Sealed]) -> list[Event]:
    """All that the stages of a build know of a document, in their order. Raises ValueError if none has seen it."""
    events = [event for name, sealed in stages.items() for event in _events(name, sealed.path, doc_id)]
    if not events:
        raise ValueError(f"no stage of this build has seen a document {doc_id!r}; an id is `source/native id`.")
    return events


def _events(stage: str, path: Path, doc_id: str) -> Iterator[Event]:
    for file in sorted(path.rglob("*.parquet")):
        kind = file.relative_to(path).parts[0]
        columns = pq.read_schema(file).names
        for key in ("doc_id", "doc_id_a", "doc_id_b"):
            if key in columns:
                for row in _rows(file, key, doc_id):
                    yield Event(stage, kind, {name: value for name, value in row.items() if name not in ("text", key)})


def _rows(file: Path, key: str, doc_id: str) -> list[dict[str, object]]:
    """Rows of a Parquet file whose `key` is `doc_id`; the other columns are read only if there is one."""
    keys = pq.read_table(file, columns=[key])[key]
    if not pc.any(pc.equal(keys, doc_id)).as_py():
        return []
    rows: list[dict[str, object]] = pq.read_table(file, filters=[(key, "=", doc_id)]).to_pylist()
    return rows
