"""Texts to measure on: the real ones of the directory `realdata`, and synthetic ones of any size."""

import gzip
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

SOURCES = {
    "trials": "biomed/pmc_rct-*",
    "plos": "biomed/plos_starter",
    "medquad": "biomed/medquad",
    "anatomy textbook": "biomed/openstax_anatomy*",
    "psychology textbook": "general/openstax_psychology",
    "history textbook": "general/openstax_us_history",
    "philosophy textbook": "general/openstax_introduction_philosophy",
    "rust book": "general/rust_book",
    "wikitext-2": "general/wikitext2*",
    "DC Code": "other/legal_dc_code",
    "EDGAR contracts": "other/legal_edgar_contracts",
    "10-K filings": "other/finance_sec_10k",
}


@dataclass(frozen=True)
class Corpus:
    """The documents of one source."""

    name: str
    texts: tuple[str, ...]


def real_corpora(realdata: Path) -> list[Corpus]:
    """The sources of `realdata`; without them the program ends and says so."""
    found = []
    for name, pattern in SOURCES.items():
        files = sorted(realdata.glob(f"{pattern}.jsonl.gz"))
        if not files:
            sys.exit(f"{realdata} has no {pattern}.jsonl.gz: this benchmark needs the real text (--realdata DIR).")
        found.append(Corpus(name, tuple(text for file in files for text in _texts(file))))
    return found


def sample(texts: Sequence[str], max_bytes: int) -> list[str]:
    """Texts from all over a corpus, up to so many bytes, at least one."""
    order = sorted(range(len(texts)), key=lambda number: number * 7_919 % len(texts) if len(texts) > 1 else 0)
    chosen: list[int] = []
    size = 0
    for number in order:
        size += len(texts[number].encode())
        if chosen and size > max_bytes:
            break
        chosen.append(number)
    return [texts[number] for number in sorted(chosen)]


def synthetic_corpus(*, megabytes: int, seed: int) -> list[str]:
    """Documents of invented words in sentences and lines: words as uneven as in English, lengths as of web pages."""
    draw = np.random.default_rng(seed)
    letters = np.array(list("etaoinshrdlucmfwypvbgkjqxz"))
    shapes = 1 / np.arange(1, 27)
    lengths = draw.integers(1, 11, size=30_000)
    drawn = draw.choice(letters, size=int(lengths.sum()), p=shapes / shapes.sum())
    words = np.array(["".join(word) for word in np.split(drawn, np.cumsum(lengths)[:-1])])
    words[:8] = ("the", "of", "and", "to", "with", "that", "be", "have")
    texts, size = [], 0
    while size < megabytes * 1_000_000:
        chosen = words[np.minimum(draw.zipf(1.2, size=int(draw.lognormal(6, 1)) + 20), len(words)) - 1]
        marks = draw.choice(["", "", "", "", "", "", "", "", ",", ". The", ".\n"], size=len(chosen))
        texts.append(" ".join(np.char.add(chosen, marks)) + ".")
        size += len(texts[-1])
    return texts


def _texts(file: Path) -> list[str]:
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        return [json.loads(line)["text"] for line in lines]
