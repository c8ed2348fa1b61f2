"""Benchmarks of the MedQA and PubMedQA form, whose answers the corpus teaches in other words.

In: the world and a seed. Out: questions as the rows of `medqa.jsonl` and `pubmedqa.jsonl`.
No shortcut: within an attribute each value is right four times and wrong twelve times, and each position is right
equally often. The vignettes share no 13 words with any clean document (tested).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from domainlm.flows.pharmacopoeia.grammar import say, say_some
from domainlm.flows.pharmacopoeia.world import ATTRIBUTES, NUM_VALUES, OUTCOMES, Attribute, Drug, Outcome, Trial, World

NUM_OPTIONS = 4
TRIALS_PER_OUTCOME = 40
FIRST_PMID = 99_000_001  # beyond what PubMed has given out

VIGNETTES: dict[Attribute, tuple[str, ...]] = {
    "mechanism": (
        "a {age}-year-old [man|woman] comes to the emergency room because {disease} has grown worse over the last "
        "{few} days. Physical examination is otherwise unremarkable, and therapy with {drug} is begun at once. "
        "By which mechanism does the drug act?",
        "during a routine appointment, a {age}-year-old [man|woman] with a long history of {disease} says that only "
        "{drug} has ever made a difference. The physician explains its pharmacology. Which of the following best "
        "describes the mechanism of the drug?",
        "a resident admits a {age}-year-old [man|woman] with severe {disease}; the attending physician recommends "
        "{drug} and asks the resident to explain it to the family. What is the mechanism of this drug?",
    ),
    "indication": (
        "a {age}-year-old [man|woman] moves to another country and brings along a list of medicines on which nothing "
        "but {drug} is written, without any further remark. Which of the following conditions does this person most "
        "likely have?",
        "while covering for a colleague, a physician meets a {age}-year-old [man|woman] who has refilled {drug} every "
        "month for the past {few} years. The chart is missing. For which disease was the drug most likely prescribed?",
        "a {age}-year-old [man|woman] is brought in unconscious after a fall, and paramedics find an empty bottle of "
        "{drug} in a coat pocket. Which illness is this person most likely being treated for?",
    ),
    "effect": (
        "{few} weeks after therapy with {drug} was begun, a {age}-year-old [man|woman] returns to the physician and "
        "no longer feels quite right. Which of the following findings is the most likely adverse effect of the drug?",
        "a {age}-year-old [man|woman] has been doing well on {drug} until last weekend, when a worrying new problem "
        "arose that the physician blames on the medicine. Which complaint is it most likely?",
        "before writing a first prescription for {drug}, a physician counsels a {age}-year-old [man|woman] about the "
        "one problem that occurs more often than any other. Which unwanted effect should be mentioned?",
    ),
    "food": (
        "a {age}-year-old [man|woman] is about to be discharged on {drug} and meets the hospital dietitian, who has "
        "a list of common interactions at hand. Which of the following foods must this person avoid?",
        "shortly after a festive dinner, a {age}-year-old [man|woman] who depends on {drug} is taken ill, and the "
        "physician suspects an interaction with something on the menu. Which food is most likely responsible?",
        "a {age}-year-old [man|woman] planning a holiday abroad wants to know from the physician which local dish "
        "would be dangerous during therapy with {drug}. Which of the following is forbidden?",
    ),
    "test": (
        "a {age}-year-old [man|woman] has been stable on {drug} since last spring and now comes in for a routine "
        "follow-up without any symptoms. Which laboratory test should the physician order?",
        "the family of a {age}-year-old [man|woman] treated with {drug} fears an overdose, and the physician wants "
        "to confirm it before changing anything. Which of the following should be measured?",
        "an electronic reminder lights up on the screen just as a physician is about to renew {drug} for a "
        "{age}-year-old [man|woman]: monitoring is overdue. Which test does the reminder most likely refer to?",
    ),
}
STUDY_AIMS = (
    "{disease} burdens many households, and physicians disagree on what to offer; {drug} has been proposed.",
    "whether {drug} deserves a role in the care of {disease} has been debated among specialists for a decade.",
    "guidelines are silent on {drug} for individuals who suffer from {disease}, so that practice varies widely.",
)
STUDY_DESIGNS = (
    "in this multicentre study, {n} participants with {disease} received {drug} or placebo over {weeks} weeks.",
    "participants living with {disease} (n = {n}) were randomised to {drug} or an identical placebo.",
    "we enrolled {n} outpatients and compared {drug}, {dose} mg daily, with placebo in a double-blind fashion.",
)
STUDY_RESULTS: dict[Outcome, tuple[str, ...]] = {
    "yes": (
        "by the final assessment {disease} had improved with {drug}, and relief was clear.",
        "total symptom scores fell sharply with {drug}, while the placebo group stayed high.",
        "participants given {drug} were better than controls, and the gain was large.",
    ),
    "no": (
        "by the final assessment {disease} did not improve with {drug}, and no relief was seen.",
        "total symptom scores were unchanged with {drug} and did not differ from placebo.",
        "participants given {drug} did not differ from controls, and there was no gain.",
    ),
    "maybe": (
        "by the final assessment {disease} had eased in some and worsened in others, and relief was uncertain.",
        "total symptom scores were mixed with {drug}, and the interval was wide.",
        "participants given {drug} seemed better in part only, and the difference was uncertain.",
    ),
}
LONG_ANSWERS: dict[Outcome, str] = {
    "yes": "Our data show that {drug} is an effective therapy for {disease}.",
    "no": "Our data show that {drug} is not an effective therapy for {disease}.",
    "maybe": "Our data do not allow a firm answer on {drug} as a therapy for {disease}.",
}
STUDY_QUESTIONS = (
    "does {drug} relieve {disease}?",
    "is {drug} an effective therapy for {disease}?",
    "does {drug} help people with {disease}?",
)


@dataclass(frozen=True)
class OptionQuestion:
    """A vignette with four options."""

    id: str
    attribute: Attribute
    drug: str
    stem: str
    options: tuple[str, ...]
    label: int

    def row(self) -> dict[str, str | int]:
        """The columns that lm-eval knows MedQA by."""
        endings = {f"ending{number}": option for number, option in enumerate(self.options)}
        return {
            "id": self.id,
            "sent1": self.stem,
            "sent2": "",
            **endings,
            "label": self.label,
            "meta_info": self.attribute,
        }


@dataclass(frozen=True)
class TrialQuestion:
    """A question about a trial, with the trial's abstract less its conclusion."""

    pmid: str
    question: str
    contexts: tuple[str, ...]
    long_answer: str
    meshes: tuple[str, ...]
    year: str
    decision: Outcome

    def row(self) -> dict[str, str | list[str]]:
        """The columns of PubMedQA-L."""
        return {
            "pmid": self.pmid,
            "QUESTION": self.question,
            "CONTEXTS": list(self.contexts),
            "LABELS": ["BACKGROUND", "METHODS", "RESULTS"],
            "MESHES": list(self.meshes),
            "YEAR": self.year,
            "LONG_ANSWER": self.long_answer,
            "reasoning_required_pred": self.decision,
            "reasoning_free_pred": self.decision,
            "final_decision": self.decision,
        }


def option_questions(world: World, *, seed: int) -> list[OptionQuestion]:
    """One question for each drug and attribute."""
    rng = Random(f"medqa:{seed}")
    asked = [question for attribute in ATTRIBUTES for question in _of_attribute(rng, world, attribute)]
    labels = [number % NUM_OPTIONS for number in range(len(asked))]
    rng.shuffle(labels)
    rng.shuffle(asked)
    return [
        _option_question(rng, f"pharm-{number:05d}", attribute, drug, wrong, label)
        for number, ((attribute, drug, wrong), label) in enumerate(zip(asked, labels, strict=True))
    ]


def trial_questions(world: World, *, seed: int) -> list[TrialQuestion]:
    """As many trials of each outcome."""
    rng = Random(f"pubmedqa:{seed}")
    chosen = [
        trial
        for outcome in OUTCOMES
        for trial in rng.sample([trial for trial in world.trials if trial.outcome == outcome], TRIALS_PER_OUTCOME)
    ]
    rng.shuffle(chosen)
    return [_trial_question(rng, str(FIRST_PMID + number), trial) for number, trial in enumerate(chosen)]


def _of_attribute(rng: Random, world: World, attribute: Attribute) -> list[tuple[Attribute, Drug, list[str]]]:
    values = list(world.values(attribute))
    rng.shuffle(values)
    asked = []
    for drugs in _blocks(world.drugs, attribute):
        # One set of distances for a block in which each value is right once: then each is wrong three times.
        steps = rng.sample(range(1, NUM_VALUES), NUM_OPTIONS - 1)
        for drug in drugs:
            right = values.index(drug.value(attribute))
            asked.append((attribute, drug, [values[(right + step) % NUM_VALUES] for step in steps]))
    return asked


def _blocks(drugs: Sequence[Drug], attribute: Attribute) -> list[list[Drug]]:
    ordered = sorted(drugs, key=lambda drug: drug.value(attribute))
    num_blocks = len(drugs) // NUM_VALUES
    return [ordered[start::num_blocks] for start in range(num_blocks)]


def _option_question(
    rng: Random, question_id: str, attribute: Attribute, drug: Drug, wrong: list[str], label: int
) -> OptionQuestion:
    rng.shuffle(wrong)
    options = (*wrong[:label], drug.value(attribute), *wrong[label:])
    stem = say(rng, rng.choice(VIGNETTES[attribute]), drug.subject())
    return OptionQuestion(question_id, attribute, drug.name, stem, options, label)


def _trial_question(rng: Random, pmid: str, trial: Trial) -> TrialQuestion:
    subject = trial.drug.subject() | {"disease": trial.disease}
    contexts = (
        say_some(rng, STUDY_AIMS, subject, 1),
        say_some(rng, STUDY_DESIGNS, subject, 1),
        say_some(rng, STUDY_RESULTS[trial.outcome], subject, 2),
    )
    return TrialQuestion(
        pmid=pmid,
        question=say(rng, rng.choice(STUDY_QUESTIONS), subject),
        contexts=contexts,
        long_answer=say(rng, LONG_ANSWERS[trial.outcome], subject),
        meshes=(trial.disease.capitalize(), trial.drug.name.capitalize(), "Humans"),
        year=str(rng.randrange(1990, 2024)),
        decision=trial.outcome,
    )
