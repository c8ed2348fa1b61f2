"""The questions of the benchmarks as an index that a document's text is held against.

In: benchmarks and their questions. Out: `QuestionIndex`, whose `find` gives the clues in one document. Everything is
compared as runs of letters and digits in one case, so that punctuation, hyphens and typography do not matter.

Each field of a question is indexed apart, and each clue belongs to fields:

    question, context   every 13-gram; of a field of 8 to 12 words the whole
    answer, option      the same, but most options are shorter and alone prove nothing
    options             all options of a question, in any order in one passage, if they have 8 words together
    question+options    a question of 3 to 7 words and all its options, in any order in one passage
    pmid                the article that the question was made from
"""

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from domainlm.eval.benchmarks import FORMS, Benchmark, Question
from domainlm.tasks.ngrams import Hashes, hash_ngrams, hash_words, ngrams_of_lengths

ALPHANUMERIC = re.compile(r"[^\W_]+")
COMMON_QUESTIONS = 3  # vital signs and "which of the following" stand in more questions, and betray none of them
MIN_ANCHOR_WORDS = 3  # of a question that is too short to stand alone
ROOM_WORDS = 16  # for "A.", "B.", "Answer:" and the like between the fields of a passage

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class QuestionField:
    """One field of one question, and how many clues to it are indexed."""

    benchmark: str
    question_id: str
    name: str
    clues: int


@dataclass(frozen=True)
class Passage:
    """Texts that betray a question only together, in any order; the first, the anchor, is looked for first."""

    field: int
    texts: tuple[tuple[str, ...], ...]

    def stands_at(self, words: Sequence[str], place: int) -> bool:
        """Whether the texts stand side by side, none inside another, around `place`, where the anchor was found."""
        room = sum(map(len, self.texts)) + ROOM_WORDS
        begin = max(0, place - room)
        around: list[str | None] = list(words[begin : place + room])
        first, last = place, place
        for text in (self.texts[0], *sorted(self.texts[1:], key=len, reverse=True)):
            found = [at for at in range(len(around) - len(text) + 1) if tuple(around[at : at + len(text)]) == text]
            if not found:
                return False
            at = min(found, key=lambda at: abs(begin + at - place))
            around[at : at + len(text)] = [None] * len(text)
            first, last = min(first, begin + at), max(last, begin + at + len(text))
        return last - first <= room


@dataclass(frozen=True)
class QuestionIndex:
    """Clues are numbered: first the n-grams of `hashes`, then `passages`, then `pmids`.

    `owners[i]` belong to `hashes[holder[i]]`; both are sorted by the hash they belong to.
    """

    fields: tuple[QuestionField, ...]
    lengths: tuple[int, ...]
    hashes: Hashes
    owners: tuple[Rows, Rows]
    passages: tuple[Passage, ...]
    anchors: Mapping[int, tuple[int, ...]]
    pmids: Mapping[str, tuple[int, ...]]
    pmid_fields: tuple[int, ...]
    sieve: NDArray[np.bool_]

    @property
    def first_pmid(self) -> int:
        """The first clue that is a PMID."""
        return len(self.hashes) + len(self.passages)

    @property
    def num_clues(self) -> int:
        """Clues of all kinds."""
        return self.first_pmid + len(self.pmid_fields)

    def fields_of(self, clue: int) -> list[int]:
        """The fields that a clue belongs to."""
        if clue < len(self.hashes):
            holders, fields = self.owners
            begin, end = np.searchsorted(holders, [clue, clue + 1])
            return [int(field) for field in fields[begin:end]]
        if clue < self.first_pmid:
            return [self.passages[clue - len(self.hashes)].field]
        return [self.pmid_fields[clue - self.first_pmid]]

    def find(self, text: str, pmid: str | None) -> Hashes:
        """The clues in one document, sorted, each once."""
        clues = {self.first_pmid + number for number in self.pmids.get(pmid or "", ())}
        words = normal_words(text)
        for _, hashes in ngrams_of_lengths(hash_words(words), self.lengths):
            places = np.flatnonzero(self.sieve[hashes & np.uint64(len(self.sieve) - 1)])
            ranks = np.minimum(np.searchsorted(self.hashes, hashes[places]), len(self.hashes) - 1)
            known = self.hashes[ranks] == hashes[places]
            clues.update(self._clues_at(words, places[known].tolist(), ranks[known].tolist()))
        return np.array(sorted(clues), dtype=np.uint64)

    def _clues_at(self, words: Sequence[str], places: list[int], ranks: list[int]) -> Iterator[int]:
        for place, rank in zip(places, ranks, strict=True):
            yield rank
            for number in self.anchors.get(rank, ()):
                if self.passages[number].stands_at(words, place):
                    yield len(self.hashes) + number


def normal_words(text: str) -> list[str]:
    """Runs of letters and digits, case folded, compatibility forms as plain ones."""
    return ALPHANUMERIC.findall(unicodedata.normalize("NFKC", text).casefold())


def build_index(
    benchmarks: Sequence[tuple[Benchmark, Sequence[Question]]], *, ngram_words: int, min_short_words: int
) -> QuestionIndex:
    """Index every field of every question."""
    builder = _Builder(ngram_words, min_short_words)
    for benchmark, questions in benchmarks:
        for question in questions:
            builder.add(benchmark, question)
    return builder.index()


class _Builder:
    """Collects (hash, field) pairs and passages."""

    def __init__(self, ngram_words: int, min_short_words: int) -> None:
        self.ngram_words = ngram_words
        self.min_short_words = min_short_words
        self.fields: list[QuestionField] = []
        self.lengths: set[int] = set()
        self.hashes: list[Hashes] = []
        self.owners: list[Rows] = []
        self.passages: list[Passage] = []
        self.anchors: list[int] = []
        self.pmids: dict[str, list[int]] = {}
        self.pmid_fields: list[int] = []

    def add(self, benchmark: Benchmark, question: Question) -> None:
        """Index one question; options that every question of a form shares (yes, no, maybe) say nothing."""
        stem, options = normal_words(question.question), []
        if FORMS[benchmark.form].fixed_options is None:
            options = [normal_words(option) for option in question.options]
        self._text(benchmark, question, "question", stem)
        self._text(benchmark, question, "context", normal_words(question.context))
        for number, option in enumerate(options):
            self._text(benchmark, question, "answer" if number == question.answer else "option", option)
        if sum(map(len, options)) >= self.min_short_words:
            self._passage(benchmark, question, "options", sorted(options, key=len, reverse=True))
        if options and MIN_ANCHOR_WORDS <= len(stem) < self.min_short_words:
            self._passage(benchmark, question, "question+options", [stem, *options])
        if question.pmid:
            self.pmids.setdefault(question.pmid, []).append(len(self.pmid_fields))
            self.pmid_fields.append(self._field(benchmark, question, "pmid"))

    def index(self) -> QuestionIndex:
        """The finished index, without the n-grams that too many questions of one benchmark share."""
        every = np.concatenate([np.empty(0, np.uint64), *self.hashes])
        holders, owners = every, np.concatenate([np.empty(0, np.int64), *self.owners])
        keep = ~self._common(holders, owners)
        holders, owners = holders[keep], owners[keep]
        hashes = np.unique(np.concatenate([holders, np.array(self.anchors, dtype=np.uint64)]))
        ranks = np.searchsorted(hashes, holders)
        pairs = np.unique(np.stack([ranks, owners], axis=1), axis=0)
        anchors: dict[int, tuple[int, ...]] = {}
        for number, rank in enumerate(np.searchsorted(hashes, np.array(self.anchors, dtype=np.uint64)).tolist()):
            anchors[rank] = (*anchors.get(rank, ()), number)
        clues = np.bincount(pairs[:, 1], minlength=len(self.fields))
        return QuestionIndex(
            fields=tuple(
                QuestionField(field.benchmark, field.question_id, field.name, field.clues + int(count))
                for field, count in zip(self.fields, clues, strict=True)
            ),
            lengths=tuple(sorted(self.lengths)) if len(hashes) else (),
            hashes=hashes,
            owners=(pairs[:, 0], pairs[:, 1]),
            passages=tuple(self.passages),
            anchors=anchors,
            pmids={pmid: tuple(numbers) for pmid, numbers in self.pmids.items()},
            pmid_fields=tuple(self.pmid_fields),
            sieve=_sieve(hashes),
        )

    def _text(self, benchmark: Benchmark, question: Question, name: str, words: Sequence[str]) -> None:
        if not words:
            return
        field = self._field(benchmark, question, name, clues=0)
        if len(words) >= self.min_short_words:
            length = min(len(words), self.ngram_words)
            hashes = np.unique(hash_ngrams(hash_words(words), length))
            self.lengths.add(length)
            self.hashes.append(hashes)
            self.owners.append(np.full(len(hashes), field))

    def _passage(self, benchmark: Benchmark, question: Question, name: str, texts: Sequence[Sequence[str]]) -> None:
        length = min(len(texts[0]), self.ngram_words)
        self.lengths.add(length)
        self.anchors.append(int(hash_ngrams(hash_words(texts[0][:length]), length)[0]))
        field = self._field(benchmark, question, name)
        self.passages.append(Passage(field, tuple(tuple(text) for text in texts if text)))

    def _field(self, benchmark: Benchmark, question: Question, name: str, clues: int = 1) -> int:
        self.fields.append(QuestionField(benchmark.name, question.question_id, name, clues))
        return len(self.fields) - 1

    def _common(self, holders: Hashes, owners: Rows) -> NDArray[np.bool_]:
        """Which (hash, field) pairs have a hash that stands in more than `COMMON_QUESTIONS` of the benchmark."""
        names = sorted({field.benchmark for field in self.fields})
        numbers: dict[tuple[str, str], int] = {}
        for field in self.fields:
            numbers.setdefault((field.benchmark, field.question_id), len(numbers))
        question_of = np.array([numbers[field.benchmark, field.question_id] for field in self.fields], dtype=np.int64)
        benchmark_of = np.array([names.index(field.benchmark) for field in self.fields], dtype=np.int64)
        _, ranks = np.unique(holders, return_inverse=True)
        in_questions = np.unique(np.stack([ranks, benchmark_of[owners], question_of[owners]], axis=1), axis=0)
        in_benchmarks, counts = np.unique(in_questions[:, :2], axis=0, return_counts=True)
        common = np.unique(in_benchmarks[counts > COMMON_QUESTIONS, 0])
        return np.isin(ranks, common)


def _sieve(hashes: Hashes) -> NDArray[np.bool_]:
    """A table by the lowest bits of a hash, in which one place of at least 16 is taken: it spares most searches."""
    size = 1 << (16 * len(hashes)).bit_length()
    sieve = np.zeros(size, dtype=np.bool_)
    sieve[hashes & np.uint64(size - 1)] = True
    return sieve
