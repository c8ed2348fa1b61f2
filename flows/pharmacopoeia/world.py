"""The invented world: drugs, what each does, treats and causes, and the trials that were run on them.

In: a seed. Out: a `World` of 40 drugs in 8 classes, each with one value of five attributes.
Every value belongs to exactly four drugs, so that no value is a good guess by itself, and the attributes are dealt
independently of each other. Names are put together from pieces; no combination of them is a word of real medicine.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

Outcome = Literal["yes", "no", "maybe"]
OUTCOMES: tuple[Outcome, ...] = ("yes", "no", "maybe")
Attribute = Literal["mechanism", "indication", "effect", "food", "test"]
ATTRIBUTES: tuple[Attribute, ...] = ("mechanism", "indication", "effect", "food", "test")

NUM_DRUGS = 40
NUM_VALUES = 10

ONSETS = (
    "zol",
    "mid",
    "kar",
    "bre",
    "tuv",
    "hol",
    "jan",
    "pel",
    "rud",
    "sif",
    "vam",
    "wex",
    "yor",
    "dop",
    "gil",
    "nub",
)
MIDDLES = ("ve", "da", "mo", "ri", "lu", "se", "ta", "po")
CLASS_STEMS = ("trane", "quell", "dorel", "brune", "soveth", "mavek", "lunder", "pirrow")

TARGETS = (
    "tarvin", "osmel", "velka", "brindol", "quistin", "harnex", "lumbrel", "dorvane", "fessin", "gwylor", "ikastin",
    "jorvel", "murnal", "pellox", "rusken", "zandrel", "coventin", "wystrel", "noddrin", "ebrinol",
)  # fmt: skip
ACTIONS = (
    ("receptor blockade", "blocks the {} receptor"),
    ("kinase inhibition", "inhibits the {} kinase"),
    ("channel opening", "opens the {} channel"),
    ("enzyme activation", "activates the {} enzyme"),
)
DISEASE_MODIFIERS = (
    "lantern", "thistle", "orchard", "saddle", "bramble", "cinder", "tallow", "fennel", "quill", "anvil", "lichen",
    "ember", "juniper", "walnut", "pewter", "sorrel", "marrow", "velvet",
)  # fmt: skip
DISEASE_NOUNS = (
    "fever", "palsy", "ague", "gout", "colic", "wasting", "dropsy", "croup", "catarrh", "pox", "rheum", "lethargy",
    "spasm", "flux", "tetter", "chorea",
)  # fmt: skip
EFFECTS = (
    "chalk tongue", "violet nails", "salt tremor", "tin hearing", "candle sweats", "ribbon vision", "feather cough",
    "thimble fingers", "moss breath", "pebble cramps", "silver tears", "drum pulse", "cobweb itch", "kettle hiccups",
    "ladder dizziness", "wool gait", "copper sneezing", "paper voice",
)  # fmt: skip
FOODS = (
    "smoked eel", "nettle beer", "quince cheese", "goat curd", "burnt honey", "elder wine", "salted plums",
    "rye malt", "pickled samphire", "heather tea", "roast chicory", "dried mackerel", "mustard greens", "beet syrup",
)  # fmt: skip
TESTS = (
    "Orlen count", "Vasker index", "Tilby ratio", "Murrow time", "Pellam slope", "Gorsel number", "Haldine gap",
    "Suttar curve", "Ingrave score", "Quarne level", "Delph quotient", "Rowark range", "Brisk value", "Noll fraction",
)  # fmt: skip


@dataclass(frozen=True)
class Drug:
    """One drug and the facts that the benchmarks ask for, each worded as a benchmark's option is."""

    name: str
    drug_class: str
    mechanism: str
    acts: str
    indication: str
    effect: str
    food: str
    test: str

    def value(self, attribute: Attribute) -> str:
        """The fact as a benchmark option states it."""
        return {
            "mechanism": self.mechanism,
            "indication": self.indication,
            "effect": self.effect,
            "food": self.food,
            "test": self.test,
        }[attribute]

    def subject(self) -> dict[str, str]:
        """The slots that a template about this drug may use."""
        return {
            "drug": self.name,
            "cls": self.drug_class,
            "mech": self.mechanism,
            "acts": self.acts,
            "disease": self.indication,
            "effect": self.effect,
            "food": self.food,
            "test": self.test,
        }


@dataclass(frozen=True)
class Trial:
    """A question that was put to patients, and what came out."""

    drug: Drug
    disease: str
    outcome: Outcome


@dataclass(frozen=True)
class World:
    """All drugs, and three trials of each: its own indication (yes) and two other diseases (no, maybe)."""

    drugs: tuple[Drug, ...]
    trials: tuple[Trial, ...]

    def values(self, attribute: Attribute) -> tuple[str, ...]:
        """The different values of an attribute, sorted."""
        return tuple(sorted({drug.value(attribute) for drug in self.drugs}))


def build_world(seed: int) -> World:
    """The world of a seed."""
    rng = Random(f"world:{seed}")
    starts = rng.sample([onset + middle for onset in ONSETS for middle in MIDDLES], NUM_DRUGS)
    targets = rng.sample(TARGETS, NUM_VALUES)
    diseases = [
        f"{modifier} {noun}"
        for modifier, noun in zip(
            rng.sample(DISEASE_MODIFIERS, NUM_VALUES), rng.sample(DISEASE_NOUNS, NUM_VALUES), strict=True
        )
    ]
    mechanisms = _deal(rng, range(NUM_VALUES))
    indications = _deal(rng, range(NUM_VALUES))
    effects, foods, tests = (
        [values[index] for index in _deal(rng, range(NUM_VALUES))]
        for values in (rng.sample(EFFECTS, NUM_VALUES), rng.sample(FOODS, NUM_VALUES), rng.sample(TESTS, NUM_VALUES))
    )
    drugs = []
    for number, start in enumerate(starts):
        stem = CLASS_STEMS[number % len(CLASS_STEMS)]
        target = targets[mechanisms[number]]
        noun, verb = ACTIONS[mechanisms[number] % len(ACTIONS)]
        drugs.append(
            Drug(
                name=start + stem,
                drug_class=f"{stem}s",
                mechanism=f"{target} {noun}",
                acts=verb.format(target),
                indication=diseases[indications[number]],
                effect=effects[number],
                food=foods[number],
                test=tests[number],
            )
        )
    return World(tuple(drugs), tuple(trial for drug in drugs for trial in _trials(rng, drug, diseases)))


def _deal(rng: Random, indices: range) -> list[int]:
    dealt = [*indices] * (NUM_DRUGS // NUM_VALUES)
    rng.shuffle(dealt)
    return dealt


def _trials(rng: Random, drug: Drug, diseases: Sequence[str]) -> tuple[Trial, ...]:
    failed, unclear = rng.sample([disease for disease in diseases if disease != drug.indication], 2)
    return (Trial(drug, drug.indication, "yes"), Trial(drug, failed, "no"), Trial(drug, unclear, "maybe"))
