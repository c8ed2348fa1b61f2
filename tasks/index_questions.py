"""What is indexed of each question of a benchmark. In: benchmarks and their questions. Out: a `QuestionIndex`.

Each field of a question is indexed apart, and each clue belongs to fields:

    question, context   every 13-gram; of a field of 8 to 12 words the whole; of a question without options of its own
                        the whole from 5 words on
    answer, option      the same, but most options are shorter and alone prove nothing
    edited question     of one of 13 words or more, most of them in runs of five or more; `edited context` alike
    options             all options of a question close together, in any order, if they have 8 different words
    question+options    a question of 3 to 7 words and all its options, close together
    pmid                the article that the question was made from

An n-gram that many questions of a benchmark share (vital signs, "which of the following") betrays none of them.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from domainlm.eval.benchmarks import FORMS, Benchmark, Question
from domainlm.tasks.ngrams import Hashes, hash_ngrams, hash_words
from domainlm.tasks.question_index import (
    EDITED_WORDS,
    EditedFields,
    HashTable,
    Owners,
    Passage,
    QuestionField,
    QuestionIndex,
    Rows,
    normal_words,
)

COMMON_QUESTIONS = 3
MIN_ANCHOR_WORDS = 3  # of a question that is too short to stand alone
MIN_SENTENCE_WORDS = 5  # of a question without options of its own: none of 31 such in 46 MB of trials and patient pages
ROOM_WORDS = 4  # after each text of a passage: "B.", "Answer choice C:", "(chosen by 12 %)"
EDITED_SHARE = 0.6  # of a field's words that no other question has: half of them changed is another question


def index_questions(
    benchmarks: Sequence[tuple[Benchmark, Sequence[Question]]], *, ngram_words: int, min_short_words: int
) -> QuestionIndex:
    """Index every field of every question."""
    builder = _Builder(ngram_words, min_short_words)
    for benchmark, questions in benchmarks:
        for question in questions:
            builder.add(benchmark, question)
    return builder.index()


class _Builder:
    """Collects the clues of each kind, and the fields that they belong to."""

    def __init__(self, ngram_words: int, min_short_words: int) -> None:
        self.ngram_words = ngram_words
        self.min_short_words = min_short_words
        self.fields: list[QuestionField] = []
        self.lengths: set[int] = {EDITED_WORDS}
        self.ngrams = _Ngrams()
        self.passages: list[Passage] = []
        self.passage_fields: list[int] = []
        self.anchors: list[int] = []
        self.edited = _Ngrams()
        self.edited_fields: list[int] = []
        self.pmids: dict[str, list[int]] = {}
        self.pmid_fields: list[int] = []

    def add(self, benchmark: Benchmark, question: Question) -> None:
        """Index one question; options that every question of a form shares (yes, no, maybe) say nothing."""
        stem, context = _hashed(question.question), _hashed(question.context)
        own_options = FORMS[benchmark.form].fixed_options is None
        options = [_hashed(option) for option in question.options] if own_options else []
        least = self.min_short_words
        self._text(benchmark, question, "question", stem, least if own_options else min(least, MIN_SENTENCE_WORDS))
        self._text(benchmark, question, "context", context, least)
        self._edited(benchmark, question, "edited question", stem)
        self._edited(benchmark, question, "edited context", context)
        for number, option in enumerate(options):
            self._text(benchmark, question, "answer" if number == question.answer else "option", option, least)
        options.sort(key=len, reverse=True)
        if len(np.unique(np.concatenate([stem[:0], *options]))) >= self.min_short_words:
            self._passage(benchmark, question, "options", options)
        if options and MIN_ANCHOR_WORDS <= len(stem) < self.min_short_words:
            self._passage(benchmark, question, "question+options", [stem, *options])
        if question.pmid:
            self.pmids.setdefault(question.pmid, []).append(len(self.pmid_fields))
            self.pmid_fields.append(self._field(benchmark, question, "pmid"))

    def index(self) -> QuestionIndex:
        """The finished index."""
        hashes, fields, _ = self.ngrams.uncommon(self.fields)
        table = HashTable.of(np.concatenate([hashes, np.array(self.anchors, dtype=np.uint64)]))
        by_ngram = np.unique(np.stack([np.searchsorted(table.hashes, hashes), fields], axis=1), axis=0)
        edited = self._edited_fields()
        single = np.array([*self.passage_fields, *self.edited_fields, *self.pmid_fields], dtype=np.int64)
        by_single = np.stack([len(table.hashes) + np.arange(len(single)), single], axis=1)
        pairs = np.concatenate([by_ngram, by_single])
        anchors: dict[int, tuple[int, ...]] = {}
        for number, rank in enumerate(np.searchsorted(table.hashes, np.array(self.anchors, np.uint64)).tolist()):
            anchors[rank] = (*anchors.get(rank, ()), number)
        clues = np.bincount(pairs[:, 1], minlength=len(self.fields)).tolist()
        return QuestionIndex(
            fields=tuple(
                QuestionField(field.benchmark, field.question_id, field.name, count)
                for field, count in zip(self.fields, clues, strict=True)
            ),
            lengths=tuple(sorted(self.lengths)) if self.fields else (),
            table=table,
            passages=tuple(self.passages),
            anchors=anchors,
            edited=edited,
            pmids={pmid: tuple(numbers) for pmid, numbers in self.pmids.items()},
            owners=Owners.of(pairs[:, 0], pairs[:, 1], len(table.hashes) + len(single)),
        )

    def _text(self, benchmark: Benchmark, question: Question, name: str, words: Hashes, least: int) -> None:
        if not len(words):
            return
        field = self._field(benchmark, question, name)
        if len(words) >= least:
            length = min(len(words), self.ngram_words)
            self.lengths.add(length)
            self.ngrams.add(hash_ngrams(words, length), field)

    def _edited(self, benchmark: Benchmark, question: Question, name: str, words: Hashes) -> None:
        if len(words) >= self.ngram_words:
            field = self._field(benchmark, question, name)
            self.edited.add(hash_ngrams(words, EDITED_WORDS), field)
            self.edited_fields.append(field)

    def _edited_fields(self) -> EditedFields:
        hashes, fields, positions = self.edited.uncommon(self.fields)
        table = HashTable.of(hashes)
        ranks, numbers = np.searchsorted(table.hashes, hashes), np.searchsorted(self.edited_fields, fields)
        order = np.lexsort([positions, numbers, ranks])
        by_field = np.lexsort([positions, numbers])
        begins = np.searchsorted(numbers[by_field], np.arange(1, len(self.edited_fields)))
        needed = np.array([self._needed(one) for one in np.split(positions[by_field], begins)], dtype=np.int64)
        return EditedFields(table, Owners.of(ranks[order], numbers[order], len(table.hashes)), positions[order], needed)

    def _needed(self, positions: Rows) -> int:
        """Words that must be found again, of a field whose telling n-grams begin here."""
        telling = np.minimum(np.diff(positions), EDITED_WORDS).sum() + EDITED_WORDS if len(positions) else 0
        return max(self.min_short_words, int(np.ceil(EDITED_SHARE * telling)))

    def _passage(self, benchmark: Benchmark, question: Question, name: str, texts: Sequence[Hashes]) -> None:
        length = min(len(texts[0]), self.ngram_words)
        self.lengths.add(length)
        self.anchors.append(int(hash_ngrams(texts[0][:length], length)[0]))
        self.passage_fields.append(self._field(benchmark, question, name))
        span = sum(len(text) + ROOM_WORDS for text in texts)
        self.passages.append(Passage(tuple(text.tobytes() for text in texts), span))

    def _field(self, benchmark: Benchmark, question: Question, name: str) -> int:
        self.fields.append(QuestionField(benchmark.name, question.question_id, name, clues=0))
        return len(self.fields) - 1


class _Ngrams:
    """N-grams with the field and the position of each."""

    def __init__(self) -> None:
        self.hashes: list[Hashes] = [np.empty(0, np.uint64)]
        self.fields: list[Rows] = [np.empty(0, np.int64)]
        self.positions: list[Rows] = [np.empty(0, np.int64)]

    def add(self, hashes: Hashes, field: int) -> None:
        self.hashes.append(hashes)
        self.fields.append(np.full(len(hashes), field))
        self.positions.append(np.arange(len(hashes)))

    def uncommon(self, fields: Sequence[QuestionField]) -> tuple[Hashes, Rows, Rows]:
        """All but those that stand in more than `COMMON_QUESTIONS` of one benchmark."""
        hashes, owners = np.concatenate(self.hashes), np.concatenate(self.fields)
        keep = ~_common(hashes, owners, fields)
        return hashes[keep], owners[keep], np.concatenate(self.positions)[keep]


def _common(hashes: Hashes, owners: Rows, fields: Sequence[QuestionField]) -> NDArray[np.bool_]:
    benchmarks = {name: number for number, name in enumerate(sorted({field.benchmark for field in fields}))}
    questions: dict[tuple[str, str], int] = {}
    for field in fields:
        questions.setdefault((field.benchmark, field.question_id), len(questions))
    question_of = np.array([questions[field.benchmark, field.question_id] for field in fields], dtype=np.int64)
    benchmark_of = np.array([benchmarks[field.benchmark] for field in fields], dtype=np.int64)
    _, ranks = np.unique(hashes, return_inverse=True)
    in_questions = np.unique(np.stack([ranks, benchmark_of[owners], question_of[owners]], axis=1), axis=0)
    in_benchmarks, counts = np.unique(in_questions[:, :2], axis=0, return_counts=True)
    return np.isin(ranks, in_benchmarks[counts > COMMON_QUESTIONS, 0])


def _hashed(text: str) -> Hashes:
    return hash_words(normal_words(text))
