"""New tokens for a vocabulary: the words of a domain that a byte-level BPE tokenizer cuts into several tokens.

    word    what the tokenizer's rule for words (`pre_tokenizer`) leaves whole, with the white space before it
    pieces  the ids of the tokens that a word is cut into

A new token is a whole word, and an entry of the vocabulary without merges: a tokenizer with `ignore_merges` (as of
Llama 3) takes a word that is an entry as it is, and cuts all others as always. So for every text that there is: the new
tokens, each replaced by its pieces, are the old ones, and there are never more of them. New merges in place of words
would leave tokens on the way to longer ones that hardly occur: of 4,096 learned on trials more than half.
"""

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from tokenizers import Tokenizer

Pieces = tuple[int, ...]

BATCH_TEXTS = 64


def count_words(tokenizer: Tokenizer, texts: Iterable[str]) -> Counter[Pieces]:
    """The words of the texts that are cut into two pieces or more, and how often each occurs."""
    words: Counter[Pieces] = Counter()
    remaining = iter(texts)
    while batch := list(itertools.islice(remaining, BATCH_TEXTS)):
        for encoding in tokenizer.encode_batch(batch, add_special_tokens=False):
            words.update(_cut_words(encoding.ids, encoding.word_ids))
    return words


def choose_words(words: Mapping[Pieces, int], *, num_tokens: int, min_count: int) -> list[Pieces]:
    """The words that save most tokens, `num_tokens` at most, each counted `min_count` times or more.

    Words do not overlap, so no choice of as many saves more.
    """
    frequent = [word for word, count in words.items() if count >= min_count]
    return sorted(frequent, key=lambda word: (-words[word] * (len(word) - 1), word))[:num_tokens]


def takes_words_whole(base: Mapping[str, Any], tokenizer: Tokenizer) -> bool:
    """Whether it changes nothing for a tokenizer to take its entries as they are: each of them is one token anyhow."""
    if base["model"].get("ignore_merges"):
        return True
    added = {token["content"] for token in base.get("added_tokens") or []}
    entries = ((text, number) for text, number in base["model"]["vocab"].items() if text not in added)
    return all([one.id for one in tokenizer.model.tokenize(text)] == [number] for text, number in entries)


def with_words(base: Mapping[str, Any], words: Iterable[Pieces], first_id: int) -> dict[str, Any]:
    """The base's `tokenizer.json` with an entry for each word, numbered from `first_id`."""
    model = base["model"]
    # tokenizers counts the ids of added tokens on from the size of the model's vocabulary, unless they are in it.
    vocabulary = model["vocab"] | {token["content"]: token["id"] for token in base.get("added_tokens") or []}
    texts = {number: text for text, number in vocabulary.items()}
    new = {"".join(texts[token] for token in word): first_id + n for n, word in enumerate(words)}
    return {**base, "model": {**model, "vocab": {**vocabulary, **new}, "ignore_merges": True}}


def _cut_words(ids: Sequence[int], word_ids: Sequence[int | None]) -> Iterator[Pieces]:
    """Without special tokens every token has a word."""
    starts = np.flatnonzero(np.diff(np.array(word_ids, np.int64), prepend=-1))
    ends = np.append(starts[1:], len(ids))
    several = ends - starts > 1
    for start, end in zip(starts[several].tolist(), ends[several].tolist(), strict=True):
        yield tuple(ids[start:end])
