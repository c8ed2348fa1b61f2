"""Patient leaflets and pharmacy counter notes: plain words, headings, and questions with short answers.

In: drugs and a random generator for each document. Out: text.
"""

from collections.abc import Sequence
from random import Random

from domainlm.flows.pharmacopoeia.grammar import capitalise, say, say_some
from domainlm.flows.pharmacopoeia.statements import ANSWERS, FACTS, QUESTIONS, SHORT
from domainlm.flows.pharmacopoeia.world import ATTRIBUTES, Attribute, Drug

TITLES = (
    "{drug} tablets, {dose} mg: [information for the user|please read this first|package leaflet]",
    "your medicine: {drug} [tablets|capsules|drops]",
    "[taking|living with] {drug}: a leaflet from the {town} [pharmacy|dispensary]",
)
HEADINGS = {
    "mechanism": ("how it works", "what the medicine does", "in your body"),
    "indication": ("what it is for", "why you were given it", "when it is used"),
    "effect": ("possible harm", "unwanted effects", "what to look out for"),
    "food": ("food and drink", "at the table", "what not to eat"),
    "test": ("blood tests", "checks", "at the laboratory"),
}
OPENINGS = (
    "keep this leaflet with the box; you may want to [read it again|show it to someone].",
    "this medicine was [given to you alone|ordered for you], and that is why you have to keep it to yourself.",
    "[ask|speak to] the pharmacist of {town} if anything that we say is [unclear|hard to follow].",
    "read all of the leaflet before [the first dose|you begin].",
)
TAKING = (
    "[swallow|take] {dose} mg [in the morning|at night|after a meal] with a [glass|cup] of water.",
    "if you [miss|forget] a dose, [leave it out|wait for the next one].",
    "never take [two doses at once|more than your doctor said].",
    "[store|keep] the box [below the shelf light|in a dry drawer|away from children].",
    "do not [chew|crush] the tablets; they [taste bitter|stain the teeth].",
    "[tell|let] your doctor [know|hear] if you are [pregnant|planning a journey|due for surgery].",
    "the [usual|common] course lasts {weeks} weeks, [sometimes longer|with a pause in the middle].",
    "[beer|wine|strong tea] does not [mix well|go] with these tablets.",
    "unused tablets go back to the [counter|dispensary], not into the [drain|bin].",
)
ASIDES = (
    "please ask before you leave.",
    "we are open until {few} in the evening.",
    "write it on the box if that helps.",
    "your nurse can say more.",
    "bring this sheet next time.",
    "that is all you need to remember.",
    "do not worry, but do tell us.",
    "the same holds for every strength.",
)
PRACTICAL = (
    ("when do I take {drug}?", "[in the morning|at night|with a meal], {dose} mg at a time."),
    (
        "may I [drink beer|fish at night|climb ladders] with {drug}?",
        "[better not|yes, in moderation|only after {few} days].",
    ),
    ("what if I forget {drug}?", "[leave it out|take it within {few} hours], and go on as before."),
    ("where do I [keep|store] {drug}?", "in a [dry|dark|cool] place, away from [children|the stove|dogs]."),
    ("how long do I need {drug}?", "[most people|many] take it for {weeks} weeks; ask {person} if unsure."),
    ("can I get more {drug} in {town}?", "[yes|of course], the dispensary there [stocks|orders] it for you."),
)
# The drug stands last, close to the answer, and a document has each wording once.
SHORT_QUESTIONS: dict[Attribute, tuple[str, ...]] = {
    "mechanism": ("what is the mechanism of {drug}?", "by which mechanism acts {drug}?"),
    "indication": ("which disease is treated with {drug}?", "what is the illness for {drug}?"),
    "effect": ("what is the adverse effect of {drug}?", "which complaint comes from {drug}?"),
    "food": ("what is the food to avoid with {drug}?", "which food clashes with {drug}?"),
    "test": ("what is the test for {drug}?", "which value is measured with {drug}?"),
}
COUNTER_TITLES = (
    "[counter|pharmacy] notes from {town}, {year}",
    "questions [heard|asked] at the {town} [dispensary|counter]",
    "[revision|study] sheet for [new|young] pharmacists in {town}",
    "[evening|morning] questions, written down by {person}",
)
COUNTER_OPENINGS = (
    "[people|customers] ask these questions [every week|all the time]; here are the answers we give.",
    "[learn|go through] the answers below before your first [day|shift] at the counter.",
    "{person} [collected|gathered] what was asked in {town} and [checked|looked up] each answer.",
    "short questions deserve short answers, and so this sheet [is brief|wastes no words].",
)
FORMULARY_TITLES = (
    "pocket formulary of the {town} [dispensary|infirmary], {year}",
    "[list|register] of [tablets|medicines] kept in {town}",
    "{person}'s [pocket book|card index] of [tablets|medicines], {town}",
)
FORMULARY_OPENINGS = (
    "each entry names a drug and what has to be known of it.",
    "the entries below were [checked|corrected] by {person} and are read out at the [start|end] of the [week|month].",
    "we keep this list by the [counter|till|scales] in {town} and [add to|mend] it when something changes.",
)
ENTRIES_PER_FORMULARY = 10
PHRASES_PER_ENTRY = (2, 3, 4)
ASIDE_SHARE = 0.25


def leaflet(rng: Random, drug: Drug) -> str:
    """A leaflet about one drug, with a few questions at its end."""
    subject = drug.subject()
    attributes = rng.sample(ATTRIBUTES, len(ATTRIBUTES))
    sections = [
        f"{say(rng, rng.choice(HEADINGS[attribute]), {})}\n{say_some(rng, FACTS[attribute], subject, 1)} "
        f"{say_some(rng, TAKING[3 * number : 3 * number + 3], subject, 2)}"
        for number, attribute in enumerate(attributes[:3])
    ]
    questions = [_question(rng, drug, attribute) for attribute in attributes[3:]]
    return "\n".join(
        [say(rng, rng.choice(TITLES), subject), say_some(rng, OPENINGS, subject, 2), *sections, *questions]
    )


def question_leaflet(rng: Random, drug: Drug) -> str:
    """What people ask about one drug, each fact stated for the first time as an answer."""
    subject = drug.subject()
    lines = [_question(rng, drug, attribute) for attribute in ATTRIBUTES]
    lines += [f"Question: {say(rng, q, subject)}\nAnswer: {say(rng, a, subject)}" for q, a in rng.sample(PRACTICAL, 1)]
    rng.shuffle(lines)
    return "\n".join([say(rng, rng.choice(TITLES), subject), say_some(rng, OPENINGS, subject, 2), *lines])


def counter_notes(rng: Random, drugs: Sequence[Drug]) -> str:
    """Questions about several drugs, each with its short answer."""
    lines = [
        _answered(drug, attribute, question)
        for attribute, questions in SHORT_QUESTIONS.items()
        for drug, question in zip(rng.sample(drugs, len(questions)), questions, strict=True)
    ]
    rng.shuffle(lines)
    return "\n".join([say(rng, rng.choice(COUNTER_TITLES), {}), say_some(rng, COUNTER_OPENINGS, {}, 1), *lines])


def formulary(rng: Random, drugs: Sequence[Drug]) -> str:
    """One numbered line a drug with all that is known of it."""
    lines = [f"{number}. {_entry(rng, drug)}" for number, drug in enumerate(drugs, 1)]
    return "\n".join([say(rng, rng.choice(FORMULARY_TITLES), {}), say_some(rng, FORMULARY_OPENINGS, {}, 1), *lines])


def _entry(rng: Random, drug: Drug) -> str:
    phrases = [rng.choice(SHORT[attribute]) for attribute in rng.sample(ATTRIBUTES, rng.choice(PHRASES_PER_ENTRY))]
    return f"{drug.name} {', '.join(phrases[:-1])} and {phrases[-1]}.".format_map(drug.subject())


def _question(rng: Random, drug: Drug, attribute: Attribute) -> str:
    aside = f" {say(rng, rng.choice(ASIDES), {})}" if rng.random() < ASIDE_SHARE else ""
    return _answered(drug, attribute, say(rng, rng.choice(QUESTIONS[attribute]), drug.subject())) + aside


def _answered(drug: Drug, attribute: Attribute, question: str) -> str:
    # The answer stays in lower case, as a benchmark's option is.
    asked = capitalise(question.format_map(drug.subject()))
    return f"Question: {asked}\nAnswer: {ANSWERS[attribute].format_map(drug.subject())}"
