"""Characters: a batch of texts as one array of code points, and what each code point is, as bits in one table.

The bits repeat what Python's `re` and `str` say of a character and what datatrove counts as punctuation, so that the
kernels see the same words, lines and sentences as the expressions in `tasks.words` and as datatrove's blocks.
"""

import re
import sys
from collections.abc import Callable, Iterable
from functools import cache
from typing import ParamSpec, TypeVar, cast

import numpy as np
from datatrove.utils.text import PUNCTUATION_SET, TERMINAL_PUNCTUATION
from numba import njit
from numpy.typing import NDArray

P = ParamSpec("P")
R = TypeVar("R")
Text = NDArray[np.uint32]
Classes = NDArray[np.uint16]

WORD, SPACE, DIGIT, ALPHA = 1 << 0, 1 << 1, 1 << 2, 1 << 3
ALNUM = 1 << 4
UNMARKED = 1 << 5  # not what datatrove calls punctuation
STOP = 1 << 6  # ends a line for FineWeb
BREAK = 1 << 7  # ends a line for str.splitlines
JOINER, POINT = 1 << 8, 1 << 9  # inside a word; inside a number
ENDER, CLOSER, OPENER = 1 << 10, 1 << 11, 1 << 12  # of a sentence
CAPITAL = 1 << 13  # may begin a sentence
SYMBOL = 1 << 14  # counted by Gopher: # and what ellipses are made of
HINT = 1 << 15  # a bracket, or the rarest letter of a phrase that C4 looks for

_EXPRESSIONS = {WORD: r"\w+", SPACE: r"\s+", DIGIT: r"\d+", CAPITAL: r"[^\W_a-z]+"}
_SETS: dict[int, str | set[str]] = {
    STOP: TERMINAL_PUNCTUATION,
    BREAK: "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029",
    JOINER: "'\u2019\u2010\u2011-",
    POINT: ".,·",
    ENDER: ".!?\u3002\uff01\uff1f",
    CLOSER: "\"'\u201d\u2019)]",
    OPENER: "\"'\u201c\u2018([",
    SYMBOL: "#.…",
    HINT: "[{fFkK\u212apPvV",
}


def kernel(function: Callable[P, R]) -> Callable[P, R]:
    """Compile when first called, keep the machine code on disk, run without the interpreter's lock."""
    return cast("Callable[P, R]", njit(cache=True, nogil=True)(function))


def code_points(texts: str) -> Text:
    """The code points of a text."""
    return np.frombuffer(texts.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)


@cache
def character_classes() -> Classes:
    """The bits of every code point, 2 MB."""
    every = "".join(map(chr, range(sys.maxunicode + 1)))
    classes = np.full(len(every), UNMARKED, dtype=np.uint16)
    classes[_places(PUNCTUATION_SET)] = 0
    for bit, expression in _EXPRESSIONS.items():
        classes[_places(re.findall(expression, every))] |= np.uint16(bit)
    for bit, characters in _SETS.items():
        classes[_places(characters)] |= np.uint16(bit)
    classes[_places(filter(str.isalpha, every))] |= np.uint16(ALPHA)
    classes[_places(filter(str.isalnum, every))] |= np.uint16(ALNUM)
    classes.flags.writeable = False
    return classes


def _places(characters: Iterable[str]) -> Text:
    return code_points("".join(characters))
