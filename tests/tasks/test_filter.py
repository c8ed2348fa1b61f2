"""Filtering: what each rule says, how the fate follows from the verdicts, and what the stage writes."""

import gzip
import json
import os
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from domainlm.tasks.document_shards import EmptyCorpus
from domainlm.tasks.documents import Document, Verdict, content_sha256, read_documents, read_verdicts, write_rows
from domainlm.tasks.filter import FilterConfig, annotate, fate, filter, judges, select
from domainlm.tasks.licenses import identify
from domainlm.tasks.manifest import Part, outside
from domainlm.tasks.runtime import Runtime
from domainlm.tasks.store import Store
from domainlm.tasks.words import WORDS, count_words

PROSE = (
    "Background: velotrine lowers blood pressure in adults with stage 2 hypertension (systolic 160 mmHg or more).\n"
    "Methods: we randomised 412 patients to velotrine 5 mg (n = 206) or placebo (n = 206) for 12 weeks, and measured "
    "the change of the systolic pressure at rest with a validated device.\n"
    "Results: the mean change was -11.4 mmHg (95% CI -13.0 to -9.8; p < 0.001) against -2.1 mmHg with placebo. "
    "A dry cough was reported by 14 patients that took velotrine and by 3 of those with placebo.\n"
    "Conclusion: velotrine lowered the pressure, and the benefit has to be weighed against the cough."
)
SPANISH = (
    "Antecedentes: la velotrina reduce la presión arterial en los adultos con hipertensión. Se distribuyeron al azar "
    "los pacientes entre velotrina y placebo durante doce semanas, y se midió el cambio de la presión sistólica en "
    "reposo con un dispositivo validado. La tos seca fue más frecuente entre los que tomaron el fármaco."
)
COOKIES = "We value your privacy. Accept cookies to go on.\nRead our privacy policy and the terms of use.\n" * 2
CONFIG = FilterConfig()


def document(text: str = PROSE, number: int = 0, license: str = "CC-BY-4.0", **metadata: object) -> Document:
    return Document(
        doc_id=f"s/{number}",
        text=text,
        source="s",
        license=license,
        license_evidence="test",
        uri=f"s.jsonl#{number}",
        retrieved_at=None,
        content_sha256=content_sha256(text),
        parent_id=None,
        native_metadata=json.dumps(metadata),
    )


DOCUMENTS = [
    document(),
    document(license="CC-BY-NC-4.0"),
    document(license="unknown"),
    document(SPANISH),
    document("Too short."),
    document(retracted=True),
    document(COOKIES),
    document("velotrine lowers the pressure of the blood and " * 40),
    document("Questions? Write to trials@velotrine.example or call (301) 496-5248.\n" + PROSE),
]
DOCUMENTS = [replace(one, doc_id=f"s/{number}") for number, one in enumerate(DOCUMENTS)]
FATES = [
    "kept",
    "license",
    "quarantined",
    "language",
    "length",
    "retracted",
    "boilerplate",
    "gopher_repetition",
    "kept",
]


def shards(root: Path, documents: list[Document], files: int) -> Part:
    paths = [root / "kept" / f"{number:05d}.parquet" for number in range(files)]
    size = -(-len(documents) // files)
    for number, path in enumerate(paths):
        write_rows(path, Document, documents[number * size : (number + 1) * size])
    return outside(root, paths, origin="acquire-s/kept")


@pytest.mark.parametrize(("number", "expected"), list(enumerate(FATES)))
def test_each_document_meets_the_fate_it_should(number: int, expected: str) -> None:
    assert fate(list(annotate([DOCUMENTS[number]], judges(CONFIG)))) == expected


@pytest.mark.parametrize(
    ("rule", "text", "value"),
    [
        ({"rule": "c4"}, "no sentence here", "too_few_sentences"),
        ({"rule": "c4", "curly_brackets": False}, PROSE + " {x}.", "curly_bracket"),
        ({"rule": "fineweb"}, "\n".join(f"item {n}" for n in range(40)), "line_punct_ratio"),
        ({"rule": "gopher_quality"}, "1234 5678 the 90123 of 45678 - " * 5, "gopher_below_alpha_threshold"),
        ({"rule": "gopher_quality", "min_stop_words": 5}, "heart attack " * 30, "gopher_enough_stop_words"),
        ({"rule": "gopher_quality"}, "...", "no words"),
    ],
)
def test_a_published_rule_names_the_reason(rule: dict[str, object], text: str, value: str) -> None:
    config = FilterConfig.model_validate({"rules": [rule]})
    (verdict,) = annotate([document(text)], judges(config))
    assert (verdict.rule, verdict.value, verdict.keep) == (rule["rule"], value, False)


def test_the_published_rules_pass_a_trial_abstract() -> None:
    names = ("gopher_quality", "gopher_repetition", "c4", "fineweb")
    config = FilterConfig.model_validate({"rules": [{"rule": name} for name in names]})
    assert [verdict.value for verdict in annotate([document()], judges(config))] == ["passed"] * 4


def test_a_published_rule_names_the_setting_it_went_by() -> None:
    config = FilterConfig.model_validate({"rules": [{"rule": "gopher_quality", "min_alphabetic": 0.9}]})
    (verdict,) = annotate([document()], judges(config))
    assert (verdict.value, verdict.threshold) == ("gopher_below_alpha_threshold", "min_alphabetic 0.9")


def test_every_rule_speaks_of_every_document() -> None:
    spoken = [verdict.rule for verdict in annotate([document("Too short.", license="unknown")], judges(CONFIG))]
    assert spoken == [settings.rule for settings in CONFIG.rules]


def test_the_first_objection_decides() -> None:
    said = [Verdict("d", "a", "", "", True), Verdict("d", "b", "", "", False), Verdict("d", "c", "", "", False)]
    assert list(select(said + said[:1] * 3, 3)) == ["b", "kept"]


def test_the_stage_writes_every_document_to_its_fate(store: Store, runtime: Runtime, tmp_path: Path) -> None:
    sealed = filter.build(store, CONFIG, {"documents": shards(tmp_path / "in", DOCUMENTS, 3)}, runtime)
    fates = {"kept": 2, **{name: 1 for name in FATES if name != "kept"}}
    assert sealed.manifest.fates == fates
    kept = [d for path in sealed.part("kept").paths() for d in read_documents(path)]
    assert kept == [DOCUMENTS[0], DOCUMENTS[8]]
    assert [path.name for path in sealed.part("quarantined").paths()] == ["00000.parquet"]
    verdicts = [v for path in sealed.part("verdicts").paths() for v in read_verdicts(path)]
    assert len(verdicts) == len(DOCUMENTS) * len(CONFIG.rules)
    assert sealed.manifest.counts["no.length"] == 1


def test_the_bytes_do_not_depend_on_the_workers(tmp_path: Path, runtime: Runtime) -> None:
    inputs = {"documents": shards(tmp_path / "in", DOCUMENTS, 3)}
    config = CONFIG.model_copy(update={"pii": ("email",)})
    one = filter.build(Store(tmp_path / "one"), config, inputs, runtime)
    two = filter.build(Store(tmp_path / "two"), config, inputs, runtime.model_copy(update={"workers": 2}))
    assert one.manifest.digest == two.manifest.digest
    assert one.manifest.counts == two.manifest.counts


def test_identifiers_are_replaced_and_logged_only_where_asked(store: Store, runtime: Runtime, tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"pii": ("email", "phone")})
    sealed = filter.build(store, config, {"documents": shards(tmp_path / "in", DOCUMENTS, 1)}, runtime)
    clean, redacted = (d for path in sealed.part("kept").paths() for d in read_documents(path))
    assert clean == DOCUMENTS[0]
    assert redacted.text.startswith("Questions? Write to <EMAIL> or call <PHONE>.\n")
    assert redacted.content_sha256 == content_sha256(redacted.text) != DOCUMENTS[8].content_sha256
    (log,) = sealed.part("pii").paths()
    text = DOCUMENTS[8].text
    rows = pq.read_table(log).to_pylist()
    assert [(row["doc_id"], row["kind"], text[row["start"] : row["end"]]) for row in rows] == [
        ("s/8", "email", "trials@velotrine.example"),
        ("s/8", "phone", "(301) 496-5248"),
    ]


def test_an_interrupted_filter_goes_on_where_it_stopped(store: Store, runtime: Runtime, tmp_path: Path) -> None:
    documents = shards(tmp_path / "in", DOCUMENTS, 3)
    last = documents.paths()[2]
    last.rename(tmp_path / "away")
    with pytest.raises(FileNotFoundError):
        filter.build(store, CONFIG, {"documents": documents}, runtime)
    (written,) = store.root.glob("*.partial/verdicts/00000.parquet")
    written_at = written.stat().st_mtime_ns
    (tmp_path / "away").rename(last)
    sealed = filter.build(store, CONFIG, {"documents": documents}, runtime)
    assert (sealed.path / "verdicts" / "00000.parquet").stat().st_mtime_ns == written_at
    assert (
        sealed.manifest.digest
        == filter.build(Store(tmp_path / "b"), CONFIG, {"documents": documents}, runtime).manifest.digest
    )
    assert not list(sealed.path.glob(".ranks"))


def test_an_empty_result_names_the_rules_that_dropped_and_what_to_loosen(
    store: Store, runtime: Runtime, tmp_path: Path
) -> None:
    documents = [replace(DOCUMENTS[3], doc_id="s/0"), replace(DOCUMENTS[3], doc_id="s/1"), DOCUMENTS[4]]
    with pytest.raises(EmptyCorpus, match=r"none of the 3 documents.*language 2, length 1.*`languages`"):
        filter.build(store, CONFIG, {"documents": shards(tmp_path / "in", documents, 1)}, runtime)


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ([{"rule": "lenght", "min_words": 3}], "lenght.*'license'"),
        ([{"rule": "length", "min_word": 3}], "min_word"),
        ([{"rule": "length"}, {"rule": "length"}], "'length' stands 2 times"),
        ([{"rule": "language", "languages": ["english"]}], "languages.*pattern"),
        ([{"rule": "language", "min_score": 2}], "less than or equal to 1"),
        ([], "at least 1"),
    ],
)
def test_a_mistake_in_the_rules_is_named(rules: list[dict[str, object]], message: str) -> None:
    with pytest.raises(ValidationError, match=f"(?s){message}"):
        FilterConfig.model_validate({"rules": rules})


def test_a_language_that_the_model_does_not_know_is_refused() -> None:
    config = FilterConfig.model_validate({"rules": [{"rule": "language", "languages": ["en", "qq"]}]})
    with pytest.raises(ValueError, match=r"does not know qq; it knows .*'en'"):
        list(annotate([document()], judges(config)))


def test_words_keep_hyphens_apostrophes_and_numbers_whole() -> None:
    text = "The patient's β-blocker (1,200.5 mg) wasn\u2019t given: p<0.05."
    words = [
        "The",
        "patient's",
        "β-blocker",
        "(",
        "1,200.5",
        "mg",
        ")",
        "wasn\u2019t",
        "given",
        ":",
        "p",
        "<",
        "0.05",
        ".",
    ]
    assert WORDS.word_tokenize(text) == words
    assert count_words(text) == 9


def test_sentences_end_at_stops_and_not_inside_numbers() -> None:
    text = "It fell by 0.5 mg. Was it safe? (Yes.) No one died!\nNext line"
    assert WORDS.sent_tokenize(text) == ["It fell by 0.5 mg.", "Was it safe?", "(Yes.)", "No one died!", "Next line"]


@pytest.mark.real
def test_the_default_rules_keep_real_trials_and_hold_back_their_licences() -> None:
    """Of 100 real trials the quality rules drop none; the published Gopher thresholds would drop 20 or so."""
    data = os.environ.get("REALDATA")
    assert data, "set REALDATA to the directory with the real text"
    with gzip.open(Path(data) / "biomed" / "pmc_rct-00.jsonl.gz", "rt") as lines:
        rows = [json.loads(line) for _, line in zip(range(100), lines, strict=False)]
    documents = [
        document(row["text"], n, identify(row["license"], row["license_url"]).expression) for n, row in enumerate(rows)
    ]
    assert list(select(annotate(documents, judges(CONFIG)), len(CONFIG.rules))) == ["kept"] * 100
    published = FilterConfig.model_validate({"rules": [{"rule": "gopher_quality", "min_alphabetic": 0.8}]})
    assert 10 <= sum(not verdict.keep for verdict in annotate(documents, judges(published))) <= 40
