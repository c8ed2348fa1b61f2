"""Filtering: what each rule says, how the fate follows from the verdicts, and what the stage writes."""

import gzip
import json
from dataclasses import asdict, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from py3langid.langid import MODEL_FILE, LanguageIdentifier
from pydantic import ValidationError

from domainlm.tasks import language
from domainlm.tasks.annotate import annotate, annotations
from domainlm.tasks.document_shards import EmptyCorpus
from domainlm.tasks.documents import (
    DOCUMENT_SCHEMA,
    Document,
    Verdict,
    content_sha256,
    read_documents,
    read_verdicts,
    write_rows,
)
from domainlm.tasks.filter import FilterConfig, filter, opinions, select, verdicts
from domainlm.tasks.licenses import identify
from domainlm.tasks.manifest import Part, outside
from domainlm.tasks.profiles import PROFILES, Profile
from domainlm.tasks.rules import LengthRule
from domainlm.tasks.runtime import Runtime
from domainlm.tasks.store import Sealed, Store
from domainlm.tasks.words import WORDS

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


def annotated(documents: list[Document], config: FilterConfig = CONFIG) -> pa.Table:
    return annotations(
        pa.Table.from_pylist([asdict(one) for one in documents], DOCUMENT_SCHEMA), config.annotate_config()
    )


def said_of(text: str, config: FilterConfig) -> list[Verdict]:
    return verdicts(config, annotated([document(text)], config), 0)


def fates_of(documents: list[Document], config: FilterConfig) -> list[str]:
    return select(list(opinions(config, annotated(documents, config))), len(documents)).tolist()


def build(config: FilterConfig, documents: Part, runtime: Runtime, store: Store | None = None) -> Sealed:
    """Both stages."""
    store = store or Store(runtime.store)
    measured = annotate.build(store, config.annotate_config(), {"documents": documents}, runtime).part("annotated")
    return filter.build(store, config, {"documents": documents, "annotations": measured}, runtime)


def test_each_document_meets_the_fate_it_should() -> None:
    assert fates_of(DOCUMENTS, CONFIG) == FATES


@pytest.mark.parametrize(
    ("rule", "text", "value", "threshold"),
    [
        ({"rule": "c4"}, "no sentence here", "finished_sentences 0", "min_sentences 3"),
        ({"rule": "c4", "curly_brackets": False}, PROSE + " {x}.", "finished_curly_lines 1", "curly_brackets 0"),
        (
            {"rule": "fineweb"},
            "\n".join(f"an item {n}" for n in range(40)),
            "finished_lines 0",
            "min_finished_lines 0.1",
        ),
        ({"rule": "gopher_quality"}, "12 45678 the 90123 of 45678 - " * 5, "alphabetic 0.285714", "min_alphabetic 0.6"),
        ({"rule": "gopher_quality", "min_stop_words": 5}, "heart attack " * 30, "stop_words 0", "min_stop_words 5"),
        ({"rule": "gopher_quality"}, " \n", "tokens 0", "tokens 1"),
        ({"rule": "length", "max_words": 3}, "Four words, (not five).", "words 4", "max_words 3"),
    ],
)
def test_a_rule_names_what_it_found_and_the_setting_it_went_by(
    rule: dict[str, object], text: str, value: str, threshold: str
) -> None:
    said = said_of(text, FilterConfig.model_validate({"rules": [rule]}))
    objections = [(one.rule, one.value, one.threshold) for one in said if not one.keep]
    assert (rule["rule"], value, threshold) in objections


def test_the_published_rules_pass_a_trial_abstract() -> None:
    names = ("gopher_quality", "gopher_repetition", "c4", "fineweb")
    config = FilterConfig.model_validate({"rules": [{"rule": name} for name in names]})
    said = said_of(PROSE, config)
    assert all(verdict.keep for verdict in said)
    assert {verdict.rule for verdict in said} == set(names)


def test_every_rule_speaks_of_every_document() -> None:
    spoken = dict.fromkeys(one.rule for one in said_of("Too short.", CONFIG))
    assert list(spoken) == [settings.rule for settings in CONFIG.rules]


@pytest.mark.parametrize(("license", "keep"), [("CC-BY-4.0", True), ("CC-BY-NC-4.0", False), ("unknown", False)])
def test_of_a_licence_one_verdict_is_told(license: str, keep: bool) -> None:
    said = verdicts(CONFIG, annotated([document(license=license)]), 0)
    assert [verdict.keep for verdict in said if verdict.rule == "license"] == [keep]


def test_an_article_under_concern_is_kept_unless_the_rule_is_asked_for() -> None:
    concerned = [document(under_concern=True), document(number=1, concern_notice=True)]
    asked = FilterConfig.model_validate({"profile": "biomedical", "rules": [{"rule": "concern"}]})
    assert fates_of(concerned, FilterConfig(profile="biomedical")) == ["kept", "kept"]
    assert fates_of(concerned, asked) == ["concern", "kept"]


def test_the_first_objection_decides() -> None:
    short_and_foreign = [replace(DOCUMENTS[4], text="Corto."), document("Demasiado corto.", 2, "CC-BY-NC-4.0")]
    assert fates_of(short_and_foreign, CONFIG) == ["length", "license"]


def test_another_threshold_asks_for_no_other_annotation() -> None:
    loose = [
        *({"rule": "license"}, {"rule": "retracted"}, {"rule": "length", "min_words": 1}),
        *({"rule": "language", "min_score": 0.1, "languages": ["en", "fr"]}, {"rule": "boilerplate", "max_share": 0.9}),
        *({"rule": "gopher_quality", "min_alphabetic": 0.2}, {"rule": "gopher_repetition", "max_line_chars": 0.9}),
    ]
    other = FilterConfig.model_validate({"rules": loose, "pii": ["email"], "licenses": {"unknown": "drop"}})
    assert other.annotate_config() == CONFIG.annotate_config()


def test_another_threshold_reuses_the_annotations_and_selects_anew(
    store: Store, runtime: Runtime, tmp_path: Path
) -> None:
    documents = shards(tmp_path / "in", DOCUMENTS, 2)
    before = build(CONFIG, documents, runtime, store)
    loose = CONFIG.model_copy(update={"rules": (CONFIG.rules[0], LengthRule(min_words=1), *CONFIG.rules[3:])})
    after = build(loose, documents, runtime, store)
    assert len(store.sealed("annotate")) == 1
    assert (before.manifest.fates["length"], after.manifest.fates.get("length", 0)) == (1, 0)


@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_a_profile_is_chosen_in_one_line_and_changed_by_the_name_of_a_rule(profile: Profile) -> None:
    chosen = FilterConfig.model_validate({"profile": profile})
    assert chosen.rules == PROFILES[profile]
    given = [{"rule": "length", "min_words": 7}, {"rule": "fineweb", "max_line_breaks": 0.5}]
    changed = FilterConfig.model_validate({"profile": profile, "rules": given})
    rules = {settings.rule: settings for settings in changed.rules}
    before = {settings.rule: settings for settings in chosen.rules}
    assert rules["length"] == before["length"].model_copy(update={"min_words": 7})
    assert rules["fineweb"].model_dump()["max_line_breaks"] == 0.5
    assert list(rules)[: len(before)] == list(before)
    assert FilterConfig.model_validate(changed.model_dump(mode="json")) == changed


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ([{"rule": "length"}, {"rule": "length"}], "'length' stands 2 times"),
        ([{"min_words": 3}], "rule"),
        ("length", "rules"),
        ([{"rule": "length", "min_word": 3}], "min_word"),
    ],
)
def test_a_mistake_in_a_change_to_a_profile_is_named(rules: object, message: str) -> None:
    with pytest.raises(ValidationError, match=f"(?s){message}"):
        FilterConfig.model_validate({"profile": "web", "rules": rules})


def test_any_filter_of_datatrove_can_be_a_rule_by_its_name() -> None:
    rules = [
        {"rule": "datatrove", "filter": "RegexFilter", "parameters": {"regex_exp": "(?i)randomised"}},
        {"rule": "datatrove", "filter": "GopherQualityFilter", "parameters": {"min_doc_words": 3, "min_stop_words": 3}},
    ]
    config = FilterConfig.model_validate({"rules": rules})
    texts = [PROSE, "heart attack " * 30, "", "The heart of the matter is that it beats and goes on to do so."]
    assert fates_of([document(text, n) for n, text in enumerate(texts)], config) == [
        "datatrove.RegexFilter",
        "datatrove.GopherQualityFilter",
        "datatrove.RegexFilter",
        "kept",
    ]
    reasons = [one.value for one in said_of(texts[1], config)]
    assert reasons == ["kept", "gopher_enough_stop_words"]
    assert FilterConfig.model_validate(config.model_dump(mode="json")) == config


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"filter": "LanguageFilter"}, "fetches its model; the rule `language`"),
        ({"filter": "SamplerFilter", "parameters": {"rate": 0.1}}, "draws lots in the order"),
        ({"filter": "GopherFilter"}, "no filter 'GopherFilter' that can be a rule. Allowed: .*GopherQualityFilter"),
        ({"filter": "RegexFilter", "parameters": {"regex": "x"}}, "no parameter regex; it takes regex_exp"),
        ({"filter": "RegexFilter", "parameters": {"regex_exp": "("}}, r"does not take .*unterminated subpattern"),
        ({"filter": "RegexFilter"}, "does not take .*missing 1 required"),
    ],
)
def test_a_filter_of_datatrove_that_cannot_be_a_rule_is_refused(rule: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=f"(?s){message}"):
        FilterConfig.model_validate({"rules": [{"rule": "datatrove", **rule}]})


def test_languages_are_those_of_py3langid() -> None:
    texts = [
        PROSE,
        SPANISH,
        COOKIES,
        "",
        "12",
        "ALLES IST GUT UND SCHÖN",
        "Как дела?",
        "Dobar dan, kako ste?",
        PROSE * 9,
    ]
    theirs = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    names, scores = language.identify(pa.array(texts), ())
    expected = [theirs.classify(text) for text in texts[:-1]]
    assert names.to_pylist() == [name for name, _ in expected] + ["en"]
    assert scores.to_pylist()[:-1] == pytest.approx([score for _, score in expected], abs=1e-4)


def test_the_stage_writes_every_document_to_its_fate(store: Store, runtime: Runtime, tmp_path: Path) -> None:
    sealed = build(CONFIG, shards(tmp_path / "in", DOCUMENTS, 3), runtime, store)
    fates = {"kept": 2, **{name: 1 for name in FATES if name != "kept"}}
    assert sealed.manifest.fates == fates
    kept = [d for path in sealed.part("kept").paths() for d in read_documents(path)]
    assert kept == [DOCUMENTS[0], DOCUMENTS[8]]
    assert [path.name for path in sealed.part("quarantined").paths()] == ["00000.parquet"]
    objections = [v for path in sealed.part("verdicts").paths() for v in read_verdicts(path)]
    assert not any(verdict.keep for verdict in objections)
    first = {verdict.doc_id: verdict.rule for verdict in reversed(objections)}
    assert first == {f"s/{n}": name.replace("quarantined", "license") for n, name in enumerate(FATES) if name != "kept"}
    assert sealed.manifest.counts["no.length"] == 1


def test_the_bytes_do_not_depend_on_the_workers(tmp_path: Path, runtime: Runtime) -> None:
    documents = shards(tmp_path / "in", DOCUMENTS, 3)
    config = CONFIG.model_copy(update={"pii": ("email",)})
    one = build(config, documents, runtime, Store(tmp_path / "one"))
    two = build(config, documents, runtime.model_copy(update={"workers": 2}), Store(tmp_path / "two"))
    assert one.manifest.digest == two.manifest.digest
    assert one.manifest.counts == two.manifest.counts


def test_identifiers_are_replaced_and_logged_only_where_asked(store: Store, runtime: Runtime, tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"pii": ("email", "phone")})
    sealed = build(config, shards(tmp_path / "in", DOCUMENTS, 1), runtime, store)
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
    measured = annotate.build(store, CONFIG.annotate_config(), {"documents": documents}, runtime).part("annotated")
    inputs = {"documents": documents, "annotations": measured}
    last = documents.paths()[2]
    last.rename(tmp_path / "away")
    with pytest.raises(FileNotFoundError):
        filter.build(store, CONFIG, inputs, runtime)
    (written,) = store.root.glob("filter*.partial/verdicts/00000.parquet")
    written_at = written.stat().st_mtime_ns
    (tmp_path / "away").rename(last)
    sealed = filter.build(store, CONFIG, inputs, runtime)
    assert (sealed.path / "verdicts" / "00000.parquet").stat().st_mtime_ns == written_at
    assert sealed.manifest.digest == build(CONFIG, documents, runtime, Store(tmp_path / "b")).manifest.digest
    assert not list(sealed.path.glob(".ranks"))


def test_an_empty_result_names_the_rules_that_dropped_and_what_to_loosen(
    store: Store, runtime: Runtime, tmp_path: Path
) -> None:
    documents = [replace(DOCUMENTS[3], doc_id="s/0"), replace(DOCUMENTS[3], doc_id="s/1"), DOCUMENTS[4]]
    with pytest.raises(EmptyCorpus, match=r"none of the 3 documents.*language 2, length 1.*`languages`"):
        build(CONFIG, shards(tmp_path / "in", documents, 1), runtime, store)


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


def test_a_language_that_the_model_does_not_know_is_refused(store: Store, runtime: Runtime, tmp_path: Path) -> None:
    for among in ([], ["de"]):
        config = FilterConfig.model_validate(
            {"rules": [{"rule": "language", "languages": ["en", "qq"], "among": among}]}
        )
        with pytest.raises(ValueError, match=r"does not know qq; it knows .*'en'"):
            build(config, shards(tmp_path / "in", DOCUMENTS, 1), runtime, store)


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


def test_sentences_end_at_stops_and_not_inside_numbers() -> None:
    text = "It fell by 0.5 mg. Was it safe? (Yes.) No one died!\nNext line"
    assert WORDS.sent_tokenize(text) == ["It fell by 0.5 mg.", "Was it safe?", "(Yes.)", "No one died!", "Next line"]


@pytest.mark.real
def test_the_default_rules_keep_real_trials_and_hold_back_their_licences(realdata: Path) -> None:
    """Of 100 real trials the quality rules drop none; the published Gopher thresholds would drop 20 or so."""
    with gzip.open(realdata / "biomed" / "pmc_rct-00.jsonl.gz", "rt") as lines:
        rows = [json.loads(line) for _, line in zip(range(100), lines, strict=False)]
    documents = [
        document(row["text"], n, identify(row["license"], row["license_url"]).expression) for n, row in enumerate(rows)
    ]
    assert fates_of(documents, CONFIG) == ["kept"] * 100
    published = FilterConfig.model_validate({"rules": [{"rule": "gopher_quality", "min_alphabetic": 0.8}]})
    assert 10 <= fates_of(documents, published).count("gopher_quality") <= 40
