"""Is the candidate better than its base? Paired tests on the same questions, with their power.

In: two `SampleSet`s (or two `HeldOutSet`s) of the same protocol. Out: a `Comparison` with its verdict: "better",
"worse" or "cannot tell" at 5 %. Small models and small test sets often cannot be told apart: that is a result.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np

from domainlm.eval.intervals import CONFIDENCE_Z, percentiles, resampled_ratios
from domainlm.eval.samples import DocumentSample, HeldOutSet, Sample, SampleSet
from domainlm.eval.scores import answer_bits

POWER_Z = 0.841621  # 80 %
SIGNIFICANCE = 0.05
MIN_ITEMS = 6  # a sign test on five can never reach 5 %, and resampling fewer only looks certain

Verdict = Literal["better", "worse", "cannot tell"]
ItemT = TypeVar("ItemT", Sample, DocumentSample)


@dataclass(frozen=True)
class Comparison:
    """Candidate less base on the same items. `smallest_detectable` is the difference seen with 80 % power, if any."""

    benchmark: str
    metric: str
    candidate: float
    base: float
    difference: float
    low: float
    high: float
    p_value: float
    num_questions: int
    num_discordant: int | None
    smallest_detectable: float | None
    verdict: Verdict


def compare(candidate: SampleSet, base: SampleSet) -> Comparison:
    """Accuracy on the same questions: exact McNemar test, and the exact interval that belongs to it."""
    pairs = _paired_samples(candidate, base)
    num, gained = len(pairs), sum(c.correct and not b.correct for c, b in pairs)
    lost = sum(b.correct and not c.correct for c, b in pairs)
    discordant = gained + lost
    low, high, p_value = 0.0, 0.0, 1.0
    if discordant:
        from scipy.stats import binomtest  # a second that only a comparison needs

        test = binomtest(gained, discordant)
        interval, p_value = test.proportion_ci(method="exact"), float(test.pvalue)
        low, high = ((2 * share - 1) * discordant / num for share in (interval.low, interval.high))
    return Comparison(
        benchmark=candidate.benchmark,
        metric="accuracy",
        candidate=sum(c.correct for c, _ in pairs) / num,
        base=sum(b.correct for _, b in pairs) / num,
        difference=(gained - lost) / num,
        low=low,
        high=high,
        p_value=p_value,
        num_questions=num,
        num_discordant=discordant,
        smallest_detectable=smallest_detectable(num, discordant / num),
        verdict=_verdict(gained - lost, p_value),
    )


def compare_answers(candidate: SampleSet, base: SampleSet, *, seed: int = 0) -> Comparison:
    """Bits per byte of the correct answers: paired bootstrap over questions; fewer bits are better."""
    pairs = _paired_samples(candidate, base)
    bits = [(answer_bits(c), answer_bits(b)) for c, b in pairs]
    sizes = [float(c.option_bytes[c.answer]) for c, _ in pairs]
    return _compare_bits(candidate.benchmark, "answer_bits_per_byte", bits, sizes, seed)


def compare_held_out(candidate: HeldOutSet, base: HeldOutSet, *, seed: int = 0) -> Comparison:
    """Bits per byte of held-out text: paired bootstrap over documents; fewer bits are better."""
    _same_protocol(candidate.source, candidate.protocol, base.source, base.protocol)
    pairs = _paired(candidate.source, {s.doc_id: s for s in candidate.samples}, {s.doc_id: s for s in base.samples})
    bits = [(c.bits, b.bits) for c, b in pairs]
    return _compare_bits(
        f"held_out/{candidate.source}", "bits_per_byte", bits, [float(c.bytes) for c, _ in pairs], seed
    )


def smallest_detectable(num_questions: int, discordance: float) -> float | None:
    """Smallest difference in accuracy that McNemar's test finds with 80 % power at 5 % (Connor 1987).

    `discordance` is the share of questions that exactly one of the two models answers; null if no difference that it
    allows can be found.
    """

    def surplus(difference: float) -> float:
        noise = CONFIDENCE_Z * math.sqrt(discordance) + POWER_Z * math.sqrt(discordance - difference**2)
        return difference * math.sqrt(num_questions) - noise

    if discordance <= 0 or surplus(discordance) < 0:
        return None
    from scipy.optimize import brentq

    return float(brentq(surplus, 0.0, discordance))


def _compare_bits(
    name: str, metric: str, bits: Sequence[tuple[float, float]], sizes: Sequence[float], seed: int
) -> Comparison:
    differences = [candidate - base for candidate, base in bits]
    total, resamples = sum(sizes), resampled_ratios(differences, sizes, seed)
    low, high = percentiles(resamples)
    tail = min(int(np.sum(resamples <= 0)), int(np.sum(resamples >= 0)))
    p_value = min(1.0, 2 * (tail + 1) / (len(resamples) + 1)) if len(bits) >= MIN_ITEMS else 1.0
    return Comparison(
        benchmark=name,
        metric=metric,
        candidate=sum(c for c, _ in bits) / total,
        base=sum(b for _, b in bits) / total,
        difference=sum(differences) / total,
        low=low,
        high=high,
        p_value=p_value,
        num_questions=len(bits),
        num_discordant=None,
        smallest_detectable=(CONFIDENCE_Z + POWER_Z) * float(np.std(resamples)),
        verdict=_verdict(-sum(differences), p_value),
    )


def _verdict(gain: float, p_value: float) -> Verdict:
    if p_value >= SIGNIFICANCE:
        return "cannot tell"
    return "better" if gain > 0 else "worse"


def _paired_samples(candidate: SampleSet, base: SampleSet) -> list[tuple[Sample, Sample]]:
    _same_protocol(candidate.benchmark, candidate.protocol, base.benchmark, base.protocol)
    candidates = {sample.question_id: sample for sample in candidate.samples}
    return _paired(candidate.benchmark, candidates, {sample.question_id: sample for sample in base.samples})


def _same_protocol(candidate: str, candidate_protocol: str, base: str, base_protocol: str) -> None:
    if candidate != base:
        raise ValueError(f"cannot compare {candidate} with {base}: choose one benchmark for both models.")
    if candidate_protocol != base_protocol:
        raise ValueError(
            f"{candidate}: the candidate was asked by protocol {candidate_protocol[:12]}, the base by "
            f"{base_protocol[:12]}. Another file, style, limit or prompt gives other scores: evaluate the "
            "base again with the candidate's configuration."
        )


def _paired(name: str, candidate: dict[str, ItemT], base: dict[str, ItemT]) -> list[tuple[ItemT, ItemT]]:
    if not candidate or candidate.keys() != base.keys():
        only = sorted(candidate.keys() ^ base.keys())
        raise ValueError(
            f"{name}: {len(candidate)} items against {len(base)}, {len(only)} of them in one set only "
            f"({', '.join(only[:3]) or 'none'}). Evaluate both models on the same items."
        )
    return [(candidate[key], base[key]) for key in sorted(candidate)]
