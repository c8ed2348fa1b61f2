"""The questions of the benchmarks as an index that the text of documents is held against.

In: texts, many at a time. Out: `QuestionIndex.find` gives the clues in each. Everything is compared as runs of letters
and digits in one case and without accents, so that punctuation, hyphens, full-width forms and typography do not matter.
`index_questions` says what is indexed. Clues are numbered: n-grams, then passages, then edited fields, then PMIDs.
"""

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from domainlm.tasks.ngrams import Hashes, hash_words, ngrams_of_lengths

ALPHANUMERIC = re.compile(r"[^\W_]+")
INVISIBLE = re.compile("[\u00ad\u0300-\u036f\u200b-\u200d\u2060\ufeff]")  # soft hyphens, accents, joiners
EDITED_WORDS = 5  # n-grams by which an edited text is known: one changed word breaks no more than five of them
WORD_BYTES = 8

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class QuestionField:
    """One field of one question, and how many clues to it are indexed."""

    benchmark: str
    question_id: str
    name: str
    clues: int


@dataclass(frozen=True)
class HashTable:
    """Sorted hashes, and a table by their lowest bits that spares most searches: one place in 16 or more is taken."""

    hashes: Hashes
    sieve: NDArray[np.bool_]

    @classmethod
    def of(cls, hashes: Hashes) -> "HashTable":
        """The table of these hashes, each once."""
        distinct = np.unique(hashes)
        size = 1 << (16 * len(distinct)).bit_length()
        sieve = np.zeros(size, dtype=np.bool_)
        sieve[distinct & np.uint64(size - 1)] = True
        return cls(distinct, sieve)

    def find(self, hashes: Hashes) -> tuple[Rows, Rows]:
        """Places in `hashes` that hold a known one, and the rank of each."""
        places = np.flatnonzero(self.sieve[hashes & np.uint64(len(self.sieve) - 1)])
        ranks = np.minimum(np.searchsorted(self.hashes, hashes[places]), len(self.hashes) - 1)
        known = self.hashes[ranks] == hashes[places]
        return places[known], ranks[known]


@dataclass(frozen=True)
class Owners:
    """The fields that each clue belongs to: `fields[starts[i]:starts[i + 1]]` own clue `i`."""

    starts: Rows
    fields: Rows

    @classmethod
    def of(cls, clues: Rows, fields: Rows, num_clues: int) -> "Owners":
        """From (clue, field) pairs that are sorted by clue."""
        return cls(np.searchsorted(clues, np.arange(num_clues + 1)), fields)

    def of_each(self, clues: Rows) -> tuple[Rows, Rows]:
        """(place in `clues`, place in `fields`) for every owner of every one of these clues."""
        counts = self.starts[clues + 1] - self.starts[clues]
        places = np.repeat(np.arange(len(clues)), counts)
        first = np.repeat(self.starts[clues] - (np.cumsum(counts) - counts), counts)
        return places, np.arange(len(places)) + first


@dataclass(frozen=True)
class Passage:
    """Texts that betray a question only close together, in whatever order; one of them is looked for first.

    A text is the hashes of its words, as bytes. The first is the anchor, by whose beginning the place is found.
    """

    texts: tuple[bytes, ...]
    span_words: int

    def stands_at(self, words: Hashes, place: int) -> bool:
        """Whether all texts stand apart within `span_words` around `place`, where the first one should be."""
        start = max(0, place - self.span_words)
        around = words[start : place + self.span_words].tobytes()
        anchor = place - start
        taken: list[tuple[int, int]] = []
        for text in self.texts:
            length = len(text) // WORD_BYTES
            apart = [
                at
                for at in _places(around, text)
                if (taken or at == anchor) and all(at >= end or at + length <= begin for begin, end in taken)
            ]
            if not apart:
                return False
            nearest = min(apart, key=lambda at: abs(at - anchor))
            taken.append((nearest, nearest + length))
        return max(end for _, end in taken) - min(begin for begin, _ in taken) <= self.span_words


@dataclass(frozen=True)
class EditedFields:
    """Fields that are known again with some words changed, by how many of their words stand in runs of `EDITED_WORDS`.

    `positions[i]`, of field `owners.fields[i]`, is where an n-gram of `table` stands in that field; `needed` are words.
    """

    table: HashTable
    owners: Owners
    positions: Rows
    needed: Rows

    def find(self, hashes: Hashes, document: Rows) -> Rows:
        """(document, field) pairs; `hashes` are n-grams, and `document` says where each begins, or -1."""
        places, ranks = self.table.find(hashes)
        places, ranks = places[document[places] >= 0], ranks[document[places] >= 0]
        which, owned = self.owners.of_each(ranks)
        if not len(owned):
            return np.empty((0, 2), dtype=np.int64)
        rows = np.stack([document[places[which]], self.owners.fields[owned], self.positions[owned]], axis=1)
        rows = np.unique(rows, axis=0)
        new = np.ones(len(rows), dtype=np.bool_)
        new[1:] = (rows[1:, :2] != rows[:-1, :2]).any(axis=1)
        fresh_words = np.full(len(rows), EDITED_WORDS)
        fresh_words[1:][~new[1:]] = np.minimum(np.diff(rows[:, 2]), EDITED_WORDS)[~new[1:]]
        begins = np.flatnonzero(new)
        pairs = rows[begins, :2]
        enough = np.add.reduceat(fresh_words, begins) >= self.needed[pairs[:, 1]]
        return pairs[enough]


@dataclass(frozen=True)
class QuestionIndex:
    """Everything that gives a question away, ready to be looked for."""

    fields: tuple[QuestionField, ...]
    lengths: tuple[int, ...]
    table: HashTable
    passages: tuple[Passage, ...]
    anchors: Mapping[int, tuple[int, ...]]
    edited: EditedFields
    pmids: Mapping[str, tuple[int, ...]]
    owners: Owners

    @property
    def first_edited(self) -> int:
        """The first clue that is an edited field."""
        return len(self.table.hashes) + len(self.passages)

    @property
    def first_pmid(self) -> int:
        """The first clue that is a PMID."""
        return self.first_edited + len(self.edited.needed)

    @property
    def num_clues(self) -> int:
        """Clues of all kinds."""
        return len(self.owners.starts) - 1

    def find(self, texts: Sequence[str], pmids: Sequence[str | None]) -> Rows:
        """(document, clue) pairs, sorted, each once; documents are numbered as they are given."""
        read = [hash_words(normal_words(text)) for text in texts]
        words = np.concatenate([np.empty(0, np.uint64), *read])
        document = np.repeat(np.arange(len(texts)), [len(one) for one in read])
        by_pmid = [
            (n, self.first_pmid + clue) for n, pmid in enumerate(pmids) for clue in self.pmids.get(pmid or "", ())
        ]
        pairs = [np.array(by_pmid, dtype=np.int64).reshape(-1, 2)]
        for length, hashes in ngrams_of_lengths(words, self.lengths):
            begins = np.where(document[: len(hashes)] == document[length - 1 :], document[: len(hashes)], -1)
            places, ranks = self.table.find(hashes)
            places, ranks = places[begins[places] >= 0], ranks[begins[places] >= 0]
            pairs.append(np.stack([document[places], ranks], axis=1))
            passages = list(self._passages_at(words, document, places, ranks))
            pairs.append(np.array(passages, dtype=np.int64).reshape(-1, 2))
            if length == EDITED_WORDS:
                pairs.append(self.edited.find(hashes, begins) + np.array([0, self.first_edited]))
        found = np.unique(np.concatenate(pairs), axis=0)
        return found[np.diff(self.owners.starts)[found[:, 1]] > 0]  # an anchor alone is no clue

    def _passages_at(self, words: Hashes, document: Rows, places: Rows, ranks: Rows) -> Iterator[tuple[int, int]]:
        for place, rank in zip(places.tolist(), ranks.tolist(), strict=True):
            for number in self.anchors.get(rank, ()):
                begin, end = np.searchsorted(document, [document[place], document[place] + 1])
                if self.passages[number].stands_at(words[begin:end], place - begin):
                    yield int(document[place]), len(self.table.hashes) + number


def normal_words(text: str) -> list[str]:
    """Runs of letters and digits, case folded, compatibility forms as plain ones, nothing invisible, no accents."""
    if text.isascii():
        return ALPHANUMERIC.findall(text.lower())
    return ALPHANUMERIC.findall(INVISIBLE.sub("", unicodedata.normalize("NFKD", text.casefold())).casefold())


def _places(around: bytes, text: bytes) -> Iterator[int]:
    """Where the words of `text` stand in `around`, in words."""
    at = around.find(text)
    while at >= 0:
        if at % WORD_BYTES == 0:
            yield at // WORD_BYTES
        at = around.find(text, at + 1)
