"""Decontamination: planted leaks are found whatever their form, real text is left alone, held-out text is stable."""

import gzip
import json
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from domainlm.eval.benchmarks import Benchmark, Question, load_questions
from domainlm.tasks import ngrams
from domainlm.tasks.decontaminate import DecontaminateConfig, DecontaminateStageConfig, decontaminate
from domainlm.tasks.document_shards import EmptyCorpus
from domainlm.tasks.documents import Document, content_sha256, read_documents, read_verdicts, write_rows
from domainlm.tasks.index_questions import index_questions
from domainlm.tasks.manifest import Part, outside
from domainlm.tasks.question_index import QuestionIndex, normal_words
from domainlm.tasks.runtime import Runtime
from domainlm.tasks.stage import identity
from domainlm.tasks.store import Sealed, Store

MEDQA = Benchmark("exam", "medqa", "exam.jsonl")
PUBMEDQA = Benchmark("abstracts", "pubmedqa", "abstracts.jsonl")


def config(*, benchmarks: tuple[Benchmark, ...] = (MEDQA, PUBMEDQA), **settings: float) -> DecontaminateStageConfig:
    """Both benchmarks and nothing held out, if not told otherwise."""
    counted = DecontaminateConfig.model_validate({"held_out_share": 0, **settings})
    return DecontaminateStageConfig(decontaminate=counted, benchmarks=benchmarks)


CONFIG = config()

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
    def run(texts: Sequence[str], config: DecontaminateStageConfig = CONFIG, **options: object) -> Sealed:
        part = corpus(tmp_path / "in", texts, **options)  # type: ignore[arg-type]
        benchmarks = write_benchmarks(tmp_path / "benchmarks") if config.benchmarks else {}
        return decontaminate.build(store, config, {"documents": part, **benchmarks}, runtime)

    return run


def verdicts(sealed: Sealed) -> list[tuple[str, str, str]]:
    every = [v for path in sealed.part("verdicts").paths() for v in read_verdicts(path)]
    return [(v.doc_id, v.rule, v.value) for v in every if not v.keep]


def _every_eighth_word_changed(text: str) -> str:
    return " ".join("otherwise" if n % 8 == 5 else word for n, word in enumerate(text.split()))


def _full_width(text: str) -> str:
    return "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else "\u3000" for c in text)


@dataclass(frozen=True)
class Real:
    """Real benchmarks, indexed, and real text without them."""

    index: QuestionIndex
    exam: Sequence[Question]
    abstracts: Sequence[Question]
    texts: Sequence[str]

    @property
    def long_options(self) -> list[Question]:
        """Questions whose options are looked for."""
        listed = {field.question_id for field in self.index.fields if field.name == "options"}
        return [question for question in self.exam if question.question_id in listed]


LEAKS = {
    "the question word for word": (f"Exam notes. {CASE} Discuss.", "exam", "q1 question"),
    "other case and punctuation": (CASE.upper().replace("-", " ").replace(".", " -- "), "exam", "q1 question"),
    "a few words edited": (CASE.replace("baker", "cook").replace("tablet", "pill"), "exam", "q1 question"),
    "all options in a row": (
        f"A) {OPTIONS[0]}\nB) {OPTIONS[1]}\nC) {OPTIONS[2]}\nD) {OPTIONS[3]}",
        "exam",
        "q1 options",
    ),
    "a short question with its options": (f"{SHORT} {', '.join(SHORT_OPTIONS)}.", "exam", "q2 question+options"),
    "most words of it edited": (_every_eighth_word_changed(CASE), "exam", "q1 edited question"),
    "all options in another order": (
        "; ".join(f"({OPTIONS.index(o)}) {o}" for o in sorted(OPTIONS)),
        "exam",
        "q1 options",
    ),
    "full-width letters and signs": (_full_width(CASE), "exam", "q1 question"),
    "soft hyphens and accents": (CASE.replace("tension", "ten\u00adsi\u00f3n"), "exam", "q1 question"),
    "a short question, options in another order": (
        f"{SHORT} {', '.join(SHORT_OPTIONS[::-1])}.",
        "exam",
        "q2 question+options",
    ),
    "one word of the abstract's question changed": (
        ASKED.replace("pressure", "level"),
        "abstracts",
        "990001 edited question",
    ),
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
        "Squalene epoxidase makes sterols and xanthine oxidase makes uric acid, as they have known for many years now; "
        "carbonic anhydrase came to be known much earlier, and renal kinase of the second type last of them all.",
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
    assert {v[0] for v in verdicts(run(texts, config(common_documents=11)))} == {f"s/{n:03d}" for n in range(12)}


def test_the_report_names_the_documents_for_every_field_of_every_question(run: Callable[..., Sealed]) -> None:
    sealed = run([CASE, CASE + " Again.", ABSTRACT[1], PROSE.format(n=0)])
    rows = pq.read_table(sealed.path / "questions.parquet").to_pylist()
    found = {(row["question_id"], row["name"]): row["doc_ids"] for row in rows if row["documents"]}
    assert found == {
        ("q1", "question"): ["s/000", "s/001"],
        ("q1", "edited question"): ["s/000", "s/001"],
        ("990001", "context"): ["s/002"],
    }
    assert all((row["documents"], row["most_clues"] > 0) == (len(row["doc_ids"]), bool(row["doc_ids"])) for row in rows)
    assert {row["question_id"] for row in rows} == {"q1", "q2", "990001"}
    counts = sealed.manifest.counts
    assert (counts["questions.exam"], counts["questions_indexed.exam"], counts["questions_found.exam"]) == (2, 2, 1)


def test_what_many_questions_of_a_benchmark_share_betrays_none_of_them() -> None:
    vitals = "His temperature is 37 C, pulse is 80/min, respirations are 16/min and blood pressure is 120/80 mm Hg."
    questions = [
        Question(f"q{n}", f"{vitals} Case {n} of the series has which finding?", "", ("a", "b"), 0) for n in range(4)
    ]
    index = index_questions([(MEDQA, questions)], ngram_words=13, min_short_words=8)
    assert fields(index, f"{vitals} The nurse left.") == set()
    assert "q2" in fields(index, f"{vitals} Case 2 of the series has which finding?")


def test_words_are_hashed_alike_however_many_went_before_and_few_are_kept() -> None:
    words = [f"word{number}" for number in range(3 * ngrams.CACHED_WORDS)]
    alone = [int(ngrams.hash_words([word])[0]) for word in words[:10]]
    assert ngrams.hash_words(words + words[:10])[-10:].tolist() == alone
    assert len(ngrams.word_hashes) <= ngrams.CACHED_WORDS


def test_held_out_documents_are_a_stable_share_and_stay_with_their_parent(run: Callable[..., Sealed]) -> None:
    fifth = config(benchmarks=(), held_out_share=0.2)
    texts = [PROSE.format(n=n) for n in range(500)]
    sealed = run(texts, fifth)
    held_out = {d.doc_id for path in sealed.part("held_out").paths() for d in read_documents(path)}
    assert 75 <= len(held_out) == sealed.manifest.fates["held_out"] <= 125
    fewer = run(texts[:250], fifth, files=2)
    assert {d.doc_id for path in fewer.part("held_out").paths() for d in read_documents(path)} == {
        doc_id for doc_id in held_out if doc_id < "s/250"
    }
    other_seed = run(texts, config(benchmarks=(), held_out_share=0.2, held_out_seed=1))
    assert held_out != {d.doc_id for path in other_seed.part("held_out").paths() for d in read_documents(path)}


def test_the_bytes_do_not_depend_on_the_workers(tmp_path: Path, runtime: Runtime) -> None:
    texts = [f"{PROSE.format(n=n)} {ABSTRACT[0] if n % 3 else CASE}" for n in range(9)] + [PROSE.format(n=9)] * 3
    settings = config(held_out_share=0.3)
    inputs = {"documents": corpus(tmp_path / "in", texts, files=3), **write_benchmarks(tmp_path / "benchmarks")}
    one = decontaminate.build(Store(tmp_path / "one"), settings, inputs, runtime)
    two = decontaminate.build(Store(tmp_path / "two"), settings, inputs, runtime.model_copy(update={"workers": 2}))
    assert one.manifest.digest == two.manifest.digest


def test_where_a_benchmark_lies_and_how_it_is_asked_change_no_key() -> None:
    moved = Benchmark("exam", "medqa", "/elsewhere/exam.jsonl", style="letters", limit=10)
    assert identity(CONFIG) == identity(config(benchmarks=(moved, PUBMEDQA)))


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
        decontaminate.build(store, DecontaminateStageConfig(), {"documents": empty}, runtime)


@pytest.fixture(scope="module")
def real(realdata: Path) -> Real:
    """MedQA and PubMedQA as they are asked, and 120 trials of about 8,000 characters."""
    exam = load_questions(MEDQA, realdata / "benchmarks" / "medqa" / "test.jsonl")
    abstracts = load_questions(PUBMEDQA, realdata / "benchmarks" / "pubmedqa" / "test.jsonl")
    index = index_questions([(MEDQA, exam), (PUBMEDQA, abstracts)], ngram_words=13, min_short_words=8)
    texts = [text[:8_000] for text in real_texts(realdata, "pmc_rct-02")[:120]]
    return Real(index, exam, abstracts, texts)


PLANTED: dict[str, tuple[str, Callable[[Question, random.Random], str], float]] = {
    "question, verbatim": ("exam", lambda q, r: q.question, 1.0),
    "question, case and spacing": ("exam", lambda q, r: "\n".join(q.question.upper().split(" ")), 1.0),
    "question, full-width": ("exam", lambda q, r: _full_width(q.question), 1.0),
    "question, typographic": ("exam", lambda q, r: _typographic(q.question), 1.0),
    "question, 1 word in 20 changed": ("exam", lambda q, r: _edited(q.question, 20, r), 0.99),
    "question, 1 word in 8 changed": ("exam", lambda q, r: _edited(q.question, 8, r), 0.99),
    "options, in order": ("options", lambda q, r: _listed(q.options), 1.0),
    "options, in any order": ("options", lambda q, r: _listed(r.sample(q.options, len(q.options))), 1.0),
    "short question, verbatim": ("abstracts", lambda q, r: q.question, 0.99),
    "short question, 1 word changed": ("abstracts", lambda q, r: _edited(q.question, 999, r), 0.54),
    "abstract, verbatim": ("abstracts", lambda q, r: q.context, 1.0),
    "abstract, 1 word in 8 changed": ("abstracts", lambda q, r: _edited(q.context, 8, r), 1.0),
    "abstract, one sentence": ("abstracts", lambda q, r: max(q.context.split(". "), key=len), 1.0),
}


@pytest.mark.real
@pytest.mark.parametrize("leak", PLANTED)
def test_real_questions_planted_in_real_text_are_found(real: Real, leak: str) -> None:
    """120 trials with one question each, planted in the middle: the recall in docs/decontamination.md."""
    which, write, least = PLANTED[leak]
    rng = random.Random(0)
    questions = rng.sample({"exam": real.exam, "options": real.long_options, "abstracts": real.abstracts}[which], 120)
    planted = [f"{text[:4_000]} {write(q, rng)} {text[4_000:]}" for text, q in zip(real.texts, questions, strict=True)]
    hits = [q.question_id in fields(real.index, text) for text, q in zip(planted, questions, strict=True)]
    assert sum(hits) / len(hits) >= least


@pytest.mark.real
@pytest.mark.parametrize(("name", "most"), [("medquad", 2), ("pmc_rct-01", 0), ("pmc_rct-02", 0)])
def test_real_text_without_a_leak_is_left_alone(real: Real, realdata: Path, name: str, most: int) -> None:
    """Not a single trial, and of 5,487 pages for patients two that list one question's four diseases of the bowel."""
    texts = real_texts(realdata, name)
    assert len(texts) > 400
    assert sum(bool(fields(real.index, text)) for text in texts) <= most


def real_texts(realdata: Path, name: str) -> list[str]:
    with gzip.open(realdata / "biomed" / f"{name}.jsonl.gz", "rt") as lines:
        return [json.loads(line)["text"] for line in lines]


def fields(index: QuestionIndex, text: str) -> set[str]:
    clues = index.find([text], [None])
    _, owned = index.owners.of_each(clues[:, 1])
    return {index.fields[field].question_id for field in index.owners.fields[owned].tolist()}


def _edited(text: str, every: int, rng: random.Random) -> str:
    """One word of each so many is another one."""
    words = text.split()
    for start in range(0, len(words), every):
        words[rng.randrange(start, min(start + every, len(words)))] = "otherwise"
    return " ".join(words)


def _typographic(text: str) -> str:
    """Curly quotes, real dashes, ligatures, hard spaces and a soft hyphen in every long word."""
    for plain, printed in (("'", "\u2019"), ("-", "\u2013"), ("fi", "\ufb01"), (" ", "\u00a0")):
        text = text.replace(plain, printed)
    return re.sub(r"(\w{5})(\w{3})", "\\1\u00ad\\2", text)


def _listed(options: Sequence[str]) -> str:
    return "\n".join(f"{'ABCD'[n]}. {option}" for n, option in enumerate(options))
