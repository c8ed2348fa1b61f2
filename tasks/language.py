"""The language of texts, by py3langid's model (it ships in its wheel) and a kernel that walks its automaton.

The same labels as py3langid's own `classify`, several times as fast, and summed in one order, so that the score is the
same on every machine.
"""

import math
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from py3langid.langid import MODEL_FILE, LanguageIdentifier

from domainlm.tasks.quality.characters import kernel

SAMPLE_CHARS = 1_000  # from the beginning, middle and end: a language shows in less
SCORE_DIGITS = 6


@dataclass(frozen=True)
class Model:
    """An automaton over bytes that finds features, and the log-probability of each feature by language."""

    languages: tuple[str, ...]
    moves: NDArray[np.int64]
    rows: NDArray[np.int64]
    features: NDArray[np.int64]
    weights: NDArray[np.float32]
    priors: NDArray[np.float64]


def identify(texts: pa.Array, among: tuple[str, ...]) -> tuple[pa.Array, pa.Array]:
    """The likeliest language of each text and its probability; all languages of the model if `among` is empty."""
    model = load_model(among)
    samples = [_sample(text) for text in texts.to_pylist()]
    ends = np.cumsum([len(sample) for sample in samples], dtype=np.int64)
    scores = np.tile(model.priors, (len(samples), 1))
    stream = np.frombuffer(b"".join(samples), dtype=np.uint8)
    add_scores(stream, ends, model.moves, model.rows, model.features, model.weights, scores)
    best, probability = np.empty(len(samples), dtype=np.int64), np.empty(len(samples))
    for row, sample in enumerate(samples):
        best[row], probability[row] = _decide(scores[row] / math.sqrt(len(sample) or 1), model.languages)
    names = np.array(model.languages, dtype=object)
    return pa.array(names[best], pa.string()), pa.array(np.round(probability, SCORE_DIGITS))


def known_languages() -> tuple[str, ...]:
    """Those that the model can tell apart."""
    return tuple(sorted(set(load_model(()).languages)))


@lru_cache
def load_model(among: tuple[str, ...]) -> Model:
    """The model, for all its languages or those named; raises ValueError for one that it does not know."""
    found = LanguageIdentifier.from_model_file(MODEL_FILE)
    if unknown := sorted(set(among) - set(found.nb_classes)):
        raise ValueError(f"the rule `language` does not know {', '.join(unknown)}; it knows {sorted(found.labels)}.")
    if among:
        found.set_languages(sorted(among))
    return Model(
        languages=tuple(found.nb_classes),
        moves=np.asarray(found.tk_nextmove, dtype=np.int64),
        rows=np.asarray(found.tk_row, dtype=np.int64) << 8,
        features=np.asarray(found.tk_output, dtype=np.int64),
        weights=np.ascontiguousarray(found.nb_ptc, dtype=np.float32),
        priors=np.asarray(found.nb_pc, dtype=np.float64),
    )


@kernel
def add_scores(
    stream: NDArray[np.uint8],
    ends: NDArray[np.int64],
    moves: NDArray[np.int64],
    rows: NDArray[np.int64],
    features: NDArray[np.int64],
    weights: NDArray[np.float32],
    scores: NDArray[np.float64],
) -> None:
    """Add what each sample's features say to its row of scores; a sample without any has no opinion: all 0."""
    tally = np.zeros(len(weights), np.int64)
    visited = np.empty(len(weights), np.int64)
    start = np.int64(0)
    for i in range(len(ends)):
        state, found = np.int64(0), 0
        for at in range(start, ends[i]):
            state = moves[rows[state] + stream[at]]
            feature = features[state]
            if feature >= 0:
                if tally[feature] == 0:
                    visited[found] = feature
                    found += 1
                tally[feature] += 1
        if not found:
            scores[i] = 0
        for k in range(found):
            weight = math.log1p(tally[visited[k]])
            for column in range(scores.shape[1]):
                scores[i, column] += weight * weights[visited[k], column]
            tally[visited[k]] = 0
        start = ends[i]


def _decide(scores: NDArray[np.float64], languages: tuple[str, ...]) -> tuple[int, float]:
    """The likeliest column; a language with two of them (two scripts) has both."""
    shares = np.exp(scores - scores.max())
    shares /= shares.sum()
    first: dict[str, int] = {}
    for column, language in enumerate(languages):
        home = first.setdefault(language, column)
        if home != column:
            shares[home] += shares[column]
            shares[column] = 0
    best = int(shares.argmax())
    return best, float(shares[best])


def _sample(text: str) -> bytes:
    if len(text) > 3 * SAMPLE_CHARS:
        middle = (len(text) - SAMPLE_CHARS) // 2
        starts = (0, middle, len(text) - SAMPLE_CHARS)
        text = "\n".join(text[start : start + SAMPLE_CHARS] for start in starts)
    return unicodedata.normalize("NFC", text.lower() if text.isupper() else text).encode()
