"""The lines of str.splitlines by kernels: bullets and ellipses for Gopher's quality rules, sentences for C4's.

C4 takes citations such as [12] out of each line before it looks at it, and counts the sentences of the lines that it
keeps. It looks only at lines that end in a stop, or at all: both are counted.
"""

from collections.abc import Sequence

import numpy as np

from domainlm.tasks.quality.characters import (
    BREAK,
    CAPITAL,
    CLOSER,
    DIGIT,
    ENDER,
    HINT,
    OPENER,
    SPACE,
    SYMBOL,
    Classes,
    Text,
    kernel,
)
from domainlm.tasks.quality.lines import stripped
from domainlm.tasks.quality.words import Counts

DASH, BULLET, DOT, ELLIPSIS, HASH = ord("-"), ord("•"), ord("."), ord("…"), ord("#")
BRACKET, CLOSING, CURLY_BRACKET = ord("["), ord("]"), ord("{")
RETURN, NEWLINE = ord("\r"), ord("\n")
KELVIN = 0x212A  # the one character beyond ASCII whose lower case is an ASCII letter alone: k
MIN_LINE_WORDS, MAX_WORD_CHARS = 3, 1_000  # C4's


LOREM, JAVASCRIPT, POLICY, CURLY = 1, 2, 4, 8  # what a line may hold
# Each phrase with the place of its rarest letter (`HINT`) and what it makes of the line.
PHRASES = (
    ("lorem ipsum", 7, LOREM),
    ("javascript", 2, JAVASCRIPT),
    ("terms of use", 7, POLICY),
    ("privacy policy", 3, POLICY),
    ("cookie policy", 3, POLICY),
    ("uses cookies", 8, POLICY),
    ("use of cookies", 10, POLICY),
    ("use cookies", 7, POLICY),
)
_HINTS = np.array([ord(phrase[place]) for phrase, place, _ in PHRASES], dtype=np.int64)
_HINT_PLACES = np.array([place for _, place, _ in PHRASES], dtype=np.int64)
_KINDS = np.array([kind for _, _, kind in PHRASES], dtype=np.int64)


def _codes(phrases: Sequence[str]) -> Text:
    longest = max(map(len, phrases))
    return np.array([[ord(letter) for letter in phrase.ljust(longest, "\0")] for phrase in phrases], dtype=np.uint32)


_PHRASES = _codes([phrase for phrase, _, _ in PHRASES])
_EDITS = _codes(["edit]", "citation needed]"])


@kernel
def count_sentences(text: Text, classes: Classes, line: Text, counts: Counts) -> None:
    """Go through the lines; `line` has room for the longest.

    counts: # signs, ellipses, lines, those with a bullet, those that end in an ellipsis; then, of all lines that C4
    looks at and again of those that end in a stop: sentences, lines with lorem ipsum, lines with a curly bracket.
    """
    size = len(text)
    counts[:11] = 0
    at = 0
    while at < size:
        end = at
        while end < size and not classes[text[end]] & BREAK:
            end += 1
        begin, last = stripped(text, classes, at, end)
        counts[2] += 1
        counts[3] += begin < last and (text[begin] == DASH or text[begin] == BULLET)
        counts[4] += ends_in_ellipsis(text, begin, last)
        judge_line(text[begin:last], classes, line, counts)
        at = end + 2 if end + 1 < size and text[end] == RETURN and text[end + 1] == NEWLINE else end + 1
    counts[0], counts[1] = count_symbols(text, classes)


@kernel
def count_symbols(text: Text, classes: Classes) -> tuple[int, int]:
    """The # signs, and the ellipses: each … and each three dots."""
    hashes = ellipses = dots = 0
    last_dot = -2
    for at in range(len(text)):
        if not classes[text[at]] & SYMBOL:
            continue
        letter = text[at]
        if letter == DOT:
            dots = dots + 1 if last_dot == at - 1 else 1
            last_dot = at
            if dots == 3:
                ellipses += 1
                dots = 0
        hashes += letter == HASH
        ellipses += letter == ELLIPSIS
    return hashes, ellipses


@kernel
def ends_in_ellipsis(text: Text, begin: int, end: int) -> bool:
    """Whether text[begin:end] ends in … or three dots."""
    if end > begin and text[end - 1] == ELLIPSIS:
        return True
    return end - begin >= 3 and text[end - 1] == DOT and text[end - 2] == DOT and text[end - 3] == DOT


@kernel
def judge_line(raw: Text, classes: Classes, line: Text, counts: Counts) -> None:
    """What C4 says of one line without the blanks around it: see `count_sentences`."""
    words = word = found = 0
    cited = False
    for at in range(len(raw)):
        kind = classes[raw[at]]
        if kind & SPACE:
            word = 0
            continue
        words += word == 0
        word += 1
        if word > MAX_WORD_CHARS:
            return
        if kind & HINT:
            cited |= raw[at] == BRACKET
            found |= hinted(raw, at)
    if words < MIN_LINE_WORDS:
        return
    kept = raw
    if cited:
        kept = line[: drop_citations(raw, classes, line)]
        found = 0
        for at in range(len(kept)):
            if classes[kept[at]] & HINT:
                found |= hinted(kept, at)
    finished = is_finished(kept)
    if found & LOREM:
        counts[6] += 1
        counts[9] += finished
    elif found & JAVASCRIPT:
        return
    elif found & CURLY:
        counts[7] += 1
        counts[10] += finished
    elif not found:
        sentences = sentences_of(kept, classes)
        counts[5] += sentences
        counts[8] += sentences if finished else 0


@kernel
def hinted(line: Text, at: int) -> int:
    """What the character at `at` gives away: a curly bracket, or the phrase that its letter belongs to."""
    letter = lower_case(line[at])
    if letter == CURLY_BRACKET:
        return CURLY
    found = 0
    for j in range(len(_HINTS)):
        if letter == _HINTS[j] and at >= _HINT_PLACES[j] and phrase_at(line, at - _HINT_PLACES[j], _PHRASES[j], True):
            found |= _KINDS[j]
    return found


@kernel
def drop_citations(raw: Text, classes: Classes, line: Text) -> int:
    """Copy a line without `\\[\\d*]`, `[edit]` and `[citation needed]`; returns how long it is then."""
    size = len(raw)
    at = kept = 0
    while at < size:
        if raw[at] == BRACKET:
            end = at + 1
            while end < size and classes[raw[end]] & DIGIT:
                end += 1
            if end < size and raw[end] == CLOSING:
                at = end + 1
                continue
            said = False
            for j in range(len(_EDITS)):
                length = phrase_at(raw, at + 1, _EDITS[j], False)
                if length:
                    at += 1 + length
                    said = True
                    break
            if said:
                continue
        line[kept] = raw[at]
        kept += 1
        at += 1
    return kept


@kernel
def is_finished(line: Text) -> bool:
    """Whether a line ends in `. ? ! " '` and not in three dots."""
    if len(line) == 0:
        return False
    last = line[len(line) - 1]
    stop = last == DOT or last == 63 or last == 33 or last == 34 or last == 39
    dots = len(line) >= 3 and last == DOT and line[len(line) - 2] == DOT and line[len(line) - 3] == DOT
    return stop and not dots


@kernel
def sentences_of(line: Text, classes: Classes) -> int:
    """Sentences of one line, as `tasks.words.SENTENCE_END` parts them; an empty line is one."""
    size = len(line)
    sentences, at = 1, 0
    while at < size:
        if not classes[line[at]] & ENDER:
            at += 1
            continue
        while at < size and classes[line[at]] & ENDER:
            at += 1
        after = at
        while after < size and classes[line[after]] & CLOSER:
            after += 1
        begin = after
        while begin < size and classes[line[begin]] & SPACE:
            begin += 1
        if begin == after:
            continue
        if begin < size and classes[line[begin]] & OPENER:
            begin += 1
        if begin < size and classes[line[begin]] & CAPITAL:
            sentences += 1
    return sentences


@kernel
def phrase_at(line: Text, at: int, phrase: Text, any_case: bool) -> int:
    """The length of the phrase if it stands at `at`, else 0."""
    length = 0
    while length < len(phrase) and phrase[length]:
        if at + length >= len(line):
            return 0
        letter = lower_case(line[at + length]) if any_case else line[at + length]
        if letter != phrase[length]:
            return 0
        length += 1
    return length


@kernel
def lower_case(letter: int) -> int:
    """The letter as `str.lower` has it, as far as that is ASCII."""
    if 65 <= letter <= 90:
        return letter + 32
    return 107 if letter == KELVIN else letter
