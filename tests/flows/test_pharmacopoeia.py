"""The shipped corpus: deterministic, true to its truth file, and fair to those who are asked about it."""

import gzip
import json
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from random import Random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from domainlm.eval.benchmarks import Benchmark, load_questions
from domainlm.flows.pharmacopoeia.benchmarks import OptionQuestion, option_questions, trial_questions
from domainlm.flows.pharmacopoeia.clean import clean_specimens
from domainlm.flows.pharmacopoeia.files import all_specimens, write_pharmacopoeia
from domainlm.flows.pharmacopoeia.leaks import OPTION_LEAKS
from domainlm.flows.pharmacopoeia.specimen import Specimen
from domainlm.flows.pharmacopoeia.world import (
    ATTRIBUTES,
    CLASS_STEMS,
    MIDDLES,
    NUM_VALUES,
    ONSETS,
    TARGETS,
    World,
    build_world,
)
from domainlm.tasks.annotate import annotations
from domainlm.tasks.comparison import compare_texts, contents
from domainlm.tasks.documents import DOCUMENT_SCHEMA, DeadLetter, Document
from domainlm.tasks.filter import FilterConfig, opinions, select
from domainlm.tasks.index_questions import index_questions
from domainlm.tasks.pii import PATTERNS, find_pii
from domainlm.tasks.quality_rules import GopherQualityRule, GopherRepetitionRule
from domainlm.tasks.quantities import quantities_digest
from domainlm.tasks.question_index import normal_words
from domainlm.tasks.readers import FORMATS, Deletion, Piece, Record, Settings

SCALE = 0.1
CHANCE = 0.25
KINDS = {  # of `truth.jsonl`, and the one fate that each should meet
    "clean": "kept",
    "exact_copy": "duplicate",
    "reprint": "near_duplicate",
    "dose_variant": "kept",
    "pii": "kept",
    "language": "language",
    "too_short": "too_short",
    "repetition": "repetition",
    "boilerplate": "boilerplate",
    "license_nc": "license",
    "license_missing": "license",
    "leak_verbatim": "leak",
    "leak_edited": "leak",
    "leak_question_only": "leak",
    "leak_options_only": "leak",
    "leak_context": "leak",
    "leak_pmid": "leak",
    "deleted": "deleted",
    "invalid_utf8": "dead_letter",
    "truncated_json": "dead_letter",
    "wrong_type": "dead_letter",
    "empty_text": "dead_letter",
}
FOLDERS = {"abstracts": "jsonl", "leaflets": "parquet", "case_reports": "text", "pubmed": "pubmed_xml", "jats": "jats"}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("small") / "pharmacopoeia"
    write_pharmacopoeia(out, seed=0, scale=SCALE)
    return out


@pytest.fixture(scope="module")
def world() -> World:
    return build_world(0)


@pytest.fixture(scope="module")
def specimens(world: World) -> list[Specimen]:
    return [one for found in all_specimens(world, seed=0, scale=SCALE).values() for one in found]


@pytest.fixture(scope="module")
def clean(specimens: list[Specimen]) -> list[Specimen]:
    return [one for one in specimens if one.kind == "clean"]


@pytest.fixture(scope="module")
def shipped(world: World) -> list[Specimen]:
    """The clean text at its full size."""
    return [one for found in clean_specimens(world, seed=0, scale=1.0).values() for one in found]


@pytest.fixture(scope="module")
def questions(world: World) -> list[OptionQuestion]:
    return option_questions(world, seed=0)


def truth_of(corpus: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (corpus / "truth.jsonl").read_text().splitlines()]


def bytes_below(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def ngrams(text: str, length: int = 13) -> set[tuple[str, ...]]:
    words = normal_words(text)
    return {tuple(words[start : start + length]) for start in range(len(words) - length + 1)}


def test_the_same_seed_gives_the_same_bytes_and_another_seed_another_world(corpus: Path, tmp_path: Path) -> None:
    write_pharmacopoeia(tmp_path / "again", seed=0, scale=SCALE)
    write_pharmacopoeia(tmp_path / "other", seed=1, scale=SCALE)
    assert bytes_below(tmp_path / "again") == bytes_below(corpus)
    assert {drug.name for drug in build_world(0).drugs} != {drug.name for drug in build_world(1).drugs}
    assert (tmp_path / "other/benchmarks/medqa.jsonl").read_bytes() != (corpus / "benchmarks/medqa.jsonl").read_bytes()


def test_a_directory_that_is_not_empty_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep me")
    with pytest.raises(FileExistsError, match="not empty"):
        write_pharmacopoeia(tmp_path, seed=0, scale=SCALE)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_every_kind_of_noise_is_there_with_the_fate_it_should_meet(corpus: Path) -> None:
    fates = defaultdict(set)
    for line in truth_of(corpus):
        fates[line["kind"]].add(line["fate"])
    assert fates == {kind: {fate} for kind, fate in KINDS.items()}


def test_the_readers_find_each_document_and_dead_letter_where_the_truth_says(corpus: Path) -> None:
    expected: dict[str, Counter[str]] = defaultdict(Counter)
    dead: dict[str, set[object]] = defaultdict(set)
    for line in truth_of(corpus):
        if line["fate"] == "dead_letter":
            dead[str(line["file"])].add(line["line"])
        else:
            expected[str(line["file"])][str(line["id"])] += 1
    for name in expected:
        kind = FOLDERS.get(name.split("/")[0], "jsonl")
        items = list(FORMATS[kind].read(Piece(corpus / name, Path(name).name), Settings()))
        assert Counter(item.native_id for item in items if isinstance(item, Record)) == expected[name]
        dead_letters = [item for item in items if isinstance(item, DeadLetter)]
        found = [item.offset if kind == "parquet" else _line_at(corpus / name, item.offset) for item in dead_letters]
        assert set(found) == dead[name]
    deletions = [
        item
        for item in FORMATS["pubmed_xml"].read(Piece(corpus / "pubmed/1.xml.gz", "1"), Settings())
        if isinstance(item, Deletion)
    ]
    assert [one.native_id for one in deletions] == [
        line["id"] for line in truth_of(corpus) if line["kind"] == "deleted"
    ]


def _line_at(path: Path, offset: int) -> int:
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return content.count(b"\n", 0, offset) + 1


def test_copies_copy_and_reprints_change_one_line(specimens: list[Specimen]) -> None:
    by_id = {one.doc_id: one for one in specimens}
    for one in specimens:
        if one.kind not in ("exact_copy", "reprint"):
            continue
        original = by_id[one.group]
        assert (one.license, one.doc_id > original.doc_id) == (original.license, True)
        if one.kind == "exact_copy":
            assert one.text == original.text
        else:
            assert len(one.text) < len(original.text)
            assert one.text.partition("\n")[2] == original.text.partition("\n")[2]
            similarity, same_subject = compare_texts(one.text, original.text)
            assert (similarity > 0.8, same_subject) == (True, True)
            assert quantities_digest(one.text) == quantities_digest(original.text)


def test_dose_sheets_of_a_family_differ_in_numbers_alone(specimens: list[Specimen]) -> None:
    families = defaultdict(list)
    for one in specimens:
        if one.kind == "dose_variant":
            families[one.group].append(one.text)
    assert families
    for texts in families.values():
        assert len(set(texts)) == len(texts) == 6
        assert len({re.sub(r"\d+", "0", text) for text in texts}) == 1
        assert compare_texts(texts[0], texts[1])[0] > 0.8


def test_planted_identifiers_stand_in_the_text_and_have_a_pattern(specimens: list[Specimen]) -> None:
    planted = [one for one in specimens if one.kind == "pii"]
    assert planted
    for one in planted:
        found = {one.text[hit.start : hit.end] for hit in find_pii("", one.text, list(PATTERNS))}
        assert set(one.evidence) == found


def test_no_two_clean_documents_are_near_duplicates(clean: list[Specimen]) -> None:
    where: dict[int, list[int]] = defaultdict(list)
    shingles = contents(pa.array([one.text for one in clean])).shingles
    shared: Counter[tuple[int, int]] = Counter()
    for number in range(len(clean)):
        for shingle in shingles[number].tolist():
            shared.update((other, number) for other in where[shingle][-20:])
            where[shingle].append(number)
    closest = max(compare_texts(clean[a].text, clean[b].text)[0] for (a, b), _ in shared.most_common(500))
    assert closest < 0.7


def test_clean_documents_pass_the_quality_rules(clean: list[Specimen]) -> None:
    config = FilterConfig(rules=(GopherQualityRule(), GopherRepetitionRule()))
    documents = [
        asdict(Document(one.doc_id, one.text, one.source, "CC0-1.0", "", "", None, "", "", "{}")) for one in clean
    ]
    table = pa.Table.from_pylist(documents, DOCUMENT_SCHEMA)
    fates = select(list(opinions(config, annotations(table, config.annotate_config()))), len(clean))
    assert (fates != "kept").sum() <= 0.005 * len(clean)
    assert all(len(one.text.split()) >= 50 for one in clean)


def test_every_answer_is_stated_many_times_in_clean_text(
    world: World, shipped: list[Specimen], questions: list[OptionQuestion]
) -> None:
    lines = [line for one in shipped for line in re.split(r"\n(?!answer)", one.text.lower())]
    about = {drug.name: [line for line in lines if drug.name in line] for drug in world.drugs}
    stated = [
        sum(question.options[question.label].lower() in line for line in about[question.drug]) for question in questions
    ]
    assert len(questions) == 200
    assert min(stated) >= 40


def test_clean_text_knows_the_words_of_the_questions(
    world: World, shipped: list[Specimen], questions: list[OptionQuestion]
) -> None:
    """Else they would ask how a model takes new words: with 23 % of them new, MedQA scores went from 0.48 to 0.94."""
    known = Counter(word for one in shipped for word in normal_words(one.text))
    trials = trial_questions(world, seed=0)
    for asked in (
        [question.stem for question in questions],
        [f"{' '.join(trial.contexts)} {trial.question}" for trial in trials],
    ):
        words = [word for text in asked for word in normal_words(text)]
        assert sum(known[word] < 20 for word in words) / len(words) < 0.05


def test_clean_text_tells_no_story_of_a_question(shipped: list[Specimen], questions: list[OptionQuestion]) -> None:
    """The words are the same, the sentences are not: no 8 in a row are shared, of 35 on average."""
    told = set().union(*(ngrams(one.text, 8) for one in shipped))
    assert [question.stem for question in questions if ngrams(question.stem, 8) & told] == []


@pytest.mark.parametrize("seed", range(3))
def test_decontamination_finds_no_question_in_clean_text_of_any_seed(seed: int, tmp_path: Path) -> None:
    world = build_world(seed)
    asked = {"medqa": option_questions(world, seed=seed), "pubmedqa": trial_questions(world, seed=seed)}
    benchmarks = []
    for form, questions in asked.items():
        path = tmp_path / f"{form}.jsonl"
        path.write_text("".join(json.dumps(question.row()) + "\n" for question in questions))
        benchmark = Benchmark(name=form, form=form, path=str(path))
        benchmarks.append((benchmark, load_questions(benchmark)))
    index = index_questions(benchmarks, ngram_words=13, min_short_words=8)
    texts = [one.text for found in clean_specimens(world, seed=seed, scale=1.0).values() for one in found]
    found = index.find(texts, [None] * len(texts))
    assert [(texts[document], clue) for document, clue in found.tolist()] == []


def test_clean_text_shares_no_13_words_with_a_question_and_each_leak_does(
    specimens: list[Specimen], world: World, questions: list[OptionQuestion]
) -> None:
    trials = trial_questions(world, seed=0)
    asked = {question.id: ngrams(question.stem) for question in questions}
    asked |= {trial.pmid: ngrams("\n".join(trial.contexts)) | ngrams(trial.question) for trial in trials}
    every = set().union(*asked.values())
    options = {question.id: " ".join(normal_words(" ".join(question.options))) for question in questions}
    for one in specimens:
        if one.fate != "leak":
            assert not ngrams(one.text) & every, one.text
        elif one.kind == "leak_options_only":
            assert options[one.evidence[0]] in " ".join(normal_words(one.text))
        else:
            assert ngrams(one.text) & asked[one.evidence[0]]


def test_an_edited_leak_keeps_13_words_that_are_its_questions_own(questions: list[OptionQuestion]) -> None:
    """What three other questions share too betrays none of them, so the words around the drug have to be among them."""
    times_asked = Counter(ngram for question in questions for ngram in ngrams(question.stem))
    for question in questions:
        edited = OPTION_LEAKS["edited"](Random(0), question)
        assert question.stem not in edited
        assert min(times_asked[ngram] for ngram in ngrams(edited) & ngrams(question.stem)) <= 3


def test_no_option_is_a_better_guess_than_another(questions: list[OptionQuestion]) -> None:
    for attribute in ATTRIBUTES:
        about = [question for question in questions if question.attribute == attribute]
        right = Counter(question.options[question.label] for question in about)
        offered = Counter(option for question in about for option in question.options)
        assert set(right.values()) == {len(about) // NUM_VALUES}
        assert set(offered.values()) == {4 * len(about) // NUM_VALUES}
    assert set(Counter(question.label for question in questions).values()) == {len(questions) // 4}


def test_guessing_without_the_question_stays_near_chance(
    questions: list[OptionQuestion], clean: list[Specimen]
) -> None:
    text = "\n".join(one.text for one in clean).lower()
    counts = {option: text.count(option.lower()) for question in questions for option in question.options}

    def accuracy(score: dict[str, float]) -> float:
        guesses = [max(range(4), key=lambda i: (score[q.options[i]], i)) == q.label for q in questions]
        return sum(guesses) / len(guesses)

    baselines = {
        "longest": accuracy({option: len(option) for option in counts}),
        "shortest": accuracy({option: -len(option) for option in counts}),
        "commonest": accuracy({option: float(count) for option, count in counts.items()}),
        "rarest": accuracy({option: -float(count) for option, count in counts.items()}),
    }
    assert all(abs(found - CHANCE) < 0.09 for found in baselines.values()), baselines


def test_trial_questions_have_the_form_of_pubmedqa_and_balanced_answers(corpus: Path) -> None:
    rows = [json.loads(line) for line in (corpus / "benchmarks/pubmedqa.jsonl").read_text().splitlines()]
    assert Counter(row["final_decision"] for row in rows) == {"yes": 40, "no": 40, "maybe": 40}
    assert set(rows[0]) == {
        "pmid", "QUESTION", "CONTEXTS", "LABELS", "MESHES", "YEAR", "LONG_ANSWER", "reasoning_required_pred",
        "reasoning_free_pred", "final_decision",
    }  # fmt: skip
    assert len({row["pmid"] for row in rows}) == len(rows)


def test_licences_are_those_of_the_records(corpus: Path) -> None:
    packed = sorted((corpus / "abstracts").iterdir())
    lines = [line for path in packed for line in gzip.decompress(path.read_bytes()).split(b"\n")]
    named = Counter(
        re.search(rb'"license": ("[^"]*"|null)', line)[1].decode() for line in lines if b'"metadata"' in line
    )  # type: ignore[index]
    assert set(named) == {'"CC-BY"', '"CC0-1.0"', '"public-domain (article statement)"', '"CC BY-NC 4.0"', "null"}
    table = pq.read_table(corpus / "leaflets/0.parquet")
    assert table.column_names == ["id", "text", "source", "license", "license_url"]


@pytest.mark.real
def test_no_name_of_any_seed_is_a_word_of_real_medicine() -> None:
    names = {onset + middle + stem for onset in ONSETS for middle in MIDDLES for stem in CLASS_STEMS} | set(TARGETS)
    assert not names & set(real_words())


def real_words() -> Iterator[str]:
    if "REALDATA" not in os.environ:
        pytest.fail("REALDATA is not set. Set it to the directory of the real text.")
    for path in sorted(Path(os.environ["REALDATA"]).glob("biomed/*.jsonl.gz")):
        with gzip.open(path, "rt") as file:
            for line in file:
                yield from re.findall(r"[a-z]+", json.loads(line)["text"].lower())
