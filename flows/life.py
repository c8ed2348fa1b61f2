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

from domainlm.flows.tracing import ledger_of
from domainlm.tasks.documents import Document
from domainlm.tasks.filter import FilterConfig, verdicts
from domainlm.tasks.store import Sealed
from domainlm.trainer.shards import Shard

ORIGIN = ("source", "uri", "retrieved_at", "license", "license_evidence", "content_sha256", "parent_id")
DOCUMENT = frozenset(Document.__dataclass_fields__)
FATE = "fate"
IN_SHARDS = "its tokens are in the shards"


@dataclass(frozen=True)
class Event:
    """Something that happened to a document in a stage. `what` is a folder of the stage's, `tokens`, or `fate`."""

    stage: str
    what: str
    details: Mapping[str, object]


def life_of(doc_id: str, stages: Mapping[str, Sealed]) -> list[Event]:
    """All that the stages of a build know of a document, in their order, and its fate. Raises ValueError if none has
    seen it."""
    events = [event for name in stages for event in _events(name, stages, doc_id)]
    if not events:
        raise ValueError(f"no stage of this build has seen a document {doc_id!r}; an id is `source/native id`.")
    if any(event.what == "tokens" for event in events) and "mix" in stages:
        events.append(_training(doc_id, stages))
    return [*events, _fate(events)]


def told(doc_id: str, events: list[Event]) -> Iterator[str]:
    """A life as lines for a person: what is new in each stage."""
    yield doc_id
    known: dict[str, object] = {}
    stage = ""
    for event in events:
        if event.stage != stage:
            stage = event.stage
            yield f"  {stage}"
        if event.what == "verdicts":
            yield f"    {_verdict(event.details)}"
        elif event.what == FATE:
            yield f"    {FATE}: {_fate_words(event.details)}"
        elif event.what == "pairs":
            yield f"    compared with {_joined(event.details)}"
        elif _is_document(event):
            news = {name: value for name, value in event.details.items() if value is not None}
            news = {name: value for name, value in news.items() if known.get(name) != value}
            known |= news
            yield f"    {event.what.replace('_', ' ')}"
            yield from (f"      {name:<16} {news[name]}" for name in (*ORIGIN, "native_metadata") if name in news)
        else:
            yield f"    {event.what}: {_joined(event.details)}"


def _verdict(details: Mapping[str, object]) -> str:
    said = "keep" if details["keep"] else "DROP"
    return f"{said}  {details['rule']}: {details['value']} (asked: {details['threshold']})"


def _fate_words(details: Mapping[str, object]) -> str:
    return f"{details['is']} by {details['rule']}: {details['value']}" if "rule" in details else str(details["is"])


def _joined(details: Mapping[str, object]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in details.items())


def _is_document(event: Event) -> bool:
    return DOCUMENT - {"doc_id", "text"} <= event.details.keys()


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
                    details = {name: value for name, value in row.items() if name not in ("text", key)}
                    yield Event(stage, kind.removesuffix(".parquet"), details)
    for file in sorted(path.glob("shards/*.arrow")):
        yield from (Event(stage, "tokens", span) for span in _spans(file, doc_id))


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


def _spans(file: Path, doc_id: str) -> Iterator[dict[str, object]]:
    """Where the document's tokens lie in a token shard: `tokens[first:last]` of its stream."""
    shard = Shard.open(file)
    row = pc.index(shard.doc_ids, doc_id).as_py()
    if row >= 0:
        first, last = int(shard.offsets[row]), int(shard.offsets[row + 1])
        yield {"shard": f"shards/{file.name}", "row": row, "first": first, "last": last, "tokens": last - first}


def _training(doc_id: str, stages: Mapping[str, Sealed]) -> Event:
    rows = ledger_of(stages).steps_of_document(doc_id)
    steps = sorted({row.step for row in rows})
    details: dict[str, object] = {"steps": len(steps), "tokens_seen": sum(row.tokens for row in rows)}
    return Event("train", "trained on", details | ({"first_step": steps[0], "last_step": steps[-1]} if steps else {}))


def _fate(events: list[Event]) -> Event:
    """What became of the document in the end, and where that was decided."""
    if spans := [event for event in events if event.what == "tokens"]:
        return Event(spans[-1].stage, FATE, {"is": IN_SHARDS})
    homes = [number for number, event in enumerate(events) if _is_document(event)]
    after = events[homes[-1] :] if homes else events
    if homes and after[0].what != "kept":
        return Event(after[0].stage, FATE, {"is": after[0].what})
    objections = [event for event in after if event.what == "verdicts" and not event.details["keep"]]
    if not objections:
        return Event(after[0].stage, FATE, {"is": f"{after[0].what}, and in no later stage"})
    by = objections[0]
    return Event(
        by.stage, FATE, {"is": "dropped", **{name: by.details[name] for name in ("rule", "value", "threshold")}}
    )
