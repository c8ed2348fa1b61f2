"""The quantities of a text as one digest: equal for two texts that state the very same ones, each as often.

In: a batch of texts. Out: a 64-bit hash a text. A quantity is a run of digits, wherever it stands, with its decimals,
the sign or comparison before it and the unit after it (5 mg is not 5 g, p < 0.05 is not p > 0.05), or a number in
words (once is not twice). Order and blanks do not matter: the digest is the sum of the quantities' hashes.
"""

from functools import cache
from itertools import product

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from domainlm.tasks.ngrams import Hashes
from domainlm.tasks.quality.characters import DIGIT, POINT, SPACE, WORD, Classes, Text, character_classes
from domainlm.tasks.quality.kernels import kernel
from domainlm.tasks.word_hashes import Codes, Ends, lower_case, mixed

_NUMBERS = "once twice thrice half one two three four five six seven eight nine ten eleven twelve"
_MEASURED = "mcg iu u unit units kcal mmhg hz s min h hour hours d day days week weeks month months y year years"
NUMBER_WORDS = tuple(_NUMBERS.split())
OTHER_UNITS = tuple(_MEASURED.split())
MEASURES = ("g", "l", "m", "mol", "eq", "sv", "bq", "w", "v")
MARKS, SIGNS = "%‰°", "<>=≤≥±+\u2212-"
LONGEST = 6  # letters of a unit or a number word; ten bits each fit in one number

Codewords = NDArray[np.int64]


def quantity_digests(codes: Codes) -> Hashes:
    """The digest of each text."""
    digests = np.empty(len(codes.ends), dtype=np.uint64)
    tables = _packed(NUMBER_WORDS), _packed(_units()), _points(MARKS), _points(SIGNS)
    _digest(codes.points, codes.ends, character_classes(), lower_case(), *tables, digests)
    return digests


def quantities_digest(text: str) -> int:
    """The digest of one text."""
    return int(quantity_digests(Codes.of(pa.array([text])))[0])


@cache
def _units() -> tuple[str, ...]:
    return tuple(sorted({prefix + unit for prefix, unit in product(("", *"kcmnpµμ"), MEASURES)} | set(OTHER_UNITS)))


@cache
def _packed(words: tuple[str, ...]) -> Codewords:
    codes = []
    for word in words:
        code = 0
        for letter in word:
            code = code << 10 | ord(letter)
        codes.append(code)
    return np.array(sorted(codes), dtype=np.int64)


@cache
def _points(characters: str) -> Codewords:
    return np.array(sorted(map(ord, characters)), dtype=np.int64)


@kernel
def _digest(
    points: Text,
    ends: Ends,
    classes: Classes,
    lower: Text,
    number_words: Codewords,
    units: Codewords,
    marks: Codewords,
    signs: Codewords,
    digests: Hashes,
) -> None:
    begin = np.int64(0)
    for i in range(len(ends)):
        text = points[begin : ends[i]]
        begin, at, total = ends[i], 0, np.uint64(0)
        while at < len(text):
            kind = classes[text[at]]
            if kind & DIGIT:
                end = number_end(text, classes, at)
                after = unit_end(text, classes, lower, units, marks, end)
                total += hash_quantity(text, classes, lower, signs, at, end, after)
                at = max(end, after)
            elif kind & WORD:
                end = letters_end(text, classes, at)
                starts = at == 0 or not classes[text[at - 1]] & WORD
                whole = starts and (end == len(text) or not classes[text[end]] & WORD)
                code = packed(text, lower, at, end) if whole else np.int64(0)
                if code and among(number_words, code):
                    total += mixed(np.uint64(code))
                at = end
            else:
                at += 1
        digests[i] = total


@kernel
def hash_quantity(
    text: Text, classes: Classes, lower: Text, signs: Codewords, at: int, end: int, after: int
) -> np.uint64:
    """Of the sign before `at`, the number up to `end`, and the unit up to `after`."""
    before = at - 1
    if before > 0 and classes[text[before]] & SPACE:
        before -= 1
    key = np.uint64(1)
    if before >= 0 and among(signs, np.int64(text[before])):
        key = mixed(key + np.uint64(text[before]))
    for k in range(at, max(end, after)):
        if not classes[text[k]] & SPACE:
            key = mixed(key + np.uint64(lower[text[k]]))
    return mixed(key)


@kernel
def number_end(text: Text, classes: Classes, at: int) -> int:
    """Where the number that begins at `at` ends: digits, with single marks between them."""
    size = len(text)
    while at < size and classes[text[at]] & DIGIT:
        at += 1
        if at + 1 < size and classes[text[at]] & POINT and classes[text[at + 1]] & DIGIT:
            at += 1
    return at


@kernel
def unit_end(text: Text, classes: Classes, lower: Text, units: Codewords, marks: Codewords, at: int) -> int:
    """Where the unit after `at` ends, perhaps behind one blank and with what it is per; 0 if there is none."""
    size = len(text)
    if at < size and classes[text[at]] & SPACE:
        at += 1
    if at >= size:
        return 0
    if among(marks, np.int64(text[at])):
        return at + 1
    end = letters_end(text, classes, at)
    if (end < size and classes[text[end]] & WORD) or not among(units, packed(text, lower, at, end)):
        return 0
    while end + 1 < size and text[end] == 47 and letters_end(text, classes, end + 1) > end + 1:
        end = letters_end(text, classes, end + 1)
    return end


@kernel
def letters_end(text: Text, classes: Classes, at: int) -> int:
    """Where the run of letters that begins at `at` ends."""
    while at < len(text) and classes[text[at]] & WORD and not classes[text[at]] & DIGIT:
        at += 1
    return at


@kernel
def packed(text: Text, lower: Text, at: int, end: int) -> np.int64:
    """The letters in lower case as one number; 0 if there are none or too many, or one is of another script."""
    code = np.int64(0)
    if end - at > LONGEST:
        return code
    for k in range(at, end):
        letter = np.int64(lower[text[k]])
        if letter >= 1024:
            return np.int64(0)
        code = code << 10 | letter
    return code


@kernel
def among(some: Codewords, one: np.int64) -> bool:
    """Whether a sorted array holds a number."""
    place = np.searchsorted(some, one)
    return bool(place < len(some) and some[place] == one)
