"""Encoders: texts in, token ids out, by `tokenizers` or by an encoder that gives the same ids many times as fast.

`tokenizers` says what is right. `fastokens` is used where it can read the tokenizer (byte-level BPE) and agrees with
`tokenizers` on `PROBES` and, while it works, on a slice of a document for each half megabyte. Both encode text that
spells a special token as the text it is, and on one thread: a stage has as many workers as are wanted.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt
from fastokens import Tokenizer as FastTokenizer
from tokenizers import Tokenizer

from domainlm.trainer.shards import file_sha256

EncoderName = Literal["fastokens", "tokenizers"]

CHECK_BYTES = 500_000  # a slice is compared for so many bytes of text,
CHECK_CHARACTERS = 2_000  # of so many characters: 0.4 % of the text, and about a tenth of the time

PROBES = (
    "",
    " ",
    "   leading, trailing  and    inner blanks   ",
    "tabs\tand\t\tlines\r\n\r\n\n  indented\n\n\n\tmore\r",
    "It's what they've said: I'm sure we'll do, don't WE'LL?",
    "12 mg, 1205.75 mg/kg; 3,000,000 units; 2026-11-24T10:15; p<0.001; ½ ² ①",
    "snake_case camelCase SCREAMING_CASE x+=1; //--> {[(<>)]} ...!!! $5.00 50%",
    "Ünïcödé: naïve β-blocker, 0.5 µg/kg — “quoted” \u2018text\u2019…",
    "e\u0301 \u0301\u0302 a\u0308\u0304 composed é, Å and Å, ﬁ ligature",
    "中文文本。日本語のテキスト、한국어 텍스트",
    "العربية עברית हिन्दी ไทย ქართული",
    "🙂👩‍👩‍👧‍👦🏳️‍🌈 \u200b\u200d\ufeff\u00a0\u2003\u3000",
    "\x00\x01\x1f\x7f\x85 control",
    "\ud7ff\ue000\ufffd\U0010ffff",
    "a" * 300 + " " * 300 + "1" * 300 + "\n" * 300 + "-" * 300,
    "<|begin|>x<|end|> <|endoftext|><s></s><pad>[CLS][MASK]<unk>|||IP_ADDRESS|||",
)


@dataclass(frozen=True)
class Encoded:
    """Token ids of several texts, one after the other: text i is `ids[offsets[i]:offsets[i + 1]]`."""

    ids: npt.NDArray[np.uint32]
    offsets: npt.NDArray[np.int64]


class Encoder(Protocol):
    """Turns texts into token ids, without any special token."""

    def __call__(self, texts: Sequence[str]) -> Encoded:
        """The ids of every text."""
        ...


class CannotServe(ValueError):
    """The fast encoder cannot read a tokenizer, or failed on a text."""


def load_encoder(name: EncoderName, directory: Path) -> Encoder:
    """The encoder for a tokenizer's directory; kept for as long as its tokenizer.json stays the same.

    Raises:
        CannotServe: `fastokens` does not know this kind of tokenizer.
    """
    return _load(name, directory, file_sha256(directory / "tokenizer.json"))


def choose_encoder(directory: Path) -> EncoderName:
    """`fastokens` if it can read the tokenizer and gives the ids of `tokenizers` on every probe."""
    try:
        fast = load_encoder("fastokens", directory)
        agrees = not differing(fast(PROBES), load_encoder("tokenizers", directory)(PROBES))
    except CannotServe:
        return "tokenizers"
    return "fastokens" if agrees else "tokenizers"


def checked_slices(texts: Sequence[str], lengths: npt.NDArray[np.int64], before: int) -> list[str]:
    """The slices to compare, after `before` bytes: of each text in which a multiple of `CHECK_BYTES` falls."""
    ends = before + np.cumsum(lengths)
    holds_multiple = (ends - 1) // CHECK_BYTES > (ends - lengths - 1) // CHECK_BYTES
    return [_middle(texts[index]) for index in np.flatnonzero(holds_multiple).tolist()]


def differing(one: Encoded, other: Encoded) -> int:
    """How many texts have other ids in `one` than in `other`."""
    bounds = zip(one.offsets[:-1], one.offsets[1:], other.offsets[:-1], other.offsets[1:], strict=True)
    return sum(not np.array_equal(one.ids[a:b], other.ids[c:d]) for a, b, c, d in bounds)


class _Reference:
    def __init__(self, directory: Path) -> None:
        self.tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
        self.tokenizer.encode_special_tokens = True
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()

    def __call__(self, texts: Sequence[str]) -> Encoded:
        with _one_thread():
            ids = [one.ids for one in self.tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]
        offsets = np.concatenate([[0], np.cumsum([len(one) for one in ids], dtype=np.int64)])
        return Encoded(np.fromiter((token for one in ids for token in one), np.uint32, int(offsets[-1])), offsets)


class _Fast:
    def __init__(self, directory: Path) -> None:
        os.environ["FASTOKENS_BPE_THREADS"] = "1"  # looked at once, when the first text is encoded
        try:
            self.tokenizer = FastTokenizer.from_file(str(directory / "tokenizer.json"))
        except ValueError as error:
            raise CannotServe(f"fastokens cannot read {directory / 'tokenizer.json'}: {error}") from error
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()

    def __call__(self, texts: Sequence[str]) -> Encoded:
        try:
            ids, offsets = self.tokenizer.encode_batch_flat(list(texts), split_special_tokens=True)
        except ValueError as error:
            raise CannotServe(f"fastokens failed on one of {len(texts)} texts: {error}") from error
        return Encoded(np.frombuffer(ids, "<u4"), np.frombuffer(offsets, "<u8").astype(np.int64))


@lru_cache(maxsize=2)
def _load(name: EncoderName, directory: Path, digest: str) -> Encoder:
    return _Fast(directory) if name == "fastokens" else _Reference(directory)


def _middle(text: str) -> str:
    start = max(0, (len(text) - CHECK_CHARACTERS) // 2)
    return text[start : start + CHECK_CHARACTERS]


@contextmanager
def _one_thread() -> Iterator[None]:
    """Keep `tokenizers` from starting a thread a core in each of our workers, which are as many as wanted."""
    name = "TOKENIZERS_PARALLELISM"
    before = os.environ.get(name)
    os.environ[name] = "false"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
