"""Is a text of the domain? A linear model on hashed words and pairs of words, learned from seed documents.

In: texts. Out: for each the probability that it is of the domain, for a prior of a half. The model is one array of
weights, the last of them the bias; a text is the set of its features, scaled to length 1, from its first characters.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from domainlm.tasks.quality.characters import Classes, Text, character_classes, code_points
from domainlm.tasks.quality.kernels import kernel
from domainlm.tasks.quality.words import SPREAD, hash_of_run, split_words

FEATURES = 1 << 18
SAMPLE_CHARS = 8_000
WEIGHTS = "weights.npy"
SCORE_DIGITS = 4  # the machine's own last digits are not in them

Features = NDArray[np.int32]
Ends = NDArray[np.int64]
Weights = NDArray[np.float64]


def scores(texts: pa.Array, weights: Weights) -> pa.Array:
    """The probability of each text."""
    features, ends = featurize(texts.to_pylist())
    margins = np.empty(len(ends))
    add_margins(features, ends, weights, margins)
    return pa.array(np.round(1 / (1 + np.exp(-margins)), SCORE_DIGITS))


def featurize(texts: Sequence[str]) -> tuple[Features, Ends]:
    """The distinct features of each text, one text's after the other's, and where each ends."""
    samples = [text[:SAMPLE_CHARS].lower() for text in texts]
    ends = np.cumsum([len(sample) for sample in samples], dtype=np.int64)
    features, found = np.empty(2 * sum(map(len, samples)), np.int32), np.empty(len(samples), np.int64)
    hash_features(code_points("".join(samples)), ends, character_classes(), features, found)
    return features[: found[-1] if len(found) else 0], found


def learn(features: Features, ends: Ends, labels: NDArray[np.bool_], epochs: int) -> Weights:
    """Logistic regression by AdaGrad in a fixed order; both classes weigh the same however many documents they have."""
    order = np.concatenate([np.random.default_rng(epoch).permutation(len(ends)) for epoch in range(epochs)])
    share = labels.mean()
    importance = np.where(labels, 0.5 / share, 0.5 / (1 - share))
    weights = np.zeros(FEATURES + 1)
    descend(features, ends, labels.astype(np.float64), importance, order, weights)
    return weights


def save_weights(folder: Path, weights: Weights) -> None:
    """Write the model."""
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / WEIGHTS, weights.astype(np.float32), allow_pickle=False)


def load_weights(folder: Path) -> Weights:
    """Read the model."""
    weights: Weights = np.load(folder / WEIGHTS, allow_pickle=False).astype(np.float64)
    return weights


@kernel
def hash_features(codes: Text, ends: Ends, classes: Classes, features: Features, found: Ends) -> None:
    """Fill `features` and where those of each text end."""
    room = np.int64(2)
    for i in range(len(ends)):
        room = max(room, ends[i] - (ends[i - 1] if i else 0) + 2)
    letters, begins, sums = np.empty(room, np.uint32), np.empty(room, np.int64), np.empty(room, np.uint64)
    counts = np.zeros(4, np.int64)
    seen = np.full(FEATURES, -1, np.int64)  # the last text that had a feature
    total = 0
    for i in range(len(ends)):
        text = codes[(ends[i - 1] if i else 0) : ends[i]]
        words = split_words(text, classes, letters, begins, sums, counts)
        for length in (1, 2):
            for first in range(words - length + 1):
                key = hash_of_run(begins, sums, first, first + length)
                feature = np.int64(((key ^ np.uint64(length)) * SPREAD) >> np.uint64(46))
                if seen[feature] != i:
                    seen[feature] = i
                    features[total] = feature
                    total += 1
        found[i] = total


@kernel
def margin_of(features: Features, start: int, end: int, weights: Weights) -> float:
    """The margin of one text."""
    total = 0.0
    for k in range(start, end):
        total += weights[features[k]]
    return float(weights[FEATURES] + total / math.sqrt(max(1, end - start)))


@kernel
def add_margins(features: Features, ends: Ends, weights: Weights, margins: Weights) -> None:
    """The margin of every text."""
    for i in range(len(ends)):
        margins[i] = margin_of(features, ends[i - 1] if i else 0, ends[i], weights)


@kernel
def descend(
    features: Features, ends: Ends, labels: Weights, importance: Weights, order: Ends, weights: Weights
) -> None:
    """One step of AdaGrad for each text of `order`."""
    squares = np.full(len(weights), 1e-6)
    for place in range(len(order)):
        i = order[place]
        start, end = (ends[i - 1] if i else 0), ends[i]
        scale = 1 / math.sqrt(max(1, end - start))
        margin = margin_of(features, start, end, weights)
        error = importance[i] * (1 / (1 + math.exp(-margin)) - labels[i])
        squares[FEATURES] += error * error
        weights[FEATURES] -= 0.1 * error / math.sqrt(squares[FEATURES])
        step = error * scale
        for k in range(start, end):
            feature = features[k]
            squares[feature] += step * step
            weights[feature] -= 0.1 * step / math.sqrt(squares[feature])
