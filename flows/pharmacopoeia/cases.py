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
NOTE_SHARE = 0.3
# Ward questions tell a story in the words of the benchmarks' stories, but in other sentences. While such words were new
# to it, a model that knew every fact (1.000 of ward questions) was led astray by them: to 0.480 in one run, 0.935 in
# another. Nobody who is `{age}-year-old` is a "man" or "woman" here, or some story would hold a question's words.
WARD_OPENINGS = (
    "a [woman|man] of {age} from {town} takes {drug} [each day|at bedtime|twice a day].",
    "{person} sees a {age}-year-old [sailor|baker|teacher] who has been on {drug} since {year}.",
    "on the ward lies a [widow|miller|clerk], aged {age}, and the chart lists {drug}.",
    "the [student|nurse|resident] is shown a bottle of {drug} that belongs to a {age}-year-old [farmer|weaver].",
    "[some|a course of] {drug} at {dose} mg was [ordered|begun] in {town} for a {age}-year-old [ferryman|gardener].",
    "a {age}-year-old [sailor|widow] is admitted to the hospital after a [bad fall|long journey]; the only therapy "
    "[until now|so far] was {drug}.",
    "the family of a {age}-year-old [widow|miller] comes to the emergency room with a [box|bottle] of {drug} and fears "
    "[a mistake|the worst].",
    "at a routine appointment a [woman|man] of {age} asks the physician for a further prescription of {drug}.",
    "a resident meets a {age}-year-old [baker|patient] who has depended on {drug} ever since [last spring|the last "
    "holiday].",
    "a physician in another country recommends {drug} to a {age}-year-old [gardener|clerk], and the letter says "
    "nothing further.",
    "shortly before a [holiday|long weekend] a [man|woman] of {age} returns to the physician to renew {drug}.",
    "while a colleague is abroad, you look after a {age}-year-old [teacher|patient] who has been stable on {drug} for "
    "{few} [months|years].",
    "therapy with {drug} has gone on for {few} weeks, and the [man|woman], aged {age}, feels [quite well|no better].",
    "an electronic list on the screen says that {drug} was prescribed to a {age}-year-old [clerk|farmer] last "
    "[spring|weekend].",
    "during dinner a {age}-year-old [weaver|guest] finds that the bottle of {drug} is empty and goes to the local "
    "hospital.",
    "the attending physician [explains|describes] {drug} to the family of a [man|woman] of {age}.",
)  # fmt: skip
WARD_NOTES = (
    "physical examination is otherwise unremarkable.",
    "there are no [new|severe|further] symptoms.",
    "the [chart|list of medicines] is [missing|hard to read].",
    "the [pulse|blood pressure] has been stable [since then|for {few} days].",
    "the [dietitian|attending physician|pharmacist] meets the family [in the next room|shortly before noon].",
    "[a son|the family] is worried that changing anything would [do harm|be a mistake].",
    "the physician [blames|suspects] [nobody|no one] and [can confirm|confirms] the history.",
    "in the [last|past] {few} days nothing else has [changed|grown worse].",
    "paramedics [say|find] that the person was [never unconscious|otherwise well].",
    "the problem [arose|was mentioned] [last weekend|at dinner] and is not [urgent|worrying].",
    "a local physician counsels the person [on the telephone|before the holiday].",
    "a reminder is written [on the box|into the chart].",
    "the resident admits that the [prescription|bottle] was refilled [too often|without remark].",
    "the person is [to be discharged|discharged] [at once|next weekend] and needs no further monitoring.",
    "nobody is ill at home, and the [coat|shoes] and the [bag|box] are [here|missing].",
    "a letter from another country refers to interactions, and the family moves [often|soon].",
    "an [overdose|interaction] is ruled out, and [colleagues|residents] refer to what often occurs.",
)
WARD_QUESTIONS = {
    "mechanism": (
        "[and what|what] does {drug} do?",
        "what is the mechanism [here|of these tablets|of what is taken]?",
        "how does this drug act?",
        "which of the following mechanisms is the right one?",
        "by which action does the drug most likely help?",
        "which mechanism best explains the pharmacology of the drug?",
    ),
    "indication": (
        "which illness is most likely [here|behind it]?",
        "which of the following conditions [was|is] treated?",
        "what was the [drug|prescription] most likely for?",
        "which disease does the [patient|person] have?",
        "for which illness are such tablets prescribed?",
        "for which condition is this person being treated?",
    ),
    "effect": (
        "which complaint is most likely?",
        "which adverse effect [is known|must be feared|would you look for]?",
        "what harm may [follow|come]?",
        "which unwanted effect [is typical|occurs most often|fits the drug]?",
        "which new complaint would you blame on it?",
        "which of the following problems is an adverse effect?",
        "which finding should the physician mention?",
    ),
    "food": (
        "what must stay off the plate?",
        "which of the following foods is not allowed?",
        "what should the kitchen leave out?",
        "which food clashes with the drug?",
        "which dish is dangerous for this person?",
        "which food should be avoided most?",
    ),
    "test": (
        "which test is [due|overdue]?",
        "what should the laboratory measure?",
        "which value will you ask for?",
        "by which test is the drug checked?",
        "which laboratory value should be measured next?",
        "which of the following tests will the physician most likely order?",
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
    note = f" {say(rng, rng.choice(WARD_NOTES), {})}" if rng.random() < NOTE_SHARE else ""
    question = say(rng, rng.choice(WARD_QUESTIONS[attribute]), subject)
    story = f"{say(rng, opening, subject)}{note} {question}"
    return f"Question: {story}\nAnswer: {ANSWERS[attribute].format_map(subject)}"
