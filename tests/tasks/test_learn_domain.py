"""The domain classifier: learned from seed documents, measured on held-out ones, asked by a rule."""

import gzip
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from domainlm.tasks import domain
from domainlm.tasks.annotate import annotate
from domainlm.tasks.documents import Document, content_sha256, read_documents, write_rows
from domainlm.tasks.filter import FilterConfig, filter
from domainlm.tasks.learn_domain import LearnDomainConfig, choose, learn_domain, parts_of
from domainlm.tasks.manifest import Part, outside
from domainlm.tasks.runtime import Runtime
from domainlm.tasks.store import Store

DRUGS = ("velotrine", "amcoril", "sebutan", "dorvaxin", "ilemarol")
PLACES = ("the harbour", "a mountain", "the old town", "some island", "a river")
CONFIG = LearnDomainConfig(seeds=("drugs",), others=("travel",))


def texts_of(name: str, number: int) -> list[str]:
    if name == "drugs":
        return [f"{DRUGS[n % 5]} at {n} mg was given to {n + 3} patients for {n % 9} weeks." for n in range(number)]
    return [f"We walked to {PLACES[n % 5]} on day {n} and stayed for {n % 9} nights." for n in range(number)]


def corpus(root: Path, name: str, texts: list[str]) -> Part:
    path = root / name / "kept" / "00000.parquet"
    rows = (
        Document(f"{name}/{n}", text, name, "CC0-1.0", "test", "test", None, content_sha256(text), None, "{}")
        for n, text in enumerate(texts)
    )
    write_rows(path, Document, rows)
    return outside(path.parent.parent, [path], origin=f"acquire-{name}/kept")


@pytest.fixture
def documents(tmp_path: Path) -> dict[str, Part]:
    return {name: corpus(tmp_path, name, texts_of(name, 60)) for name in ("drugs", "travel")}


def test_the_domain_is_told_from_other_text_on_held_out_documents(
    documents: dict[str, Part], store: Store, runtime: Runtime
) -> None:
    sealed = learn_domain.build(store, CONFIG, dict(parts_of(CONFIG, documents)), runtime)
    assert sealed.manifest.counts["f1"] >= 0.95
    assert sealed.manifest.counts["held_out_documents"] == 24
    weights = domain.load_weights(sealed.path / "model")
    new = pa.array(["Dorvaxin was given to patients.", "We stayed on a mountain for nights.", ""])
    drug, travel, nothing = domain.scores(new, weights).to_pylist()
    assert drug > 0.5 > travel
    assert nothing == pytest.approx(0.5, abs=0.3)


def test_learning_again_gives_the_same_bytes(documents: dict[str, Part], runtime: Runtime, tmp_path: Path) -> None:
    inputs = dict(parts_of(CONFIG, documents))
    one, two = (learn_domain.build(Store(tmp_path / name), CONFIG, inputs, runtime) for name in ("one", "two"))
    assert one.manifest.digest == two.manifest.digest


def test_a_text_twice_is_learned_from_once_and_the_choice_is_by_content(tmp_path: Path) -> None:
    texts = texts_of("drugs", 20)
    once, twice = (corpus(tmp_path, name, many) for name, many in (("a", texts), ("b", [*texts[::-1], *texts])))
    assert choose(once, 7) == choose(twice, 7)
    assert len(choose(twice, 100)) == 20


def test_the_rule_keeps_what_is_of_the_domain(
    documents: dict[str, Part], store: Store, runtime: Runtime, tmp_path: Path
) -> None:
    rule = {"rule": "domain", "classifier": {"seeds": ["drugs"], "others": ["travel"]}}
    config = FilterConfig.model_validate({"rules": [rule]})
    asked = config.domain_config()
    assert asked == CONFIG
    model = learn_domain.build(store, asked, dict(parts_of(asked, documents)), runtime).part("model")
    mixed = corpus(tmp_path, "mixed", [*texts_of("drugs", 70)[60:], *texts_of("travel", 70)[60:]])
    annotated = annotate.build(store, config.annotate_config(), {"documents": mixed, "domain": model}, runtime)
    inputs = {"documents": mixed, "annotations": annotated.part("annotated")}
    sealed = filter.build(store, config, inputs, runtime)
    kept = [one.doc_id for path in sealed.part("kept").paths() for one in read_documents(path)]
    assert kept == [f"mixed/{n}" for n in range(10)]


def test_too_few_documents_to_learn_from_are_refused(store: Store, runtime: Runtime, tmp_path: Path) -> None:
    few = {"drugs": corpus(tmp_path, "drugs", texts_of("drugs", 60)), "travel": corpus(tmp_path, "travel", ["Hello."])}
    with pytest.raises(ValueError, match=r"have 60 documents and the others 1; each needs 10"):
        learn_domain.build(store, CONFIG, dict(parts_of(CONFIG, few)), runtime)


@pytest.mark.real
def test_biomedical_text_is_told_from_general_text(realdata: Path) -> None:
    texts, labels = [], []
    for file, label in (("biomed/pmc_rct-00", True), ("biomed/medquad", True), ("general/wikitext2_valid_test", False)):
        with gzip.open(realdata / f"{file}.jsonl.gz", "rt") as lines:
            found = [json.loads(line)["text"] for _, line in zip(range(120), lines, strict=False)]
        texts, labels = [*texts, *found], [*labels, *[label] * len(found)]
    held_out = np.arange(len(texts)) % 5 == 0
    features, ends = domain.featurize([text for text, out in zip(texts, held_out, strict=True) if not out])
    weights = domain.learn(features, ends, np.array(labels)[~held_out], epochs=5)
    tests = pa.array([text for text, out in zip(texts, held_out, strict=True) if out])
    said = domain.scores(tests, weights).to_numpy() >= 0.5
    assert (said == np.array(labels)[held_out]).mean() >= 0.97
