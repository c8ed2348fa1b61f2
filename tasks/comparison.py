"""What two documents must share to say the same: word 5-grams, quantities, and what they are about.

In: text. Out: digests and sorted sets of 64-bit hashes, and the comparison of two of them.

Similar wording is not enough. Of 4,643 pairs of consumer health pages with a Jaccard similarity of 0.75 to 0.95 and
the same numbers, nearly all described two different rare diseases in the same template (a name exchanged throughout).
So a word that one document repeats and the other lacks makes them documents on two subjects.
"""

import re
from dataclasses import dataclass

import numpy as np
from xxhash import xxh3_64_intdigest

from domainlm.tasks.ngrams import Hashes, hash_ngrams, hash_words
from domainlm.tasks.words import WORD

SHINGLE_WORDS = 5
REPEATED = 2  # times that a document says a word that it is about
# Said often, about nothing in particular. Negations and words of order (not, without, before, after) stay out.
_SAID_OFTEN = (
    "a about again all also although an and any are as at be because been being both but by can could did do does "
    "each either for from had has have having how however if in into is it its may might more most of on or other our "
    "s should since so some such than that the their them then there these they this those though through thus to "
    "upon us was we were what when whereas whether which while who will with would"
)
FUNCTION_WORDS = frozenset(_SAID_OFTEN.split())

# A number with its sign, comparison and unit: 5 mg is not 5 g, p<0.05 is not p>0.05, and twice daily is not once.
_UNIT = (
    r"(?:%|‰|°|(?:[kcmnpµμ]?(?:g|l|m|mol|eq|sv|bq|w|v)|mcg|iu|u|units?|kcal|mmhg|hz"
    r"|s|min|h|hours?|d|days?|weeks?|months?|y|years?)\b)(?:/[a-zµμ²]+)*"
)
_NUMBER_WORD = r"once|twice|thrice|half|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve"
QUANTITY = re.compile(
    rf"(?:([<>=≤≥±+\u2212-])\s?)?\b(\d+(?:[.,·]\d+)*)(?:\s?({_UNIT}))?|\b({_NUMBER_WORD})\b", re.IGNORECASE
)


@dataclass(frozen=True)
class Content:
    """A document as it is compared: sorted sets of its word 5-grams, of its words, and of those that it repeats."""

    shingles: Hashes
    words: Hashes
    repeated: Hashes


def content(text: str) -> Content:
    """Hash one document; words are lower-cased, numbers stay as they are."""
    words = _words(text)
    unique, counts = np.unique(words, return_counts=True)
    says_something = ~np.isin(unique, hash_words(sorted(FUNCTION_WORDS)))
    return Content(_shingles(words), unique, unique[(counts >= REPEATED) & says_something])


def shingles(text: str) -> Hashes:
    """The sorted set of word 5-grams; of a shorter text the whole."""
    return _shingles(_words(text))


def quantities_digest(text: str) -> int:
    """Digest of all quantities of a text, however often each, whatever their order."""
    found = sorted("".join(parts).lower() for parts in QUANTITY.findall(text))
    return xxh3_64_intdigest("\n".join(found).encode())


def jaccard(a: Hashes, b: Hashes) -> float:
    """Of two sorted sets."""
    common = len(np.intersect1d(a, b, assume_unique=True))
    return common / (len(a) + len(b) - common)


def same_subject(a: Content, b: Content) -> bool:
    """Whether neither repeats a word that the other lacks."""
    return _within(a.repeated, b.words) and _within(b.repeated, a.words)


def _within(some: Hashes, others: Hashes) -> bool:
    return bool(np.isin(some, others, assume_unique=True).all())


def _words(text: str) -> Hashes:
    return hash_words([word for word in WORD.findall(text.lower()) if word[0].isalnum()])


def _shingles(words: Hashes) -> Hashes:
    hashes = hash_ngrams(words, min(SHINGLE_WORDS, len(words)))
    return np.unique(hashes) if len(hashes) else np.zeros(1, dtype=np.uint64)
