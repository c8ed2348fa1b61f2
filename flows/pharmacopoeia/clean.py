"""The clean documents: what the corpus is before any noise is put in.

In: the world, a seed and a scale (1.0 is about 700,000 tokens). Out: specimens, with ids numbered in each source.
"""

from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from typing import TypeVar

from domainlm.flows.pharmacopoeia.abstracts import (
    Abstract,
    laboratory_abstract,
    review_abstract,
    safety_abstract,
    trial_abstract,
    trial_digest,
)
from domainlm.flows.pharmacopoeia.cases import case_report, ward_round
from domainlm.flows.pharmacopoeia.general import general_text
from domainlm.flows.pharmacopoeia.leaflets import counter_notes, formulary, leaflet, question_leaflet
from domainlm.flows.pharmacopoeia.specimen import Specimen
from domainlm.flows.pharmacopoeia.world import Drug, World

S = TypeVar("S")
Make = Callable[[Random], str]

# Documents at scale 1. Sheets about several drugs, where a fact has to be known and cannot be copied from further up,
# are what a small model learns the facts from; pages about one drug teach it to use them. Most of these are about the
# common drugs: with 14 question leaflets and 14 ward rounds of each drug alike, and steps of 512 tokens, a model could
# still not look up the drug that a question names after 1.4 M tokens with one seed of two: it answered 0.275 of the
# leaflets' own questions, and ended 1.000 of a formulary's lines rightly.
TRIAL_ABSTRACTS_PER_TRIAL = 2
DIGESTS_PER_TRIAL = 6
LABORATORY_ABSTRACTS_PER_DRUG = 2
SAFETY_ABSTRACTS_PER_DRUG = 2
NUM_REVIEWS = 20
LEAFLETS_PER_DRUG = 3
QUESTION_LEAFLETS_PER_DRUG = 10
QUESTION_LEAFLETS_PER_COMMON_DRUG = 37
NUM_COUNTER_NOTES = 20
NUM_FORMULARIES = 900
CASES_PER_DRUG = 3
WARD_ROUNDS_PER_DRUG = 10
WARD_ROUNDS_PER_COMMON_DRUG = 37
NUM_GENERAL = 600

DRUGS_PER_REVIEW = 5
DRUGS_PER_COUNTER = 6
DRUGS_PER_FORMULARY = 10
# A few common drugs stand on most sheets. Once a small model knows how to look these up, it learns the others fast
# (uneven data shorten that plateau: Zucchet et al. 2025).
NUM_COMMON_DRUGS = 6
COMMON_SHARE = 0.6

PREFIXES = {"abstracts": "abs", "leaflets": "lft", "case_reports": "case", "general": "gen"}
LICENSES: tuple[tuple[str, str | None], ...] = (
    ("CC-BY", "https://creativecommons.org/licenses/by/4.0/"),
    ("CC0-1.0", "https://creativecommons.org/publicdomain/zero/1.0/"),
    ("CC-BY", None),
    ("public-domain (article statement)", None),
)


def clean_specimens(world: World, *, seed: int, scale: float) -> dict[str, list[Specimen]]:
    """All clean documents of the sources that are not XML, by source."""
    makers: dict[str, list[Make]] = {
        "abstracts": _abstracts(world, scale),
        "leaflets": _leaflets(world, scale),
        "case_reports": _cases(world, scale),
        "general": [general_text] * times(NUM_GENERAL, scale),
    }
    return {
        source: [
            specimen(source, number, make(Random(f"{source}:{seed}:{number}"))) for number, make in enumerate(documents)
        ]
        for source, documents in makers.items()
    }


def specimen(source: str, number: int, text: str) -> Specimen:
    """A clean document as the `number`-th of its source; the licences that may be used take turns."""
    license_name, license_url = LICENSES[number % len(LICENSES)]
    return Specimen(source, f"{PREFIXES[source]}-{number:06d}", text, license_name, license_url)


def times(count: int, scale: float) -> int:
    """A count at a scale, never none."""
    return max(1, round(count * scale))


def _abstracts(world: World, scale: float) -> list[Make]:
    return [
        *_of_each(trial_abstract, world.trials, times(TRIAL_ABSTRACTS_PER_TRIAL, scale)),
        *_of_each(trial_digest, world.trials, times(DIGESTS_PER_TRIAL, scale)),
        *_of_each(laboratory_abstract, world.drugs, times(LABORATORY_ABSTRACTS_PER_DRUG, scale)),
        *_of_each(safety_abstract, world.drugs, times(SAFETY_ABSTRACTS_PER_DRUG, scale)),
        *_of_several(review_abstract, world.drugs, DRUGS_PER_REVIEW, times(NUM_REVIEWS, scale)),
    ]


def _leaflets(world: World, scale: float) -> list[Make]:
    return [
        *_of_each(leaflet, world.drugs, times(LEAFLETS_PER_DRUG, scale)),
        *_of_each(question_leaflet, world.drugs[:NUM_COMMON_DRUGS], times(QUESTION_LEAFLETS_PER_COMMON_DRUG, scale)),
        *_of_each(question_leaflet, world.drugs[NUM_COMMON_DRUGS:], times(QUESTION_LEAFLETS_PER_DRUG, scale)),
        *_of_several(counter_notes, world.drugs, DRUGS_PER_COUNTER, times(NUM_COUNTER_NOTES, scale)),
        *_of_several(formulary, world.drugs, DRUGS_PER_FORMULARY, times(NUM_FORMULARIES, scale)),
    ]


def _cases(world: World, scale: float) -> list[Make]:
    return [
        *_of_each(case_report, world.drugs, times(CASES_PER_DRUG, scale)),
        *_of_each(ward_round, world.drugs[:NUM_COMMON_DRUGS], times(WARD_ROUNDS_PER_COMMON_DRUG, scale)),
        *_of_each(ward_round, world.drugs[NUM_COMMON_DRUGS:], times(WARD_ROUNDS_PER_DRUG, scale)),
    ]


def _of_each(make: Callable[[Random, S], str | Abstract], subjects: Sequence[S], count: int) -> list[Make]:
    makers: list[Make] = [partial(_text, make, subject) for subject in subjects]
    return makers * count


def _of_several(
    make: Callable[[Random, Sequence[Drug]], str | Abstract], drugs: Sequence[Drug], number: int, count: int
) -> list[Make]:
    def one_of_several(rng: Random) -> str:
        return str(make(rng, _some_drugs(rng, drugs, number)))

    return [one_of_several] * count


def _some_drugs(rng: Random, drugs: Sequence[Drug], number: int) -> list[Drug]:
    """Common drugs and others, in any order."""
    common = rng.sample(drugs[:NUM_COMMON_DRUGS], min(NUM_COMMON_DRUGS, round(number * COMMON_SHARE)))
    chosen = [*common, *rng.sample(drugs[NUM_COMMON_DRUGS:], number - len(common))]
    rng.shuffle(chosen)
    return chosen


def _text(make: Callable[[Random, S], str | Abstract], subject: S, rng: Random) -> str:
    return str(make(rng, subject))
