"""Words of one text by a kernel: what `tasks.words.WORD` finds, with what Gopher's rules count of them.

The letters of all words lie one after the other in `letters`; word i is letters[begins[i]:begins[i + 1]]. sums[i] is
the hash of all letters before word i (a polynomial in BASE modulo 2^64, highest power first), so that any run of words
has its hash in a few operations: see `hash_of_run`.
"""

import numpy as np
from numpy.typing import NDArray

from domainlm.tasks.quality.characters import (
    ALNUM,
    ALPHA,
    DIGIT,
    JOINER,
    POINT,
    SPACE,
    UNMARKED,
    WORD,
    Classes,
    Text,
    kernel,
)

Counts = NDArray[np.int64]
Places = NDArray[np.int64]
Hashes = NDArray[np.uint64]
Slots = NDArray[np.int32]

BASE = np.uint64(0x9E3779B97F4A7C15)
SPREAD = np.uint64(0xD6E8FEB86659FD93)
POWERS = np.array([pow(int(BASE), k, 1 << 64) for k in range(512)], dtype=np.uint64)

# Of datatrove's GopherQualityFilter, as four ASCII codes in one number.
STOP_WORDS = np.array(
    [int.from_bytes(word.encode(), "little") for word in ("the", "be", "to", "of", "and", "that", "have", "with")],
    dtype=np.int64,
)


@kernel
def split_words(text: Text, classes: Classes, letters: Text, begins: Places, sums: Hashes, counts: Counts) -> int:
    """Fill the arrays and return the number of words and marks.

    counts: words that begin with a letter or digit; with a letter; that are no mark; the letters of the latter.
    """
    counted = alphabetic = unmarked = unmarked_letters = 0
    words = place = at = 0
    total = np.uint64(0)
    while at < len(text):
        first = classes[text[at]]
        if first & SPACE:
            at += 1
            continue
        begins[words], sums[words] = place, total
        end = word_end(text, classes, at) if first & WORD else at + 1
        seen = 0
        for k in range(at, end):
            letter = text[k]
            seen |= classes[letter]
            letters[place] = letter
            place += 1
            total = total * BASE + np.uint64(letter)
        counted += (first & ALNUM) != 0
        alphabetic += (seen & ALPHA) != 0
        if seen & UNMARKED:
            unmarked += 1
            unmarked_letters += end - at
        at = end
        words += 1
    begins[words], sums[words] = place, total
    counts[0], counts[1], counts[2], counts[3] = counted, alphabetic, unmarked, unmarked_letters
    return words


@kernel
def hash_of_run(begins: Places, sums: Hashes, first: int, after: int) -> np.uint64:
    """The hash of the letters of words first..after-1."""
    length = begins[after] - begins[first]
    if length < len(POWERS):
        return np.uint64(sums[after] - sums[first] * POWERS[length])
    power = np.uint64(1)
    square = BASE
    while length:
        if length & 1:
            power *= square
        square *= square
        length >>= 1
    return np.uint64(sums[after] - sums[first] * power)


@kernel
def word_end(text: Text, classes: Classes, at: int) -> int:
    """Where the word that begins at `at` ends: `\\w+(?:[joiner]\\w+|(?<=\\d)[point]\\d+)*`."""
    size = len(text)
    while at < size and classes[text[at]] & WORD:
        at += 1
    while at + 1 < size:
        kind, after = classes[text[at]], classes[text[at + 1]]
        if kind & JOINER and after & WORD:
            inner = WORD
        elif kind & POINT and after & DIGIT and classes[text[at - 1]] & DIGIT:
            inner = DIGIT
        else:
            break
        at += 2
        while at < size and classes[text[at]] & inner:
            at += 1
    return at


@kernel
def same_letters(letters: Text, one: int, other: int, length: int) -> bool:
    """Whether `length` letters from `one` are those from `other`."""
    for k in range(length):  # noqa: SIM110  # compiled: a loop is what is meant
        if letters[one + k] != letters[other + k]:
            return False
    return True


@kernel
def clear_slots(slots: Slots, entries: int) -> int:
    """Empty a hash table for so many entries; returns how far a hash is shifted to be one of its slots."""
    bits = 4
    while (1 << bits) < 2 * entries:
        bits += 1
    slots[: 1 << bits] = -1
    return 64 - bits


@kernel
def slot_of(key: np.uint64, shift: int) -> int:
    """The slot that a hash belongs to."""
    return int(np.int64((key * SPREAD) >> np.uint64(shift)))


@kernel
def number_words(words: int, letters: Text, begins: Places, sums: Hashes, numbers: Slots, slots: Slots) -> int:
    """Give each word the place of its first occurrence as its number; returns how many of the stop words occur."""
    shift = clear_slots(slots, words)
    mask = (1 << (64 - shift)) - 1
    stop_words = 0
    for i in range(words):
        begin, length = begins[i], begins[i + 1] - begins[i]
        slot = slot_of(hash_of_run(begins, sums, i, i + 1), shift)
        while True:
            found = slots[slot]
            if found < 0:
                slots[slot] = numbers[i] = i
                stop_words |= stop_word(letters, begin, length)
                break
            if begins[found + 1] - begins[found] == length and same_letters(letters, begins[found], begin, length):
                numbers[i] = found
                break
            slot = (slot + 1) & mask
    occurring = 0
    for j in range(len(STOP_WORDS)):
        occurring += (stop_words >> j) & 1
    return occurring


@kernel
def stop_word(letters: Text, begin: int, length: int) -> int:
    """The bit of the stop word, or 0."""
    if length > 4:
        return 0
    code = np.int64(0)
    for k in range(length):
        if letters[begin + k] > 127:
            return 0
        code |= np.int64(letters[begin + k]) << (8 * k)
    for j in range(len(STOP_WORDS)):
        if STOP_WORDS[j] == code:
            return 1 << j
    return 0
