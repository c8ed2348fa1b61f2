"""All counts of a batch of texts: one row a text, one column a count, by the kernels beside this file.

In: an Arrow array of text. Out: a `Counts` matrix whose columns are named by `NAMES`. Working memory is about 20 times
the longest text, whatever the number of texts; `measure` is given batches that are bounded in bytes.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from domainlm.tasks.quality.characters import Classes, Text, character_classes, code_points, kernel
from domainlm.tasks.quality.lines import count_lines, count_paragraphs
from domainlm.tasks.quality.ngrams import commonest_ngram_chars, repeated_ngram_chars
from domainlm.tasks.quality.sentences import count_sentences
from domainlm.tasks.quality.words import Counts, number_words, split_words

COMMONEST, REPEATED = (2, 3, 4), (5, 6, 7, 8, 9, 10)  # words of the n-grams that Gopher looks at (table A1)
NAMES = (
    *("chars", "tokens", "stop_words", "counted_words", "alphabetic", "unmarked", "unmarked_letters"),
    *(f"top_{n}" for n in COMMONEST),
    *(f"repeated_{n}" for n in REPEATED),
    *("lines", "repeated_lines", "repeated_line_chars"),
    *("full_lines", "finished_lines", "short_lines", "repeated_full_line_chars", "newlines"),
    *("paragraphs", "repeated_paragraphs", "repeated_paragraph_chars"),
    *("hashes", "ellipses", "split_lines", "bullet_lines", "ellipsis_lines"),
    *("sentences", "lorem_lines", "curly_lines"),
    *("finished_sentences", "finished_lorem_lines", "finished_curly_lines"),
)
_WORDS, _NGRAMS, _LINES, _PARAGRAPHS, _SENTENCES = (
    NAMES.index(name) for name in ("counted_words", "top_2", "lines", "paragraphs", "hashes")
)


def count(texts: pa.Array) -> dict[str, NDArray[np.int64]]:
    """The counts of each text, by name."""
    codes = code_points("".join(texts.to_pylist()))
    ends = np.cumsum(pc.utf8_length(texts).to_numpy(zero_copy_only=False).astype(np.int64))
    matrix = np.zeros((len(texts), len(NAMES)), dtype=np.int64)
    count_texts(codes, ends, character_classes(), matrix)
    return {name: matrix[:, column] for column, name in enumerate(NAMES)}


@kernel
def count_texts(codes: Text, ends: Counts, classes: Classes, matrix: Counts) -> None:
    """Fill the matrix, a row a text."""
    longest = np.int64(0)
    for i in range(len(ends)):
        longest = max(longest, ends[i] - (ends[i - 1] if i else 0))
    room = longest + 2
    slots_room = 16
    while slots_room < 2 * room:
        slots_room *= 2
    letters, line = np.empty(room, np.uint32), np.empty(room, np.uint32)
    begins, starts, stops = np.empty(room, np.int64), np.empty(room, np.int64), np.empty(room, np.int64)
    sums = np.empty(room, np.uint64)
    numbers, shorter, longer = np.empty(room, np.int32), np.empty(room, np.int32), np.empty(room, np.int32)
    tally = np.empty(room, np.int32)
    slots, keys = np.empty(slots_room, np.int32), np.empty(slots_room, np.uint64)
    for i in range(len(ends)):
        text = codes[(ends[i - 1] if i else 0) : ends[i]]
        row = matrix[i]
        words = split_words(text, classes, letters, begins, sums, row[_WORDS:])
        row[0], row[1] = len(text), words
        row[2] = number_words(words, letters, begins, sums, numbers, slots)
        column = _NGRAMS
        shorter[:words] = numbers[:words]
        for n in COMMONEST:
            row[column] = commonest_ngram_chars(words, n, begins, numbers, shorter, longer, slots, tally)
            shorter, longer = longer, shorter
            column += 1
        for n in REPEATED:
            row[column] = repeated_ngram_chars(words, n, letters, begins, sums, slots, keys)
            column += 1
        count_lines(text, classes, starts, stops, slots, keys, row[_LINES:])
        count_paragraphs(text, classes, starts, stops, slots, keys, row[_PARAGRAPHS:])
        count_sentences(text, classes, line, row[_SENTENCES:])
