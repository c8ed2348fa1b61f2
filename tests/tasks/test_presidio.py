"""Names and places by Presidio: a real spaCy pipeline, made here of a few names, installed as pip would have it."""

import re
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import spacy
from pydantic import ValidationError

from domainlm.tasks.annotate import annotate
from domainlm.tasks.documents import Document, content_sha256, read_documents, write_rows
from domainlm.tasks.filter import FilterConfig, filter
from domainlm.tasks.manifest import outside
from domainlm.tasks.pii import find_pii, redact
from domainlm.tasks.presidio import CHUNK_CHARACTERS, MissingModel, Presidio, load_analyzer
from domainlm.tasks.runtime import Runtime
from domainlm.tasks.store import Store

MODEL = "en_few_names"
ASKED = Presidio(model=MODEL, version="1.2.0")
LETTER = "Dr. Ada Quill of Port Marrow saw the patient; write to ada.quill@marrow.example or to Ada Quill.\n"


@pytest.fixture(autouse=True)
def _installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = spacy.blank("en")
    names = {"PERSON": "Ada Quill", "GPE": "Port Marrow", "ORG": "Marrow Clinic", "EVENT": "patient"}
    ruler = pipeline.add_pipe("entity_ruler")
    ruler.add_patterns([{"label": label, "pattern": name} for label, name in names.items()])
    (tmp_path / "site" / MODEL).mkdir(parents=True)
    pipeline.to_disk(tmp_path / "site" / MODEL / f"{MODEL}-1.2.0")
    (tmp_path / "site" / MODEL / "__init__.py").write_text("raise AssertionError('no code of a model is run')")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    load_analyzer.cache_clear()


def test_names_and_places_are_replaced_by_their_kind_and_patterns_go_before_them() -> None:
    found = find_pii("s/1", LETTER, ["email", ASKED])
    assert redact(LETTER, found) == "Dr. <PERSON> of <LOCATION> saw the patient; write to <EMAIL> or to <PERSON>.\n"
    assert [(one.kind, LETTER[one.start : one.end]) for one in found] == [
        ("person", "Ada Quill"),
        ("location", "Port Marrow"),
        ("email", "ada.quill@marrow.example"),
        ("person", "Ada Quill"),
    ]


def test_only_the_kinds_that_were_asked_for_are_replaced() -> None:
    asked = ASKED.model_copy(update={"kinds": ("organization",)})
    text = f"{LETTER}Marrow Clinic"
    assert redact(text, find_pii("s/1", text, [asked])) == f"{LETTER}<ORGANIZATION>"


def test_a_long_text_is_searched_in_parts_with_the_offsets_of_the_whole() -> None:
    text = LETTER * (2 * CHUNK_CHARACTERS // len(LETTER)) + "x" * (CHUNK_CHARACTERS + 5) + f"\n{LETTER}"
    found = find_pii("s/1", text, [ASKED])
    expected = [match.span() for match in re.finditer("Ada Quill|Port Marrow", text)]
    assert [(one.start, one.end) for one in found] == expected
    assert MODEL not in sys.modules


def test_the_stage_logs_each_kind_and_span_and_its_bytes_do_not_depend_on_the_batch(tmp_path: Path) -> None:
    texts = [LETTER * n for n in (1, 2, 3)]
    rows = [
        Document(f"s/{n}", text, "s", "CC0-1.0", "", "", None, content_sha256(text), None, "{}")
        for n, text in enumerate(texts)
    ]
    config = FilterConfig.model_validate(
        {"rules": [{"rule": "license"}], "pii": ["email", {"model": MODEL, "version": "1.2.0"}]}
    )
    kept, logs = [], []
    for name, shards in (("one", [rows]), ("three", [[row] for row in rows])):
        paths = [tmp_path / name / f"{n:05d}.parquet" for n in range(len(shards))]
        for path, shard in zip(paths, shards, strict=True):
            write_rows(path, Document, shard)
        documents, store = outside(tmp_path / name, paths, origin="s"), Store(tmp_path / f"store-{name}")
        measured = annotate.build(store, config.annotate_config(), {"documents": documents}, Runtime())
        inputs = {"documents": documents, "annotations": measured.part("annotated")}
        sealed = filter.build(store, config, inputs, Runtime())
        kept.append([one for path in sealed.part("kept").paths() for one in read_documents(path)])
        logs.append([row for path in sealed.part("pii").paths() for row in pq.read_table(path).to_pylist()])
        assert sealed.manifest.counts["pii.person"] == 12
    assert kept[0] == kept[1]
    assert logs[0] == logs[1]
    assert [row["kind"] for row in logs[0][:4]] == ["person", "location", "email", "person"]


@pytest.mark.parametrize(
    ("model", "version", "found"), [(MODEL, "1.3.0", r"versions found: 1\.2\.0"), ("en_absent", "1.0.0", "found: none")]
)
def test_a_model_that_is_not_installed_stops_the_stage_with_the_command_that_brings_it(
    model: str, version: str, found: str
) -> None:
    with pytest.raises(MissingModel, match=f"{found}.*pip install https://.*/{model}-{version}-py3-none-any"):
        load_analyzer(Presidio(model=model, version=version))


def test_a_model_is_named_and_no_path() -> None:
    with pytest.raises(ValidationError, match="model"):
        Presidio(model="../en_few_names", version="1.2.0")
