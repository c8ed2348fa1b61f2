"""Benchmarks: what is read, and what is refused."""

import json
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from domainlm.eval.benchmarks import Benchmark, Question, file_digest, load_questions, prompt
from domainlm.eval.config import EvaluateConfig

MEDQA = {"id": "q1", "sent1": "Which {{drug}}?", "sent2": "", "ending0": "aspirin", "ending1": "statin", "label": 1}
PUBMEDQA = {"pmid": "7", "QUESTION": "Does it work?", "CONTEXTS": ["We tried.", "It did."], "final_decision": "no"}


def write(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def medqa(path: Path, **fields: object) -> Benchmark:
    return Benchmark(**{"name": "medqa", "form": "medqa", "path": str(path), **fields})  # type: ignore[arg-type]


def test_medqa_line_becomes_a_question(tmp_path: Path) -> None:
    path = write(tmp_path / "q.jsonl", MEDQA)
    assert load_questions(medqa(path)) == [Question("q1", "Which {{drug}}?", "", ("aspirin", "statin"), 1)]


def test_pubmedqa_line_becomes_a_question_with_its_pmid(tmp_path: Path) -> None:
    path = write(tmp_path / "q.jsonl", PUBMEDQA)
    question = load_questions(Benchmark("p", "pubmedqa", str(path)))[0]
    assert question == Question("7", "Does it work?", "We tried.\nIt did.", ("yes", "no", "maybe"), 1, pmid="7")


def test_cloze_asks_for_the_text_and_letters_for_the_letter(tmp_path: Path) -> None:
    path = write(tmp_path / "q.jsonl", MEDQA)
    question = load_questions(medqa(path))[0]
    cloze, letters = prompt(medqa(path), question), prompt(medqa(path, style="letters"), question)
    assert (cloze.text, cloze.continuations) == ("Question: Which {{drug}}?\nAnswer:", ("aspirin", "statin"))
    assert letters.text == "Question: Which {{drug}}?\nA. aspirin\nB. statin\nAnswer:"
    assert letters.continuations == ("A", "B")


def test_a_changed_file_is_refused_with_both_digests(tmp_path: Path) -> None:
    path = write(tmp_path / "q.jsonl", MEDQA)
    pinned = file_digest(medqa(path))
    assert len(load_questions(medqa(path, sha256=pinned))) == 1
    write(path, {**MEDQA, "label": 0})
    with pytest.raises(ValueError, match=rf"medqa: found sha256 {file_digest(medqa(path))}.*the recipe pins {pinned}"):
        load_questions(medqa(path, sha256=pinned))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{not json", "not JSON"),
        ("[1]", "found a JSON list, need an object"),
        (json.dumps({**MEDQA, "label": 4}), "`label` is 4, need a whole number from 0 to 1"),
        (json.dumps({**MEDQA, "label": "1"}), "`label` is '1'"),
        (json.dumps({**MEDQA, "label": True}), "`label` is True"),
        (json.dumps({**MEDQA, "sent1": " "}), "`sent1` is ' ', need text"),
        (json.dumps({**MEDQA, "ending1": None}), "`ending1` is None"),
        (json.dumps({**MEDQA, "ending3": "x"}), "without a gap"),
        (json.dumps(PUBMEDQA), "found the options none"),
    ],
)
def test_a_malformed_line_is_named_with_file_and_line(tmp_path: Path, line: str, message: str) -> None:
    path = write(tmp_path / "q.jsonl", MEDQA)
    path.write_text(path.read_text() + "\n" + line + "\n")
    with pytest.raises(ValueError, match=message) as error:
        load_questions(medqa(path))
    assert str(error.value).startswith(f"{path}:3: ")


def test_a_decision_that_is_no_option_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "q.jsonl", {**PUBMEDQA, "final_decision": "perhaps"})
    with pytest.raises(ValueError, match="`final_decision` is 'perhaps', need one of yes, no, maybe"):
        load_questions(Benchmark("p", "pubmedqa", str(path)))


def test_duplicate_ids_and_empty_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"q\.jsonl:2: question id 'q1' stands twice"):
        load_questions(medqa(write(tmp_path / "q.jsonl", MEDQA, MEDQA)))
    with pytest.raises(ValueError, match="holds no question"):
        load_questions(medqa(write(tmp_path / "q.jsonl")))
    with pytest.raises(FileNotFoundError, match=r"benchmark medqa: no file at .*none\.jsonl"):
        load_questions(medqa(tmp_path / "none.jsonl"))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_fewshot": 3}, "num_fewshot is 3, only 0 works"),
        ({"name": "../x"}, "use lower-case letters"),
        ({"limit": 0}, "limit is 0"),
        ({"form": "pubmedqa", "style": "letters"}, "form pubmedqa cannot be asked with style 'letters'"),
        ({"form": "mmlu"}, "no form 'mmlu', there are medqa, pubmedqa"),
    ],
)
def test_a_benchmark_that_cannot_be_asked_is_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        medqa(Path("q.jsonl"), **fields)


def test_the_protocol_changes_with_all_that_changes_a_score_and_with_nothing_else() -> None:
    base = medqa(Path("q.jsonl"))
    same = [medqa(Path("elsewhere.jsonl")), medqa(Path("q.jsonl"), name="other", sha256="0")]
    other = [medqa(Path("q.jsonl"), **change) for change in ({"style": "letters"}, {"limit": 5}, {"bos": False})]
    assert {benchmark.protocol("d") for benchmark in (base, *same)} == {base.protocol("d")}
    assert len({benchmark.protocol("d") for benchmark in (base, *other)} | {base.protocol("e")}) == 5


def test_pydantic_describes_every_field_and_refuses_unknown_ones() -> None:
    schema = TypeAdapter(EvaluateConfig).json_schema()
    for properties in (schema["properties"], schema["$defs"]["Benchmark"]["properties"]):
        assert [name for name, field in properties.items() if len(field.get("description", "")) < 20] == []
    with pytest.raises(ValueError, match="stile"):
        TypeAdapter(EvaluateConfig).validate_python({"benchmarks": [{"name": "a", "stile": "cloze"}]})


def test_benchmarks_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="named twice: medqa"):
        EvaluateConfig(benchmarks=(medqa(Path("a")), medqa(Path("b"))))


@pytest.mark.real
def test_the_real_files_hold_the_official_questions(realdata: Path) -> None:
    medqa_questions = load_questions(medqa(realdata / "benchmarks/medqa/test.jsonl"))
    pubmedqa = load_questions(Benchmark("p", "pubmedqa", str(realdata / "benchmarks/pubmedqa/test.jsonl")))
    assert (len(medqa_questions), {len(q.options) for q in medqa_questions}) == (1273, {4})
    assert (len(pubmedqa), sum(q.answer == 0 for q in pubmedqa)) == (500, 276)
    assert all(question.pmid for question in pubmedqa)
