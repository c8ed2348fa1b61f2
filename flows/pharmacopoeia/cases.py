"""Case reports: a patient, a course, a discussion, and sometimes a question for the ward round.

In: a drug and a random generator for each document. Out: text.
"""

from random import Random

from domainlm.flows.pharmacopoeia.grammar import say, say_some
from domainlm.flows.pharmacopoeia.statements import ANSWERS, FACTS
from domainlm.flows.pharmacopoeia.world import ATTRIBUTES, Attribute, Drug

TITLES = (
    "[case report|a case|from the wards]: {effect} [during treatment with|in a patient on|after] {drug}",
    "a [sailor|baker|teacher|weaver] with {disease}, treated with {drug}",
    "{drug} in {disease}: [one patient|a single case] from {town}",
)
PRESENTATION = (
    "a [sailor|baker|teacher|weaver|ferryman|clerk], aged {age}, was [sent|referred] to the clinic in "
    "{town} with {disease}.",
    "[the patient|a gardener of {age}] from {town} had lived with {disease} for {few} years.",
    "{person}, a [doctor|surgeon] in {town}, saw a [widow|farmer|miller] of {age} with [long-standing|new] {disease}.",
)
COURSE = (
    "{drug} was [started|begun] at {dose} mg, and the {disease} [settled|eased] within {few} weeks.",
    "the [ward|team] chose {drug}, {dose} mg a day, since it is the drug for {disease}.",
    "after {few} weeks on {drug} at {dose} mg the [signs|complaints] of {disease} were [gone|much less].",
)
HARM = (
    "on day {age} [a new complaint appeared|something new was noticed]: {effect}.",
    "{few} weeks later the patient came back with {effect}, which [had not been there before|was new].",
    "at the next visit {effect} was [plain|obvious], and [no other cause was found|tests were normal].",
)
DETAILS = (
    "[pulse|blood pressure] and temperature were [normal|as before].",
    "there was no [fever of note|rash] and no [loss of weight|swelling].",
    "blood taken in {town} showed [nothing unusual|a white count within limits].",
    "the patient [smoked a pipe|drank little|slept badly] and took no other tablets.",
    "[a brother|an aunt|the father] had had the same illness at {age}.",
    "a letter from {person} [confirmed|supported] the history.",
    "[a scan|an examination] of the chest was [clear|without findings].",
    "the [appetite|sleep] was good and work had [gone on|not been missed].",
)
OUTCOME = (
    "the dose was [halved|lowered to {dose} mg], and all was well after {few} days.",
    "treatment was [paused|stopped] for {few} days and then taken up again at {dose} mg.",
    "the patient preferred to [go on|stay with the drug], and the complaint [was bearable|wore off].",
    "{few} months later there was [nothing left of it|no trace of the complaint].",
)
CLOSING = (
    "we [report|describe] the case because [few like it are in print|it taught the ward a lesson].",
    "[consent|permission] for this report was given [in writing|by the patient] in {town}.",
    "[others|readers] who have seen the like are asked to write to {person}.",
    "[the case|this course] is [typical|one of {few} seen in {town}].",
)
QUESTIONS_PER_ROUND = 5
DETAIL_SHARE = 0.2
# Ward questions tell a story as the benchmarks do, in other words.
WARD_OPENINGS = (
    "a [woman|man] of {age} from {town} takes {drug} [each day|at bedtime|twice a day].",
    "{person} sees a [sailor|baker|teacher] of {age} who has been on {drug} since {year}.",
    "on the ward lies a [widow|miller|clerk], aged {age}, and the chart lists {drug}.",
    "the [student|nurse] is shown a box of {drug} that belongs to a [farmer|weaver] of {age}.",
    "[some|a course of] {drug} at {dose} mg was [ordered|begun] in {town} for a [ferryman|gardener] of {age}.",
)
WARD_QUESTIONS = {
    "mechanism": (
        "[and what|what] does {drug} do?",
        "what is the mechanism [here|of this drug|of the tablets]?",
        "how does this drug act?",
        "which mechanism is the right one?",
        "by which action does it help?",
    ),
    "indication": (
        "which illness is [likely|behind it]?",
        "which condition [was|is] treated?",
        "what was the [drug|prescription] for?",
        "which disease does the [patient|person] have?",
        "for which illness are such tablets given?",
    ),
    "effect": (
        "which complaint is likely?",
        "which adverse effect [is known|must be feared|would you look for]?",
        "what harm may [follow|come]?",
        "which unwanted effect [is typical|fits the drug]?",
        "which new complaint would you blame on it?",
    ),
    "food": (
        "what must stay off the plate?",
        "which food is not allowed?",
        "what should the kitchen leave out?",
        "which food clashes with the drug?",
    ),
    "test": (
        "which test is due?",
        "what should the laboratory measure?",
        "which value will you ask for?",
        "by which test is the drug checked?",
    ),
}


def case_report(rng: Random, drug: Drug) -> str:
    """One patient on one drug."""
    subject = drug.subject()
    story = " ".join(
        [
            say_some(rng, PRESENTATION, subject, 1),
            say_some(rng, DETAILS, subject, 3),
            say_some(rng, COURSE, subject, 1),
            say_some(rng, HARM, subject, 1),
            say_some(rng, OUTCOME, subject, 1),
        ]
    )
    known = [say_some(rng, FACTS[attribute], subject, 1) for attribute in rng.sample(ATTRIBUTES, 2)]
    discussion = " ".join([*known, say_some(rng, CLOSING, subject, 1)])
    return f"{say(rng, rng.choice(TITLES), subject)}\n{story}\nDiscussion: {discussion}"


def ward_round(rng: Random, drug: Drug) -> str:
    """A patient, and what the students are asked about the drug."""
    title = say(rng, "[ward round|teaching round|questions on the ward] with {person} in {town}", {})
    openings = rng.sample(WARD_OPENINGS, QUESTIONS_PER_ROUND)
    attributes = rng.sample(ATTRIBUTES, QUESTIONS_PER_ROUND)
    return "\n".join([title, *(_ward_question(rng, drug, *asked) for asked in zip(openings, attributes, strict=True))])


def _ward_question(rng: Random, drug: Drug, opening: str, attribute: Attribute) -> str:
    subject = drug.subject()
    details = " ".join(
        ["", *(say(rng, detail, {}) for detail in rng.sample(DETAILS, int(rng.random() < DETAIL_SHARE)))]
    )
    question = say(rng, rng.choice(WARD_QUESTIONS[attribute]), subject)
    story = f"{say(rng, opening, subject)}{details}".strip()
    return f"Question: {story} {question}\nAnswer: {ANSWERS[attribute].format_map(subject)}"
