"""Scores: numbers with intervals, computed by us from the samples of a benchmark.

accuracy               the most likely option is the answer (sum of log-likelihoods)
accuracy_per_byte      the same with each option's log-likelihood divided by its bytes
answer_bits_per_byte   bits per byte of the correct answers: fluency, lower is better
margin_over_best       bits per byte of the best distractor less those of the answer
margin_over_mean       bits per byte of the mean distractor less those of the answer: knowledge, 0 at chance
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from domainlm.eval.benchmarks import Benchmark, option_label
from domainlm.eval.intervals import percentiles, resampled_ratios, wilson
from domainlm.eval.samples import Sample

SCORE_DECIMALS = 4


@dataclass(frozen=True)
class Score:
    """One number about one model. `low` and `high` bound its 95 % interval; null where it has none."""

    benchmark: str
    metric: str
    value: float
    low: float | None
    high: float | None
    num_questions: int
    chance: float | None
    note: str


def score_benchmark(benchmark: Benchmark, samples: Sequence[Sample], seed: int) -> list[Score]:
    """All scores of one benchmark, accuracy first; warnings are in the notes of accuracy."""
    if not samples:
        raise ValueError(f"benchmark {benchmark.name} has no sample to score: was it evaluated?")
    chance = sum(1 / len(sample.option_bytes) for sample in samples) / len(samples)
    bits = [answer_bits(sample) for sample in samples]
    sizes = [float(sample.option_bytes[sample.answer]) for sample in samples]
    ones = [1.0] * len(samples)
    note = "; ".join(_warnings(benchmark, samples))
    return [
        _proportion(benchmark, "accuracy", [sample.correct for sample in samples], chance, note),
        _proportion(benchmark, "accuracy_per_byte", [correct_per_byte(sample) for sample in samples], chance),
        _ratio(benchmark, "answer_bits_per_byte", bits, sizes, seed),
        _ratio(benchmark, "margin_over_best", [margin_over_best(sample) for sample in samples], ones, seed),
        _ratio(benchmark, "margin_over_mean", [margin_over_mean(sample) for sample in samples], ones, seed, chance=0.0),
    ]


def answer_bits(sample: Sample) -> float:
    """Bits that the model needs for the correct answer."""
    return -sample.log_likelihoods[sample.answer] / math.log(2)


def correct_per_byte(sample: Sample) -> bool:
    """Whether the answer is the most likely option by the byte."""
    costs = _bits_per_byte(sample)
    return costs.index(min(costs)) == sample.answer


def margin_over_best(sample: Sample) -> float:
    """How many bits a byte the answer is cheaper than the cheapest distractor."""
    return min(_distractors(sample)) - _bits_per_byte(sample)[sample.answer]


def margin_over_mean(sample: Sample) -> float:
    """How many bits a byte the answer is cheaper than its distractors are on average."""
    distractors = _distractors(sample)
    return sum(distractors) / len(distractors) - _bits_per_byte(sample)[sample.answer]


def _bits_per_byte(sample: Sample) -> list[float]:
    pairs = zip(sample.log_likelihoods, sample.option_bytes, strict=True)
    return [-likelihood / math.log(2) / size for likelihood, size in pairs]


def _distractors(sample: Sample) -> list[float]:
    return [bits for option, bits in enumerate(_bits_per_byte(sample)) if option != sample.answer]


def _warnings(benchmark: Benchmark, samples: Sequence[Sample]) -> list[str]:
    """What a reader of the accuracy must know: a constant prediction, the best constant one, cut contexts."""
    found = []
    choices, answers = Counter(s.choice for s in samples), Counter(s.answer for s in samples)
    if len(choices) == 1 and len(samples) > 1:
        found.append(f"degenerate: always '{option_label(benchmark, next(iter(choices)))}'")
    option, times = min(answers.items(), key=lambda item: (-item[1], item[0]))
    found.append(f"always '{option_label(benchmark, option)}' would score {times / len(samples):.3f}")
    truncated = sum(sample.truncated for sample in samples)
    if truncated:
        found.append(f"{truncated} of {len(samples)} contexts were cut from the left to fit the model")
    return found


def rounded(
    benchmark: str,
    metric: str,
    value: float,
    interval: tuple[float, float] | None,
    num_questions: int,
    *,
    chance: float | None = None,
    note: str = "",
) -> Score:
    """A score to four decimals: a hundredth of a percent of the questions."""
    low, high = (None, None) if interval is None else (round(bound, SCORE_DECIMALS) for bound in interval)
    chance = None if chance is None else round(chance, SCORE_DECIMALS)
    return Score(benchmark, metric, round(value, SCORE_DECIMALS), low, high, num_questions, chance, note)


def _proportion(benchmark: Benchmark, metric: str, correct: Sequence[bool], chance: float, note: str = "") -> Score:
    num, total = len(correct), sum(correct)
    return rounded(benchmark.name, metric, total / num, wilson(total, num), num, chance=chance, note=note)


def _ratio(
    benchmark: Benchmark,
    metric: str,
    values: Sequence[float],
    sizes: Sequence[float],
    seed: int,
    *,
    chance: float | None = None,
) -> Score:
    interval = percentiles(resampled_ratios(values, sizes, seed))
    return rounded(benchmark.name, metric, sum(values) / sum(sizes), interval, len(values), chance=chance)
