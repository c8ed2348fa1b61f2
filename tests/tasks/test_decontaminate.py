"""Decontamination: planted leaks are found whatever their form, real text is left alone, held-out text is stable."""

import gzip
import json
import os
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from domainlm.eval.benchmarks import Benchmark, Question, load_questions
from domainlm.tasks.decontaminate import DecontaminateConfig, decontaminate
from domainlm.tasks.document_shards import EmptyCorpus
from domainlm.tasks.documents import Document, content_sha256, read_documents, read_verdicts, write_rows
from domainlm.tasks.manifest import Part, outside
from domainlm.tasks.question_index import QuestionIndex, build_index, normal_words
from domainlm.tasks.runtime import Runtime
from domainlm.tasks.stage import identity
from domainlm.tasks.store import Sealed, Store

MEDQA = Benchmark("exam", "medqa", "exam.jsonl")
PUBMEDQA = Benchmark("abstracts", "pubmedqa", "abstracts.jsonl")
CONFIG = DecontaminateConfig(benchmarks=(MEDQA, PUBMEDQA), held_out_share=0)

CASE = (
    "A 54-year-old baker comes to the clinic with a swollen lip that began two hours after the first tablet of a new "
    "medicine for hypertension. He has no hives and no fever. Which enzyme does the medicine most likely inhibit?"
)
OPTIONS = ("Renal kinase of the second type", "Carbonic anhydrase", "Squalene epoxidase", "Xanthine oxidase")
SHORT = "What does amcoril block?"
SHORT_OPTIONS = ("sodium", "calcium", "potassium", "chloride")
ASKED = "Does velotrine lower the pressure of the blood in adults with kidney disease?"
ABSTRACT = (
    "We randomised 412 adults with chronic kidney disease to velotrine or placebo and followed them for a year.",
    "The systolic pressure fell by 11 mmHg with velotrine and by 2 mmHg with placebo, and fewer needed dialysis.",
)
PROSE = (
    "Ships of the line were built of oak, and a single hull took the wood of two thousand trees. Yards laid down "
    "number {n} seasoned their timber for years before a keel was set."
)


def write_benchmarks(root: Path) -> dict[str, Part]:
    root.mkdir(parents=True, exist_ok=True)
    exam = [
        {"id": "q1", "sent1": CASE, **{f"ending{n}": text for n, text in enumerate(OPTIONS)}, "label": 0},
        {"id": "q2", "sent1": SHORT, **{f"ending{n}": text for n, text in enumerate(SHORT_OPTIONS)}, "label": 1},
    ]
    (root / "exam.jsonl").write_text("".join(json.dumps(row) + "\n" for row in exam))
    abstract = {"pmid": "990001", "QUESTION": ASKED, "CONTEXTS": ABSTRACT, "final_decision": "yes"}
    (root / "abstracts.jsonl").write_text(json.dumps(abstract) + "\n")
    return {f"benchmark.{n}": outside(root, [root / f"{n}.jsonl"], origin=n) for n in ("exam", "abstracts")}


def corpus(root: Path, texts: Sequence[str], *, files: int = 1, pmids: Sequence[str | None] = ()) -> Part:
    size = -(-len(texts) // files)
    paths = [root / f"corpus-{files}" / "kept" / f"{number:05d}.parquet" for number in range(files)]
    for number, path in enumerate(paths):
        rows = range(number * size, min(len(texts), (number + 1) * size))
        write_rows(path, Document, [_document(row, texts[row], pmids[row] if pmids else None) for row in rows])
    return outside(paths[0].parent.parent, paths, origin="deduplicate/kept/s")


def _document(number: int, text: str, pmid: str | None = None, parent_id: str | None = None) -> Document:
    return Document(
        doc_id=f"s/{number:03d}",
        text=text,
        source="s",
        license="CC-BY-4.0",
        license_evidence="test",
        uri=f"s#{number}",
        retrieved_at=None,
        content_sha256=content_sha256(text),
        parent_id=parent_id,
        native_metadata=json.dumps({"pmid": pmid} if pmid else {}),
    )


@pytest.fixture
def run(store: Store, runtime: Runtime, tmp_path: Path) -> Callable[..., Sealed]:
    def run(texts: Sequence[str], config: DecontaminateConfig = CONFIG, **options: object) -> Sealed:
        part = corpus(tmp_path / "in", texts, **options)  # type: ignore[arg-type]
        benchmarks = write_benchmarks(tmp_path / "benchmarks") if config.benchmarks else {}
        return decontaminate.build(store, config, {"documents": part, **benchmarks}, runtime)

    return run


def verdicts(sealed: Sealed) -> list[tuple[str, str, str]]:
    every = [v for path in sealed.part("verdicts").paths() for v in read_verdicts(path)]
    return [(v.doc_id, v.rule, v.value) for v in every if not v.keep]


LEAKS = {
    "the question word for word": (f"Exam notes. {CASE} Discuss.", "exam", "q1 question"),
    "other case and punctuation": (CASE.upper().replace("-", " ").replace(".", " -- "), "exam", "q1 question"),
    "a few words edited": (CASE.replace("baker", "cook").replace("tablet", "pill"), "exam", "q1 question"),
    "all options in a row": (
        f"A) {OPTIONS[0]}\nB) {OPTIONS[1]}\nC) {OPTIONS[2]}\nD) {OPTIONS[3]}",
        "exam",
        "q1 options",
    ),
    "all options in another order": (
        f"{OPTIONS[2]}, {OPTIONS[3]}, {OPTIONS[1]} and {OPTIONS[0].lower()}",
        "exam",
        "q1 options",
    ),
    "full-width letters": ("".join(chr(ord(c) + 0xFEE0) if c.isalnum() else c for c in CASE), "exam", "q1 question"),
    "a short question behind its options": (
        f"{', '.join(SHORT_OPTIONS[::-1])}: {SHORT}",
        "exam",
        "q2 question+options",
    ),
    "a short question with its options": (f"{SHORT} {', '.join(SHORT_OPTIONS)}.", "exam", "q2 question+options"),
    "the abstract's question": (f"We asked: {ASKED}", "abstracts", "990001 question"),
    "a sentence of the abstract": (f"As they say, {ABSTRACT[1]}", "abstracts", "990001 context"),
}


@pytest.mark.parametrize("leak", LEAKS)
def test_a_planted_leak_is_found_and_named(run: Callable[..., Sealed], leak: str) -> None:
    text, benchmark, field = LEAKS[leak]
    sealed = run([PROSE.format(n=1), f"{PROSE.format(n=2)} {text} {PROSE.format(n=3)}"])
    found = verdicts(sealed)
    assert {(doc_id, rule) for doc_id, rule, _ in found} == {("s/001", f"decontaminate.{benchmark}")}
    assert field in [value.split(" (")[0] for _, _, value in found]
    assert sealed.manifest.fates == {"kept": 1, "held_out": 0, "contaminated": 1}


@pytest.mark.parametrize(
    "text",
    [
        "Velotrine inhibits renal kinase of the second type; xanthine oxidase is the target of other medicines.",
        "Does velotrine lower the risk of a stroke? Amcoril blocks calcium channels.",
        "sodium, calcium, potassium and chloride were measured every day; yes, no, maybe",
        "Squalene epoxidase makes sterols and xanthine oxidase makes uric acid; both are found in the liver, where "
        "carbonic anhydrase is rare, and none of them is a renal kinase of the second type.",
    ],
)
def test_the_knowledge_that_answers_a_question_is_no_leak(run: Callable[..., Sealed], text: str) -> None:
    assert verdicts(run([PROSE.format(n=1), text])) == []


def test_an_article_that_a_question_was_made_from_is_found_by_its_pmid(run: Callable[..., Sealed]) -> None:
    texts = [PROSE.format(n=n) for n in range(3)]
    sealed = run(texts, pmids=["1", "990001", None])
    assert verdicts(sealed) == [("s/001", "decontaminate.abstracts", "990001 pmid (1 of 1)")]


def test_what_the_corpus_is_full_of_does_not_count(run: Callable[..., Sealed]) -> None:
    """The abstract's first sentence in 11 documents is boilerplate; its second in one is a leak."""
    texts = [f"{PROSE.format(n=n)} {ABSTRACT[0]}" for n in range(11)] + [f"{PROSE.format(n=11)} {ABSTRACT[1]}"]
    texts.append(PROSE.format(n=12))
    sealed = run(texts)
    assert {doc_id for doc_id, _, _ in verdicts(sealed)} == {"s/011"}
    assert sealed.manifest.counts["common_clues"] == len(normal_words(ABSTRACT[0])) - 12
    assert {v[0] for v in verdicts(run(texts, CONFIG.model_copy(update={"common_documents": 11})))} == {
        f"s/{n:03d}" for n in range(12)
    }


def test_the_report_counts_the_documents_for_every_field_of_every_question(run: Callable[..., Sealed]) -> None:
    sealed = run([CASE, CASE + " Again.", ABSTRACT[1], PROSE.format(n=0)])
    rows = pq.read_table(sealed.path / "questions.parquet").to_pylist()
    found = {(row["benchmark"], row["question_id"], row["name"]): row["doc_ids"] for row in rows if row["documents"]}
    assert found == {("exam", "q1", "question"): ["s/000", "s/001"], ("abstracts", "990001", "context"): ["s/002"]}
    assert {row["question_id"] for row in rows} == {"q1", "q2", "990001"}
    counts = sealed.manifest.counts
    assert (counts["questions.exam"], counts["questions_indexed.exam"], counts["questions_found.exam"]) == (2, 2, 1)


def test_what_many_questions_of_a_benchmark_share_betrays_none_of_them() -> None:
    vitals = "His temperature is 37 C, pulse is 80/min, respirations are 16/min and blood pressure is 120/80 mm Hg."
    questions = [
        Question(f"q{n}", f"{vitals} Case {n} of the series has which finding?", "", ("a", "b"), 0) for n in range(4)
    ]
    index = build_index([(MEDQA, questions)], ngram_words=13, min_short_words=8)
    assert list(index.find(f"{vitals} The nurse left.", None)) == []
    assert len(index.find(f"{vitals} Case 2 of the series has which finding?", None)) > 0


def test_held_out_documents_are_a_stable_share_and_stay_with_their_parent(run: Callable[..., Sealed]) -> None:
    config = DecontaminateConfig(held_out_share=0.2)
    texts = [PROSE.format(n=n) for n in range(500)]
    sealed = run(texts, config)
    held_out = {d.doc_id for path in sealed.part("held_out").paths() for d in read_documents(path)}
    assert 75 <= len(held_out) == sealed.manifest.fates["held_out"] <= 125
    fewer = run(texts[:250], config, files=2)
    assert {d.doc_id for path in fewer.part("held_out").paths() for d in read_documents(path)} == {
        doc_id for doc_id in held_out if doc_id < "s/250"
    }
    other_seed = run(texts, config.model_copy(update={"held_out_seed": 1}))
    assert held_out != {d.doc_id for path in other_seed.part("held_out").paths() for d in read_documents(path)}


def test_the_bytes_do_not_depend_on_the_workers(tmp_path: Path, runtime: Runtime) -> None:
    texts = [f"{PROSE.format(n=n)} {ABSTRACT[0] if n % 3 else CASE}" for n in range(9)] + [PROSE.format(n=9)] * 3
    config = CONFIG.model_copy(update={"held_out_share": 0.3})
    inputs = {"documents": corpus(tmp_path / "in", texts, files=3), **write_benchmarks(tmp_path / "benchmarks")}
    one = decontaminate.build(Store(tmp_path / "one"), config, inputs, runtime)
    two = decontaminate.build(Store(tmp_path / "two"), config, inputs, runtime.model_copy(update={"workers": 2}))
    assert one.manifest.digest == two.manifest.digest


def test_where_a_benchmark_lies_and_how_it_is_asked_change_no_key() -> None:
    moved = Benchmark("exam", "medqa", "/elsewhere/exam.jsonl", style="letters", limit=10)
    assert identity(CONFIG) == identity(CONFIG.model_copy(update={"benchmarks": (moved, PUBMEDQA)}))


def test_a_benchmark_without_its_file_is_refused(store: Store, runtime: Runtime, tmp_path: Path) -> None:
    inputs = {"documents": corpus(tmp_path / "in", [PROSE])}
    with pytest.raises(ValueError, match=r"no benchmark.*configured for \['abstracts', 'exam'\].*benchmark\.<name>"):
        decontaminate.build(store, CONFIG, inputs, runtime)


def test_a_corpus_that_is_all_benchmark_is_an_error(run: Callable[..., Sealed]) -> None:
    with pytest.raises(EmptyCorpus, match=r"none of the 1 documents .* 1 overlap a benchmark, 0 are held out"):
        run([CASE])


def test_a_source_that_deduplication_emptied_is_an_error(store: Store, runtime: Runtime, tmp_path: Path) -> None:
    empty = corpus(tmp_path / "in", [])
    with pytest.raises(EmptyCorpus, match="each was a duplicate of one in another source"):
        decontaminate.build(store, DecontaminateConfig(), {"documents": empty}, runtime)


@pytest.mark.real
def test_recall_on_real_questions_planted_in_real_text_and_precision_without_them() -> None:
    """120 MedQA questions planted in trials are all found by their text, and by options if these are long."""
    data = Path(os.environ.get("REALDATA") or pytest.fail("set REALDATA to the directory with the real text"))
    exam = load_questions(MEDQA, data / "benchmarks" / "medqa" / "test.jsonl")
    abstracts = load_questions(PUBMEDQA, data / "benchmarks" / "pubmedqa" / "test.jsonl")
    index = build_index([(MEDQA, exam), (PUBMEDQA, abstracts)], ngram_words=13, min_short_words=8)
    with gzip.open(data / "biomed" / "pmc_rct-02.jsonl.gz", "rt") as lines:
        texts = [json.loads(line)["text"][:8_000] for _, line in zip(range(120), lines, strict=False)]
    assert [text for text in texts if fields(index, text)] == []

    rng = random.Random(0)

    def recall(write: Callable[[Question], str], questions: Sequence[Question]) -> float:
        planted = [f"{text[:4_000]} {write(q)} {text[4_000:]}" for text, q in zip(texts, questions, strict=False)]
        hits = [q.question_id in fields(index, text) for text, q in zip(planted, questions, strict=False)]
        return sum(hits) / len(hits)

    questions = {"medqa": rng.sample(exam, 120), "pubmedqa": abstracts[:120]}
    questions["long options"] = [q for q in exam if sum(len(normal_words(one)) for one in q.options) >= 8][:120]
    table = {(kind, name): recall(write, questions[name]) for (kind, name), (write, _) in planted_leaks(rng).items()}
    assert {key: value for key, value in table.items() if value < planted_leaks(rng)[key][1]} == {}


def planted_leaks(rng: random.Random) -> dict[tuple[str, str], tuple[Callable[[Question], str], float]]:
    """(kind of leak, questions) -> how it is written, the least recall; docs/decontamination.md has what it is."""

    def shuffled(question: Question) -> str:
        return "; ".join(rng.sample(question.options, len(question.options)))

    def full_width(text: str) -> str:
        return "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text)

    return {
        ("question, verbatim", "medqa"): (lambda q: q.question, 1.0),
        ("question, verbatim", "pubmedqa"): (lambda q: q.question, 0.85),
        ("question, upper case, other marks", "medqa"): (
            lambda q: q.question.upper().replace(",", " ;").replace("-", "\u2010"),
            1.0,
        ),
        ("question, full-width characters", "medqa"): (lambda q: full_width(q.question), 1.0),
        ("question, one word in twenty changed", "medqa"): (lambda q: _edited(q.question, rng), 0.95),
        ("context", "pubmedqa"): (lambda q: q.context, 1.0),
        ("context, one word in twenty changed", "pubmedqa"): (lambda q: _edited(q.context, rng), 0.95),
        ("options, lettered", "long options"): (
            lambda q: "\n".join(f"{'ABCD'[n]}. {option}" for n, option in enumerate(q.options)),
            1.0,
        ),
        ("options, in another order", "long options"): (shuffled, 1.0),
    }


def fields(index: QuestionIndex, text: str) -> set[str]:
    clues = index.find(text, None)
    return {index.fields[field].question_id for clue in clues.tolist() for field in index.fields_of(clue)}


def _edited(text: str, rng: random.Random) -> str:
    """Every twentieth word or so is another one."""
    words = text.split()
    for start in range(0, len(words), 20):
        words[rng.randrange(start, min(start + 20, len(words)))] = "otherwise"
    return " ".join(words)
