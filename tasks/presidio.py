"""Names, places and the like, which no pattern can tell: found by Presidio with a spaCy model (extra `presidio`).

In: the text of one document. Out: findings as of `pii`, by the same rules: they depend on the document alone, and say
where, never what. The model is named with its version, for it decides bytes, and is loaded from where pip has put it:
nothing is fetched, none of its code is run, and no GPU is used, so that machines do not differ for having one.

    pii: [email, phone, {model: en_core_web_lg, version: 3.8.0, kinds: [person, location]}]
"""

from collections.abc import Iterator
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

from domainlm.tasks.readers.record import optional_package

if TYPE_CHECKING:
    from presidio_analyzer import AnalyzerEngine

CHUNK_CHARACTERS = 50_000  # the memory of a pipeline is that of some 100 times the text
WHEELS = "https://github.com/explosion/spacy-models/releases/download"
UNUSED = ("tagger", "morphologizer", "parser", "senter", "attribute_ruler", "lemmatizer")  # no name depends on them
KINDS = {  # what spaCy's models call it (OntoNotes, and WikiNER for other languages than English)
    "person": ("PERSON", "PER"),
    "location": ("GPE", "LOC", "FAC"),
    "organization": ("ORG",),
    "nrp": ("NORP",),
    "date_time": ("DATE", "TIME"),
}

ModelKind = Literal["person", "location", "organization", "nrp", "date_time"]


class MissingModel(ImportError):
    """The spaCy model that a recipe names is not installed, or is of another version."""


class Presidio(BaseModel):
    """What Presidio is to find, with which model."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="Presidio")

    model: str = Field(title="Model", description="spaCy's name of it: en_core_web_lg.", pattern=r"^[a-z]{2,3}_\w+$")
    version: str = Field(title="Version", description="Of the model: 3.8.0.", pattern=r"^\d+(\.\d+)+$")
    kinds: tuple[ModelKind, ...] = Field(
        ("person", "location"),
        title="Kinds",
        description="What is replaced; nrp is nationality, religion or political group.",
        min_length=1,
    )


def find_names(text: str, asked: Presidio) -> Iterator[tuple[ModelKind, int, int]]:
    """Kind, first and last offset of each finding, in the order of the text."""
    analyzer = load_analyzer(asked)
    names = {kind.upper(): kind for kind in asked.kinds}
    for start, chunk in _chunks(text):
        found = analyzer.analyze(chunk, language=_language(asked), entities=list(names))
        for one in sorted(found, key=lambda one: (one.start, -one.end)):
            yield names[one.entity_type], start + one.start, start + one.end


@lru_cache(2)
def load_analyzer(asked: Presidio) -> "AnalyzerEngine":
    """Presidio over the installed model. Raises MissingExtra, MissingModel."""
    presidio = optional_package("presidio_analyzer", "presidio")
    engines = optional_package("presidio_analyzer.nlp_engine", "presidio")
    spacy = optional_package("spacy", "presidio")
    labels = {label: kind.upper() for kind in asked.kinds for label in KINDS[kind]}
    pipeline = spacy.load(_installed(asked), exclude=list(UNUSED))
    others = sorted({label for labels in pipeline.pipe_labels.values() for label in labels} - labels.keys())
    configuration = engines.NerModelConfiguration(model_to_presidio_entity_mapping=labels, labels_to_ignore=others)
    engine = engines.SpacyNlpEngine(ner_model_configuration=configuration)
    engine.nlp = {_language(asked): pipeline}  # its own `load` would fetch a model that is not there, and ask for a GPU
    recognizer = optional_package("presidio_analyzer.predefined_recognizers", "presidio").SpacyRecognizer(
        supported_language=_language(asked), supported_entities=sorted(set(labels.values()))
    )
    registry = presidio.RecognizerRegistry([recognizer], supported_languages=[_language(asked)])
    analyzer: AnalyzerEngine = presidio.AnalyzerEngine(registry, engine, supported_languages=[_language(asked)])
    return analyzer


def _language(asked: Presidio) -> str:
    return asked.model.partition("_")[0]


def _installed(asked: Presidio) -> Path:
    """The directory of the model's data."""
    spec = find_spec(asked.model)
    places = [Path(place) for place in (spec.submodule_search_locations or ())] if spec else []
    name = f"{asked.model}-{asked.version}"
    for place in places:
        if (place / name).is_dir():
            return place / name
    others = [
        found.name.removeprefix(f"{asked.model}-") for place in places for found in place.glob(f"{asked.model}-*")
    ]
    raise MissingModel(
        f"the spaCy model {asked.model} {asked.version} is not installed (versions found: "
        f"{', '.join(sorted(others)) or 'none'}). spaCy's own: pip install {WHEELS}/{name}/{name}-py3-none-any.whl"
    )


def _chunks(text: str) -> Iterator[tuple[int, str]]:
    """The text in parts that end at the end of a line, or else of a word, where there is one."""
    start = 0
    while start < len(text):
        end = start + CHUNK_CHARACTERS
        if end < len(text):
            end = next((cut + 1 for mark in "\n " if (cut := text.rfind(mark, start, end)) > start), end)
        yield start, text[start:end]
        start = end
