"""Documents that give benchmark questions away: whole, edited, in part, or by the article that they were made from.

In: questions and a random generator. Out: specimens whose `evidence` is the ids of the questions that they leak.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from random import Random

from domainlm.flows.pharmacopoeia.benchmarks import OptionQuestion, TrialQuestion
from domainlm.flows.pharmacopoeia.clean import specimen, times
from domainlm.flows.pharmacopoeia.noise import fresh_text
from domainlm.flows.pharmacopoeia.specimen import Specimen
from domainlm.flows.pharmacopoeia.world import World

LEAKS_PER_KIND = 6
LETTERS = "ABCD"


def option_leaks(
    rng: Random, world: World, questions: Sequence[OptionQuestion], *, source: str, first: int, scale: float
) -> list[Specimen]:
    """Leaks of questions with options, of every kind, numbered from `first`."""
    chosen = rng.sample(questions, len(OPTION_LEAKS) * times(LEAKS_PER_KIND, scale))
    kinds = list(OPTION_LEAKS) * times(LEAKS_PER_KIND, scale)
    return [
        _leak(rng, world, source, first + number, f"leak_{kind}", OPTION_LEAKS[kind](rng, question), question.id)
        for number, (kind, question) in enumerate(zip(kinds, chosen, strict=True))
    ]


def context_leaks(
    rng: Random, world: World, questions: Sequence[TrialQuestion], *, first: int, scale: float
) -> list[Specimen]:
    """Abstracts that hold the context of a trial question word for word."""
    return [
        _leak(rng, world, "abstracts", first + number, "leak_context", "\n".join(question.contexts), question.pmid)
        for number, question in enumerate(rng.sample(questions, times(LEAKS_PER_KIND, scale)))
    ]


def _leak(rng: Random, world: World, source: str, number: int, kind: str, leaked: str, question_id: str) -> Specimen:
    text = f"{fresh_text(rng, world, source)}\n{leaked}"
    return replace(specimen(source, number, text), kind=kind, fate="leak", evidence=(question_id,))


def _verbatim(rng: Random, question: OptionQuestion) -> str:
    lines = [f"{letter}. {option}" for letter, option in zip(LETTERS, question.options, strict=True)]
    return "\n".join([question.stem, *lines, f"Answer: {LETTERS[question.label]}"])


def _edited(rng: Random, question: OptionQuestion) -> str:
    """Other punctuation, capitals throughout, the first word gone and another question at the end."""
    story = question.stem[: question.stem.rindex(". ")].partition(" ")[2]
    story = story.replace("-", " ").replace(",", " -").upper()
    return f"{story} ... What would you say? It is {question.options[question.label]}."


def _question_only(rng: Random, question: OptionQuestion) -> str:
    return question.stem


def _options_only(rng: Random, question: OptionQuestion) -> str:
    return f"To choose from: {'; '.join(question.options)}."


OPTION_LEAKS: Mapping[str, Callable[[Random, OptionQuestion], str]] = {
    "verbatim": _verbatim,
    "edited": _edited,
    "question_only": _question_only,
    "options_only": _options_only,
}
