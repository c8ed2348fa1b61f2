"""Words and sentences by regular expression: what the rules count, with nothing to download.

In: text. Out: words (inner apostrophes and hyphens stay, so do the marks inside a number) with each punctuation mark
apart; sentences. `WORDS` stands in for a language wherever a datatrove block takes one, and spares it spaCy. The
kernels in `quality` find the same words and sentences, a batch at a time.
"""

import re
from itertools import pairwise

from datatrove.utils.word_tokenizers import WordTokenizer

# "β-blocker" and "patient's" are one word each, "1,200.5" too; "(p<0.05)" is "(", "p", "<", "0.05", ")".
WORD = re.compile(r"\w+(?:['\u2019\u2010\u2011-]\w+|(?<=\d)[.,·]\d+)*|[^\w\s]")
SENTENCE_END = re.compile(r"[.!?\u3002\uff01\uff1f]+[\"'\u201d\u2019)\]]*(?=\s+[\"'\u201c\u2018(\[]?[^\W_a-z])|\n+")


class RegexWordTokenizer(WordTokenizer):  # type: ignore[misc]  # datatrove ships no types
    """datatrove's tokenizer interface over the two expressions above."""

    def word_tokenize(self, text: str) -> list[str]:
        """Words and punctuation marks, in order."""
        return WORD.findall(text)

    def sent_tokenize(self, text: str) -> list[str]:
        """Sentences without the blanks around them."""
        return [text[start:end].strip() for start, end in self.span_tokenize(text)]

    def span_tokenize(self, text: str) -> list[tuple[int, int]]:
        """(start, end) of each sentence that holds more than blanks; they follow each other without a gap."""
        ends = [match.end() for match in SENTENCE_END.finditer(text)]
        bounds = [0, *(end for end in ends if end < len(text)), len(text)]
        spans = list(pairwise(bounds))
        return [(start, end) for start, end in spans if text[start:end].strip()]


WORDS = RegexWordTokenizer()
