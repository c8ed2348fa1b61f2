"""Measures of texts, as the published quality rules define them: shares and numbers, with no threshold in them.

In: an Arrow array of text. Out: one Arrow array a measure, named `<rule>.<measure>`, a row a text; null where a measure
has nothing to be a share of. Each is the same number that datatrove's block compares with its threshold.
"""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from domainlm.tasks.quality.counts import COMMONEST, REPEATED, count

NUMBERS = {
    "words": "counted_words",  # that begin with a letter or a digit
    "tokens": "tokens",  # words and punctuation marks, which Gopher and FineWeb divide by
    "gopher_quality.stop_words": "stop_words",
    "c4.sentences": "sentences",
    "c4.lorem_lines": "lorem_lines",
    "c4.curly_lines": "curly_lines",
    "c4.finished_sentences": "finished_sentences",
    "c4.finished_lorem_lines": "finished_lorem_lines",
    "c4.finished_curly_lines": "finished_curly_lines",
}
SHARES = {
    "gopher_quality.mean_word_chars": ("unmarked_letters", "unmarked"),
    "gopher_quality.hashes": ("hashes", "tokens"),
    "gopher_quality.ellipses": ("ellipses", "tokens"),
    "gopher_quality.bullet_lines": ("bullet_lines", "split_lines"),
    "gopher_quality.ellipsis_lines": ("ellipsis_lines", "split_lines"),
    "gopher_quality.alphabetic": ("alphabetic", "tokens"),
    "gopher_repetition.paragraphs": ("repeated_paragraphs", "paragraphs"),
    "gopher_repetition.paragraph_chars": ("repeated_paragraph_chars", "chars"),
    "gopher_repetition.lines": ("repeated_lines", "lines"),
    "gopher_repetition.line_chars": ("repeated_line_chars", "chars"),
    **{f"gopher_repetition.top_{n}_grams": (f"top_{n}", "chars") for n in COMMONEST},
    **{f"gopher_repetition.repeated_{n}_grams": (f"repeated_{n}", "chars") for n in REPEATED},
    "fineweb.finished_lines": ("finished_lines", "full_lines"),
    "fineweb.short_lines": ("short_lines", "full_lines"),
    "fineweb.repeated_line_chars": ("repeated_full_line_chars", "line_chars"),
    "fineweb.line_breaks": ("newlines", "tokens"),
}
SCHEMA = pa.schema([pa.field(name, pa.int64()) for name in NUMBERS] + [pa.field(name, pa.float64()) for name in SHARES])


def measure(texts: pa.Array) -> Iterator[pa.Array]:
    """One array a measure, in the order of `SCHEMA`."""
    counts = count(texts)
    counts["line_chars"] = counts["chars"] - counts["newlines"]
    yield from (pa.array(counts[name]) for name in NUMBERS.values())
    yield from (_share(counts[part], counts[whole]) for part, whole in SHARES.values())


def _share(part: NDArray[np.int64], whole: NDArray[np.int64]) -> pa.Array:
    share = np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)
    return pa.array(share, mask=whole == 0)
