"""The life of a document (`domainlm why`): where it came from, every verdict, its duplicates, its fate, its tokens.

Read from the sealed directories alone, one column at a time; nothing is logged for it. The filter's verdicts are taken
anew from the annotations, for its files hold objections only, and one may ask why a document was kept.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from domainlm.tasks.filter import FilterConfig, verdicts
from domainlm.tasks.store import Sealed


@dataclass(frozen=True)
class Event:
    """Something that happened to a document in a stage."""

    stage: str
    what: str
    details: Mapping[str, object]


def life_of(doc_id: str, stages: Mapping[str, Sealed]) -> list[Event]:
    """All that the stages of a build know of a document, in their order. Raises ValueError if none has seen it."""
    events = [event for name in stages for event in _events(name, stages, doc_id)]
    if not events:
        raise ValueError(f"no stage of this build has seen a document {doc_id!r}; an id is `source/native id`.")
    return events


def _events(stage: str, stages: Mapping[str, Sealed], doc_id: str) -> Iterator[Event]:
    work, _, label = stage.partition(".")
    if work == "annotate":
        return
    if work == "filter":
        yield from _verdicts(stage, stages[stage], stages[f"annotate.{label}"], doc_id)
    path = stages[stage].path
    for file in sorted(path.rglob("*.parquet")):
        kind = file.relative_to(path).parts[0]
        columns = pq.read_schema(file).names
        for key in ("doc_id", "doc_id_a", "doc_id_b"):
            if key in columns and (work, kind) != ("filter", "verdicts"):
                for row in _rows(file, key, doc_id):
                    yield Event(stage, kind, {name: value for name, value in row.items() if name not in ("text", key)})


def _verdicts(stage: str, filtered: Sealed, annotated: Sealed, doc_id: str) -> Iterator[Event]:
    config = FilterConfig.model_validate({**filtered.manifest.config, "profile": None})  # its rules are written out
    for file in sorted(annotated.path.rglob("*.parquet")):
        if rows := _rows(file, "doc_id", doc_id):
            for verdict in verdicts(config, pa.Table.from_pylist(rows, schema=pq.read_schema(file)), 0):
                yield Event(stage, "verdicts", {k: v for k, v in asdict(verdict).items() if k != "doc_id"})


def _rows(file: Path, key: str, doc_id: str) -> list[dict[str, object]]:
    """Rows of a Parquet file whose `key` is `doc_id`; the other columns are read only if there is one."""
    keys = pq.read_table(file, columns=[key])[key]
    if not pc.any(pc.equal(keys, doc_id)).as_py():
        return []
    rows: list[dict[str, object]] = pq.read_table(file, filters=[(key, "=", doc_id)]).to_pylist()
    return rows
