"""Abstracts: trials, laboratory studies, safety studies and reviews, in four labelled sections.

In: the world and a random generator for each document. Out: sections (label, text); `str` joins them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from domainlm.flows.pharmacopoeia.grammar import say, say_some
from domainlm.flows.pharmacopoeia.statements import (
    CONCLUSIONS,
    EFFECT,
    FACTS,
    FOOD,
    INDICATION,
    MECHANISM,
    RESULTS,
    TEST,
    TRIAL_QUESTIONS,
)
from domainlm.flows.pharmacopoeia.world import ATTRIBUTES, Drug, Trial

TRIAL_TITLES = (
    "[a|one] [placebo-controlled|blinded|pragmatic] trial of {drug} in {disease}",
    "{disease} and {drug}: [results from|a trial in] {town}",
    "treating {disease} with {drug} for {weeks} weeks",
    "the {town} trial of {drug} [against|in] {disease}",
)
BACKGROUND = (
    "[evidence|knowledge] on {disease} is [thin|scattered|old].",
    "few [good|careful] studies of {disease} have been done outside {town}.",
    "{disease} [keeps people from work|spoils sleep|wears families out] and has no cure.",
    "[earlier reports|letters|small series] from {town} were hard to read together.",
    "a [larger|longer|better] study was [asked for|called for] by the clinics of {town}.",
    "the [question|matter] had been [open|argued over] since {year}.",
    "physicians and specialists [disagree|were divided], and guidelines are [old|silent].",
    "[practice|care] varies widely, and [households|individuals] who suffer from {disease} [are offered little|deserve "
    "more].",
    "the role of {drug} has been [proposed|debated] for a decade.",
)
METHODS = (
    "we [assigned|allotted] {n} [adults|patients|outpatients] with {disease} to {drug} or placebo.",
    "{n} people with {disease} took {drug} at {dose} mg or placebo for {weeks} weeks.",
    "the [main|primary] outcome was a diary score after {weeks} weeks.",
    "[visits|interviews] took place every {few} weeks at the [infirmary|clinic] of {town}.",
    "neither the [nurses|doctors] nor the patients knew [the arm|who took what].",
    "the dose was {dose} mg [once a day|at bedtime|with breakfast].",
    "[analysis|counting] followed the arm that each person was first given.",
    "[those|people] under {age} years of age and people with kidney trouble were [left out|not asked].",
    "participants (n = {n}) were [randomised|enrolled] in a [multicentre|double-blind] study of therapy with {drug}.",
    "we compared participants given {drug} with controls, who received an identical placebo daily.",
    "the total score at the final assessment was [compared|read] in a double-blind fashion.",
)
LAB_TITLES = (
    "[how|in what way] {drug} acts: [binding|tissue] work from {town}",
    "[a note|observations] on the [action|pharmacology] of {drug}",
    "{drug}, one of the {cls}: [action|mechanism] and [kinetics|binding]",
)
LAB_METHODS = (
    "we [bathed|washed] {few} slices of tissue in [rising|falling] amounts of {drug}.",
    "{n} samples from {town} were [read|measured] by two people who did not confer.",
    "volunteers swallowed {dose} mg and gave blood [each hour|at dawn and dusk].",
    "[currents|signals] were [recorded|traced] for {weeks} minutes at body warmth.",
    "[each|every] experiment was repeated on {few} days with fresh solutions.",
)
LAB_RESULTS = (
    "half of the effect was reached at {dose} [nanomolar|units].",
    "[washing|rinsing] undid the effect within {few} minutes.",
    "{pct} percent of the [signal|current] was lost, and the rest [did not respond|stayed].",
    "other [targets|proteins] on a list of {n} were left alone.",
    "blood levels [peaked|were highest] {few} hours after a dose.",
)
SAFETY_TITLES = (
    "harms of {drug} in [daily|ordinary] use: a register from {town}",
    "{effect} in people who take {drug}",
    "safety of {drug} over {weeks} months",
)
SAFETY_METHODS = (
    "we [read|searched] the notes of {n} people given {drug} between {year} and the present.",
    "[pharmacies|clinics] in {town} and {town} sent in forms each month.",
    "two [readers|nurses] judged every complaint without seeing the dose.",
    "[a complaint|an event] counted when it came back [on rechallenge|with the next box].",
    "people were asked the same {few} questions at each visit.",
)
SAFETY_RESULTS = (
    "{few} of {n} people [stopped|gave up] treatment early.",
    "no [death|lasting harm] was [recorded|linked to treatment].",
    "complaints were [commoner|rarer] above {age} years of age.",
    "[most|{pct} percent] of the complaints came in the first {few} weeks.",
    "liver and kidney values [did not change|stayed as they were].",
)
CLOSING = (
    "[longer|larger] studies are [under way|planned] in {town}.",
    "[the findings|these data] should be read with the small numbers in mind.",
    "[prescribers|clinics] may wish to [note|weigh] this.",
    "[a register|a second study] would [settle|answer] what remains.",
    "[the authors|we] thank the people of {town} for their patience.",
)
REVIEW_TITLES = (
    "[a short|a yearly|a pocket] review of [new and old|some] [drugs|medicines] from {town}",
    "[what|which] [prescribers|wards] should know: [notes|lessons] from {year}",
    "[drug|medicine] round of the {town} [infirmary|hospital], {year}",
)
REVIEW_OPENINGS = (
    "we [read|searched] {n} papers and [sum up|set down] what holds for the drugs below.",
    "this [review|round] covers [several|a handful of] drugs that the [wards|clinics] of {town} use.",
    "[each year|in {year}] the [pharmacy|committee] of {town} goes through its list of drugs.",
)


@dataclass(frozen=True)
class Abstract:
    """A title and labelled sections, before they are laid out as text or as XML."""

    title: str
    sections: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        """One paragraph a section, each opened by its label."""
        return "\n".join([self.title, *(f"{label.capitalize()}: {text}" for label, text in self.sections)])


def trial_abstract(rng: Random, trial: Trial) -> Abstract:
    """A trial's abstract; its results and conclusion say how the trial came out."""
    drug = trial.drug
    subject = drug.subject() | {"disease": trial.disease}
    others = rng.sample([attribute for attribute in ATTRIBUTES if attribute != "indication"], 2)
    known = [say_some(rng, FACTS[attribute], subject, 1) for attribute in others]
    if trial.disease != drug.indication:
        known[0] += " " + say_some(rng, INDICATION, drug.subject(), 1)
    return Abstract(
        say(rng, rng.choice(TRIAL_TITLES), subject),
        (
            ("BACKGROUND", f"{say_some(rng, BACKGROUND, subject, 2)} {known[0]}"),
            ("METHODS", say_some(rng, METHODS, subject, 4)),
            ("RESULTS", f"{known[1]} {say_some(rng, RESULTS[trial.outcome], subject, 2)}"),
            ("CONCLUSIONS", say_some(rng, CONCLUSIONS[trial.outcome], subject, 1)),
        ),
    )


def trial_digest(rng: Random, trial: Trial) -> Abstract:
    """A trial in a few lines: no conclusion, but a question that its results answer in one word."""
    subject = trial.drug.subject() | {"disease": trial.disease}
    return Abstract(
        say(rng, rng.choice(TRIAL_TITLES), subject),
        (
            ("BACKGROUND", say_some(rng, BACKGROUND, subject, 1)),
            ("METHODS", say_some(rng, METHODS, subject, 3)),
            ("RESULTS", say_some(rng, RESULTS[trial.outcome], subject, 2)),
            ("QUESTION", f"{say(rng, rng.choice(TRIAL_QUESTIONS), subject)}\nAnswer: {trial.outcome}"),
        ),
    )


def laboratory_abstract(rng: Random, drug: Drug) -> Abstract:
    """A study of what a drug does in the body."""
    subject = drug.subject()
    return Abstract(
        say(rng, rng.choice(LAB_TITLES), subject),
        (
            ("BACKGROUND", f"{say_some(rng, INDICATION, subject, 1)} {say_some(rng, BACKGROUND[2:], subject, 1)}"),
            ("METHODS", say_some(rng, LAB_METHODS, subject, 3)),
            ("RESULTS", f"{say_some(rng, FOOD, subject, 1)} {say_some(rng, LAB_RESULTS, subject, 3)}"),
            ("CONCLUSIONS", f"{say_some(rng, MECHANISM, subject, 1)} {say_some(rng, CLOSING, subject, 1)}"),
        ),
    )


def safety_abstract(rng: Random, drug: Drug) -> Abstract:
    """A study of the harm that a drug does."""
    subject = drug.subject()
    return Abstract(
        say(rng, rng.choice(SAFETY_TITLES), subject),
        (
            ("BACKGROUND", f"{say_some(rng, INDICATION, subject, 1)} {say_some(rng, MECHANISM, subject, 1)}"),
            ("METHODS", say_some(rng, SAFETY_METHODS, subject, 3)),
            ("RESULTS", f"{say_some(rng, EFFECT, subject, 1)} {say_some(rng, SAFETY_RESULTS, subject, 3)}"),
            ("CONCLUSIONS", f"{say_some(rng, TEST, subject, 1)} {say_some(rng, CLOSING, subject, 1)}"),
        ),
    )


def review_abstract(rng: Random, drugs: Sequence[Drug]) -> Abstract:
    """A round through several drugs: each fact once, so that it has to be known and cannot be copied."""
    sentences = [
        say_some(rng, FACTS[attribute], drug.subject(), 1) for drug in drugs for attribute in rng.sample(ATTRIBUTES, 3)
    ]
    half = len(sentences) // 2
    return Abstract(
        say(rng, rng.choice(REVIEW_TITLES), {}),
        (
            ("BACKGROUND", say_some(rng, REVIEW_OPENINGS, {}, 1)),
            ("RESULTS", " ".join(sentences[:half])),
            ("DISCUSSION", " ".join(sentences[half:])),
            ("CONCLUSIONS", say_some(rng, CLOSING, {}, 1)),
        ),
    )
