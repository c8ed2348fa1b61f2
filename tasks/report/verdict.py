"""The verdict: is the model better than its base? From the samples of two evaluations, by `eval.statistics`.

In: two sealed evaluations of the same questions and texts. Out: `Verdict`, with every number behind it.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from domainlm.eval.samples import read_held_out, read_samples
from domainlm.eval.scores import Score
from domainlm.eval.statistics import Comparison, compare, compare_answers, compare_held_out
from domainlm.tasks.store import Sealed
from domainlm.trainer import strict

Outcome = Literal["better", "worse", "mixed", "cannot tell", "not asked"]


@dataclass(frozen=True)
class ScorePair:
    """One number about the model, and the same about its base."""

    benchmark: str
    metric: str
    model: Score
    base: Score


@dataclass(frozen=True)
class Verdict:
    """What the tests say of the model against its base; each at 5 %, so one in twenty errs."""

    base: Literal["untrained twin", "first weights"]
    questions: Outcome
    """By accuracy, over the benchmarks."""
    text: Outcome
    """By bits per byte, over the sources of held-out text."""
    comparisons: tuple[Comparison, ...]

    def by_metric(self, metric: str) -> tuple[Comparison, ...]:
        """The comparisons by one metric."""
        return tuple(one for one in self.comparisons if one.metric == metric)

    @property
    def overall(self) -> Outcome:
        """The questions decide; the text does where no question was asked."""
        return self.text if self.questions == "not asked" else self.questions


def judge(model: Sealed, base: Sealed) -> Verdict:
    """Compare everything that both were asked."""
    benchmarks = _suffixes(model, "benchmark.")
    pairs = [(read_samples(model.path, name), read_samples(base.path, name)) for name in benchmarks]
    texts = [
        compare_held_out(read_held_out(model.path, name), read_held_out(base.path, name))
        for name in _suffixes(model, "held_out.")
    ]
    answered = [compare(*pair) for pair in pairs]
    untrained = base.manifest.config["weights"] == "untrained"
    return Verdict(
        base="untrained twin" if untrained else "first weights",
        questions=outcome(answered),
        text=outcome(texts),
        comparisons=(*answered, *(compare_answers(*pair) for pair in pairs), *texts),
    )


def outcome(comparisons: Iterable[Comparison]) -> Outcome:
    """One word for several comparisons: a gain and a loss do not cancel out, and "cannot tell" weighs nothing."""
    said = {one.verdict for one in comparisons}
    if {"better", "worse"} <= said:
        return "mixed"
    for word in ("better", "worse", "cannot tell"):
        if word in said:
            return word
    return "not asked"


def score_pairs(model: Sealed, base: Sealed) -> tuple[ScorePair, ...]:
    """The scores of both, side by side, in the order of the recipe. Raises ValueError where one has others."""
    scores = {_name(score): score for score in read_scores(base)}
    found = read_scores(model)
    if {_name(score) for score in found} != set(scores):
        raise ValueError(
            f"{model.path.name} and {base.path.name} have other benchmarks or held-out texts. Evaluate both with the "
            "same recipe."
        )
    return tuple(ScorePair(score.benchmark, score.metric, score, scores[_name(score)]) for score in found)


def read_scores(sealed: Sealed) -> list[Score]:
    """The scores of a sealed evaluation."""
    return [strict.parse(Score, entry) for entry in json.loads((sealed.path / "scores.json").read_text())]


def _name(score: Score) -> tuple[str, str]:
    return score.benchmark, score.metric


def _suffixes(sealed: Sealed, prefix: str) -> list[str]:
    return sorted(name.removeprefix(prefix) for name in sealed.manifest.inputs if name.startswith(prefix))
