"""Statistics against values worked out by hand, and by simulation."""

import math

import numpy as np
import pytest

from domainlm.eval.benchmarks import Benchmark
from domainlm.eval.intervals import percentiles, resampled_ratios, wilson
from domainlm.eval.samples import DocumentSample, HeldOutSet, Sample, SampleSet
from domainlm.eval.scores import score_benchmark
from domainlm.eval.statistics import compare, compare_answers, compare_held_out, smallest_detectable


def answered(correct: list[bool], *, protocol: str = "p", name: str = "medqa", nats: float = 1.0) -> SampleSet:
    samples = [
        Sample(str(n), (-nats, -2 * nats), (4, 8), 0, 0 if right else 1, right, False)
        for n, right in enumerate(correct)
    ]
    return SampleSet(name, protocol, tuple(samples))


def held_out(bits: list[float], protocol: str = "p") -> HeldOutSet:
    return HeldOutSet("pubmed", protocol, tuple(DocumentSample(str(n), b, 100, 30) for n, b in enumerate(bits)))


def test_mcnemar_by_hand() -> None:
    # 8 gained, 1 lost: p = 2 * (C(9,0) + C(9,1)) / 2^9 = 20 / 512.
    base = answered([True] * 1 + [False] * 8 + [True] * 11)
    found = compare(answered([False] * 1 + [True] * 8 + [True] * 11), base)
    assert found.p_value == pytest.approx(20 / 512)
    assert (found.num_questions, found.num_discordant, found.verdict) == (20, 9, "better")
    assert found.difference == pytest.approx(7 / 20)
    assert 0 < found.low < found.difference < found.high <= 9 / 20
    assert compare(base, answered([False] * 1 + [True] * 8 + [True] * 11)).verdict == "worse"


def test_seven_of_eight_cannot_tell_and_equal_models_cannot_either() -> None:
    # 7 gained, 1 lost: p = 2 * 9 / 2^8 = 0.0703.
    found = compare(answered([False] + [True] * 7), answered([True] + [False] * 7))
    assert found.p_value == pytest.approx(18 / 256)
    assert found.verdict == "cannot tell"
    assert found.low < 0 < found.high
    same = compare(answered([True, False]), answered([True, False]))
    assert (same.p_value, same.difference, same.smallest_detectable, same.verdict) == (1.0, 0.0, None, "cannot tell")


def test_smallest_detectable_differences_are_the_published_ones() -> None:
    assert smallest_detectable(1273, 0.2) == pytest.approx(0.035, abs=5e-4)
    assert smallest_detectable(500, 0.2) == pytest.approx(0.056, abs=5e-4)
    assert smallest_detectable(4, 0.01) is None


def test_the_smallest_detectable_difference_is_detected_four_times_in_five() -> None:
    num, discordance, generator = 500, 0.2, np.random.default_rng(0)
    difference = smallest_detectable(num, discordance)
    assert difference is not None
    p_gain, p_loss = (discordance + difference) / 2, (discordance - difference) / 2
    found = []
    for _ in range(200):
        outcome = generator.choice(3, size=num, p=[p_gain, p_loss, 1 - discordance])
        pair = compare(answered((outcome != 1).tolist()), answered((outcome != 0).tolist()))
        found.append(pair.verdict == "better")
    assert 0.7 < np.mean(found) < 0.86  # the exact test is a little conservative


def test_two_models_of_one_skill_are_called_different_at_most_one_time_in_twenty() -> None:
    generator = np.random.default_rng(1)
    called = []
    for _ in range(200):
        one, two = (generator.random((2, 300)) < 0.5).tolist()
        called.append(compare(answered(one), answered(two)).verdict != "cannot tell")
    assert np.mean(called) < 0.07


def test_paired_bits_find_what_the_unpaired_intervals_hide() -> None:
    generator = np.random.default_rng(2)
    base = generator.normal(300, 100, 60).clip(50)
    found = compare_held_out(held_out((base - 3).tolist()), held_out(base.tolist()))
    assert found.verdict == "better"
    assert found.difference == pytest.approx(-0.03)
    unpaired = percentiles(resampled_ratios(base.tolist(), [100.0] * 60, 0))
    assert unpaired[1] - unpaired[0] > 10 * 0.03
    noise = generator.normal(0, 30, 60)
    noise -= noise.mean()
    assert compare_held_out(held_out((base + noise).tolist()), held_out(base.tolist())).verdict == "cannot tell"


def test_a_handful_of_texts_can_tell_nothing() -> None:
    """One text has an interval of no width, which must not pass for certainty."""
    few = compare_held_out(held_out([100.0] * 5), held_out([200.0] * 5))
    assert (few.verdict, few.p_value) == ("cannot tell", 1.0)
    assert compare_held_out(held_out([100.0] * 6), held_out([200.0] * 6)).verdict == "better"


def test_bits_of_the_answers_are_compared_by_the_byte() -> None:
    found = compare_answers(answered([True] * 30, nats=1.0), answered([True] * 30, nats=2.0))
    assert found.candidate == pytest.approx(1 / math.log(2) / 4)
    assert (found.difference, found.verdict) == (pytest.approx(-1 / math.log(2) / 4), "better")


def test_sets_that_were_not_asked_the_same_are_refused() -> None:
    base = answered([True, False])
    with pytest.raises(ValueError, match="cannot compare pubmedqa with medqa"):
        compare(answered([True, False], name="pubmedqa"), base)
    with pytest.raises(ValueError, match="the candidate was asked by protocol other"):
        compare(answered([True, False], protocol="other"), base)
    with pytest.raises(ValueError, match="medqa: 3 items against 2, 1 of them in one set only"):
        compare(answered([True, False, True]), base)
    with pytest.raises(ValueError, match="protocol"):
        compare_held_out(held_out([1.0], "a"), held_out([1.0], "b"))


def test_wilson_interval_by_hand() -> None:
    # 10 of 20: centre 0.5, half width 1.96 / (1 + 0.19207) * sqrt(0.0125 + 0.0024009).
    assert wilson(10, 20) == (pytest.approx(0.2993, abs=1e-4), pytest.approx(0.7007, abs=1e-4))
    assert wilson(0, 20)[0] == 0.0
    assert wilson(20, 20)[1] == 1.0


def test_the_bootstrap_covers_the_mean_and_repeats_itself() -> None:
    generator = np.random.default_rng(3)
    covered = []
    for n in range(100):
        low, high = percentiles(resampled_ratios(generator.normal(2, 1, 80).tolist(), [1.0] * 80, n))
        covered.append(low < 2 < high)
    assert np.mean(covered) >= 0.88
    assert np.array_equal(resampled_ratios([1.0, 2.0], [1.0, 1.0], 0), resampled_ratios([1.0, 2.0], [1.0, 1.0], 0))


def test_scores_of_two_questions_by_hand() -> None:
    ln2 = math.log(2)
    samples = [
        Sample("a", (-4 * ln2, -6 * ln2, -9 * ln2), (2, 6, 3), 0, 0, True, False),  # 2, 1, 3 bits a byte
        Sample("b", (-8 * ln2, -6 * ln2, -3 * ln2), (2, 6, 3), 2, 1, False, True),  # 4, 1, 1
    ]
    scores = {score.metric: score for score in score_benchmark(Benchmark("p", "pubmedqa", "f"), samples, 0)}
    assert {metric: score.value for metric, score in scores.items()} == pytest.approx(
        {
            "accuracy": 0.5,
            "accuracy_per_byte": 0.5,
            "answer_bits_per_byte": (4 + 6) / (2 + 6),
            "margin_over_best": ((1 - 2) + (1 - 1)) / 2,
            "margin_over_mean": ((2 - 2) + (2.5 - 1)) / 2,
        },
        abs=1e-4,
    )
    assert scores["accuracy"].chance == pytest.approx(1 / 3, abs=1e-4)
    assert (
        scores["accuracy"].note
        == "always 'yes' would score 0.500; 1 of 2 contexts were cut from the left to fit the model"
    )
