"""The small grammar all invented text is written in: `[a|b]` is a choice, `{name}` a slot.

In: a random generator, templates, and the slots of what the text is about.
Out: sentences. A slot that the subject does not fill (`{town}`, `{pct}`) is drawn anew wherever it stands.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from random import Random

CHOICE = re.compile(r"\[([^\[\]]*)\]")
SENTENCE_START = re.compile(r"(^|[.?!]\s+|\n)([a-z])")

TOWNS = (
    "Velm", "Harrodune", "Ostwick Quay", "Brannoch", "Tessaly Moor", "Quillmouth", "Dunvarrow", "Ellerfold",
    "Marrowgate", "Sundholm", "Pennavar", "Catterwyn", "Lowmere", "Isk", "Fallowick", "Greyhaven", "Norrbeck",
    "Thornlea", "Wexcombe", "Aldermouth", "Kestrow", "Yarrowby", "Umberfield", "Rookhythe",
)  # fmt: skip
PEOPLE = (
    "Orla Venn", "Tobin Marsk", "Edda Quill", "Jory Pell", "Sanna Holt", "Ansel Brook", "Mirre Tolk", "Davin Ashe",
    "Runa Feld", "Corin Wade", "Lisbet Hale", "Piet Varro", "Nessa Gorm", "Hale Dunmore", "Imre Stroud", "Kaja Lorn",
    "Bram Tully", "Wilma Reth", "Osric Penn", "Tamsin Yule",
)  # fmt: skip
NUMBER_WORDS = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")

DRAWS: Mapping[str, Callable[[Random], str]] = {
    "town": lambda rng: rng.choice(TOWNS),
    "person": lambda rng: rng.choice(PEOPLE),
    "few": lambda rng: rng.choice(NUMBER_WORDS),
    "n": lambda rng: str(rng.randrange(38, 980)),
    "pct": lambda rng: str(rng.randrange(6, 79)),
    "age": lambda rng: str(rng.randrange(21, 89)),
    "weeks": lambda rng: str(rng.randrange(4, 53)),
    "dose": lambda rng: str(5 * rng.randrange(1, 60)),
    "year": lambda rng: str(rng.randrange(1961, 2024)),
}


class Slots(dict[str, str]):
    """What a text is about; anything else is drawn when it is asked for."""

    def __init__(self, rng: Random, subject: Mapping[str, str]) -> None:
        super().__init__(subject)
        self.rng = rng

    def __missing__(self, name: str) -> str:
        return DRAWS[name](self.rng)


def say(rng: Random, template: str, subject: Mapping[str, str]) -> str:
    """One text from one template: choices first, then slots, then capitals at sentence starts."""
    while CHOICE.search(template):
        template = CHOICE.sub(lambda choice: rng.choice(choice[1].split("|")), template)
    return capitalise(template.format_map(Slots(rng, subject)))


def say_some(rng: Random, templates: Sequence[str], subject: Mapping[str, str], count: int) -> str:
    """`count` different templates, in random order, as one paragraph."""
    return " ".join(say(rng, template, subject) for template in rng.sample(templates, count))


def capitalise(text: str) -> str:
    """Upper case after a full stop or at the start of a line, so that templates need not know where they stand."""
    return SENTENCE_START.sub(lambda start: start[1] + start[2].upper(), text)
