"""Lines and paragraphs of one text by kernels: what Gopher's and FineWeb's rules count of them.

Three ideas of a line are at work. Gopher's repetition rules split at runs of \\n, FineWeb at each \\n and skips blank
lines; both see the same segments between \\n, but for blank ones. Gopher's quality rules and C4 split as
str.splitlines does (`sentences`).
"""

import numpy as np

from domainlm.tasks.quality.characters import SPACE, STOP, Classes, Text, kernel
from domainlm.tasks.quality.words import SPREAD, Counts, Hashes, Places, Slots, clear_slots, same_letters, slot_of

NEWLINE = 10
SHORT_LINE_CHARS = 30  # FineWeb's


@kernel
def count_lines(
    text: Text, classes: Classes, starts: Places, ends: Places, slots: Slots, keys: Hashes, counts: Counts
) -> None:
    """Segments between \\n.

    counts: Gopher's lines, repeated ones, their characters; FineWeb's lines, finished, short, characters of repeated
    ones; all \\n.
    """
    size = len(text)
    segments = newlines = start = 0
    for at in range(size + 1):
        if at == size or text[at] == NEWLINE:
            newlines += at < size
            if at > start:
                starts[segments], ends[segments] = start, at
                segments += 1
            start = at + 1
    # A text that begins (ends) with \n has an empty first (last) line for Gopher.
    outer = (size > 0 and text[0] == NEWLINE) + (size > 0 and text[size - 1] == NEWLINE)
    lines, repeated, repeated_chars = segments + outer, int(outer == 2), 0
    full = finished = short = full_repeated_chars = 0
    shift = clear_slots(slots, segments)
    for i in range(segments):
        begin, end = starts[i], ends[i]
        length = end - begin
        seen = seen_before(text, starts, ends, i, shift, slots, keys)
        if seen:
            repeated += 1
            repeated_chars += length
        if not is_blank(text, classes, begin, end):
            full += 1
            finished += (classes[text[end - 1]] & STOP) != 0
            short += length <= SHORT_LINE_CHARS
            if seen:
                full_repeated_chars += length
    counts[0], counts[1], counts[2] = lines, repeated, repeated_chars
    counts[3], counts[4], counts[5], counts[6] = full, finished, short, full_repeated_chars
    counts[7] = newlines


@kernel
def count_paragraphs(
    text: Text, classes: Classes, starts: Places, ends: Places, slots: Slots, keys: Hashes, counts: Counts
) -> None:
    """Paragraphs between two or more \\n, without the blanks around the text.

    counts: paragraphs, repeated ones, their characters.
    """
    first, last = stripped(text, classes, 0, len(text))
    paragraphs, at, start = 0, first, first
    while at < last:
        if text[at] != NEWLINE:
            at += 1
            continue
        run = at
        while at < last and text[at] == NEWLINE:
            at += 1
        if at - run > 1:
            starts[paragraphs], ends[paragraphs] = start, run
            paragraphs += 1
            start = at
    starts[paragraphs], ends[paragraphs] = start, last
    paragraphs += 1
    repeated = repeated_chars = 0
    if paragraphs > 1:
        shift = clear_slots(slots, paragraphs)
        for i in range(paragraphs):
            if seen_before(text, starts, ends, i, shift, slots, keys):
                repeated += 1
                repeated_chars += ends[i] - starts[i]
    counts[0], counts[1], counts[2] = paragraphs, repeated, repeated_chars


@kernel
def seen_before(text: Text, starts: Places, ends: Places, i: int, shift: int, slots: Slots, keys: Hashes) -> bool:
    """Whether segment i equals one that was asked about before; it is remembered if not."""
    begin, length = starts[i], ends[i] - starts[i]
    key = hash_of(text, begin, ends[i])
    mask = (1 << (64 - shift)) - 1
    slot = slot_of(key, shift)
    while slots[slot] >= 0:
        if keys[slot] == key:
            other = slots[slot]
            if ends[other] - starts[other] == length and same_letters(text, starts[other], begin, length):
                return True
        slot = (slot + 1) & mask
    slots[slot], keys[slot] = i, key
    return False


@kernel
def hash_of(text: Text, begin: int, end: int) -> np.uint64:
    """A hash of text[begin:end], three code points (of 21 bits each) at a time."""
    key = np.uint64(end - begin)
    at = begin
    while at + 2 < end:
        three = (
            np.uint64(text[at])
            | (np.uint64(text[at + 1]) << np.uint64(21))
            | (np.uint64(text[at + 2]) << np.uint64(42))
        )
        key = (key ^ three) * SPREAD
        key ^= key >> np.uint64(32)
        at += 3
    while at < end:
        key = (key ^ np.uint64(text[at])) * SPREAD
        key ^= key >> np.uint64(32)
        at += 1
    return key


@kernel
def is_blank(text: Text, classes: Classes, begin: int, end: int) -> bool:
    """Whether text[begin:end] is nothing but blanks."""
    for at in range(begin, end):  # noqa: SIM110  # compiled: a loop is what is meant
        if not classes[text[at]] & SPACE:
            return False
    return True


@kernel
def stripped(text: Text, classes: Classes, begin: int, end: int) -> tuple[int, int]:
    """The bounds of text[begin:end] without the blanks around it; as str.strip."""
    while begin < end and classes[text[begin]] & SPACE:
        begin += 1
    while end > begin and classes[text[end - 1]] & SPACE:
        end -= 1
    return begin, end
