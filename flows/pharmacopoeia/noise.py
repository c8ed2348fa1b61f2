"""Noise of every kind that a pipeline has to deal with, each specimen with the fate that it should meet.

In: the clean specimens of one source and a random generator. Out: further specimens of that source, copies of clean
ones or documents of their own. Documents that leak questions are in `leaks`, lines that hold none in `broken_lines`.
A copy never beats its original: it has the same licence, is no longer, and its id comes later.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from random import Random

from domainlm.flows.pharmacopoeia.abstracts import safety_abstract
from domainlm.flows.pharmacopoeia.cases import case_report
from domainlm.flows.pharmacopoeia.clean import specimen, times
from domainlm.flows.pharmacopoeia.foreign import FOREIGN
from domainlm.flows.pharmacopoeia.general import general_text
from domainlm.flows.pharmacopoeia.grammar import NUMBER_WORDS, PEOPLE, TOWNS, say, say_some
from domainlm.flows.pharmacopoeia.leaflets import TAKING, leaflet
from domainlm.flows.pharmacopoeia.pages import CONTACTS, COOKIE_NOTICE, DOSE_SHEET, NAVIGATION, REPRINT_HEADERS
from domainlm.flows.pharmacopoeia.specimen import BrokenLine, Specimen
from domainlm.flows.pharmacopoeia.world import World

# Specimens of a kind in one source at scale 1; of `dose_variant` families.
COUNTS: Mapping[str, Mapping[str, int]] = {
    "abstracts": {"exact_copy": 12, "reprint": 12, "dose_variant": 6, "language": 9, "license_nc": 10,
                  "license_missing": 8, "too_short": 6, "repetition": 6},
    "leaflets": {"exact_copy": 12, "reprint": 12, "dose_variant": 6, "language": 9, "boilerplate": 16, "pii": 10,
                 "license_nc": 6, "license_missing": 6, "too_short": 6, "repetition": 6},
    "case_reports": {"exact_copy": 6, "reprint": 6, "pii": 14},
    "general": {"exact_copy": 6, "reprint": 6, "language": 6, "boilerplate": 10, "license_nc": 4,
                "license_missing": 4, "too_short": 4, "repetition": 4},
}  # fmt: skip
DOSES_PER_FAMILY = 6
NUM_FOREIGN_SENTENCES = 8
MIN_REPRINT_WORDS = 110  # in a shorter document a changed line is more than a reprint
NUMBER = re.compile(rf"\d|\b(?:one|{'|'.join(NUMBER_WORDS)})\b", re.IGNORECASE)

Kind = Callable[[Random, World, Sequence[Specimen]], list[Specimen]]


def noise_of(rng: Random, world: World, clean: Sequence[Specimen], *, scale: float) -> list[Specimen]:
    """The noise of one source, numbered after its clean specimens."""
    source, added = clean[0].source, list[Specimen]()
    for kind, count in COUNTS[source].items():
        for _ in range(times(count, scale)):
            for found in KINDS[kind](rng, world, clean):
                number = len(clean) + len(added)
                added.append(replace(found, id=specimen(source, number, "").id, kind=kind))
    return added


def fresh_text(rng: Random, world: World, source: str) -> str:
    """A text of the source's own sort that is not among its clean ones."""
    drug = rng.choice(world.drugs)
    if source == "abstracts":
        return str(safety_abstract(rng, drug))
    if source == "leaflets":
        return leaflet(rng, drug)
    if source == "case_reports":
        return case_report(rng, drug)
    return general_text(rng)


def broken_lines() -> list[BrokenLine]:
    """Lines of a JSONL file that no reader can make a document of."""
    whole = b'{"id": "%s", "text": "%s", "source": "abstracts", "license": "CC0-1.0"}'
    return [
        BrokenLine(
            "abstracts", "invalid_utf8", whole % (b"abs-900001", b"a caf\xe9 by the harbour, and a page to read")
        ),
        BrokenLine("abstracts", "truncated_json", (whole % (b"abs-900002", b"this line ends too soon"))[:60]),
        BrokenLine("abstracts", "wrong_type", b'{"id": "abs-900003", "text": ["not", "text"], "license": "CC0-1.0"}'),
        BrokenLine("abstracts", "empty_text", whole % (b"abs-900004", b"")),
    ]


def _exact_copy(rng: Random, world: World, clean: Sequence[Specimen]) -> list[Specimen]:
    original = rng.choice(clean)
    return [replace(original, fate="duplicate", group=original.doc_id)]


def _reprint(rng: Random, world: World, clean: Sequence[Specimen]) -> list[Specimen]:
    """Another, shorter first line over the same body. The line that goes has no number: that would be a difference."""
    header = rng.choice(REPRINT_HEADERS)
    while True:
        original = rng.choice(clean)
        title, _, body = original.text.partition("\n")
        if len(title) > len(header) and not NUMBER.search(title) and len(body.split()) >= MIN_REPRINT_WORDS:
            return [replace(original, text=f"{header}\n{body}", fate="near_duplicate", group=original.doc_id)]


def _dose_variant(rng: Random, world: World, clean: Sequence[Specimen]) -> list[Specimen]:
    """A family of summaries that differ in two numbers and in nothing else: each says something of its own."""
    drug, mg_per_kg = rng.choice(world.drugs), rng.randrange(2, 9)
    left_open = {"weight": "{weight}", "milligrams": "{milligrams}"}
    sheet = "\n".join(say(rng, line, drug.subject() | left_open) for line in DOSE_SHEET)
    family = f"dose sheet {rng.randrange(10**6):06d} of {drug.name}"
    weights = sorted(rng.sample(range(40, 120, 5), DOSES_PER_FAMILY))
    texts = [sheet.format(weight=weight, milligrams=weight * mg_per_kg) for weight in weights]
    return [replace(_own(clean, text), group=family) for text in texts]


def _language(rng: Random, world: World, clean: Sequence[Specimen]) -> list[Specimen]:
    code = rng.choice(sorted(FOREIGN))
    text = " ".join(rng.sample(FOREIGN[code], NUM_FOREIGN_SENTENCES))
    return [replace(_own(clean, text), fate="language", evidence=(code,))]


def _boilerplate(rng: Random, world: World, clean: Sequence[Specimen]) -> list[Specimen]:
    text = say_some(rng, COOKIE_NOTICE, {}, len(COOKIE_NOTICE) - 2)
    if rng.random() < 0.5:
        text = "\n".join(rng.sample(NAVIGATION, len(NAVIGATION) - 3))
    return [replace(_own(clean, text), fate="boilerplate")]


def _pii(rng: Random, world: World, clean: Sequence[Specimen]) -> list[Specimen]:
    """Addresses, telephone numbers and networks that are set aside for examples; the document stays, they must not."""
    first, last = rng.choice(PEOPLE).lower().split()
    found = {
        "email": f"{first}.{last}@clinic-{rng.choice(TOWNS).split()[0].lower()}.example",
        "phone": rng.choice((f"+44 20 7946 0{rng.randrange(1000):03d}", f"(555) 555-01{rng.randrange(100):02d}")),
        "mrn": f"{rng.randrange(10**8):08d}",
        "ip": f"192.0.2.{rng.randrange(1, 255)}",
    }
    line = rng.choice(CONTACTS)
    text = f"{fresh_text(rng, world, clean[0].source)}\n{line.format_map(found)}"
    return [replace(_own(clean, text), evidence=tuple(value for name, value in found.items() if f"{{{name}}}" in line))]


def _license_nc(rng: Random, world: World, clean: Sequence[Specimen]) -> list[Specimen]:
    url = rng.choice((None, "https://creativecommons.org/licenses/by-nc/4.0/"))
    closed = _own(clean, fresh_text(rng, world, clean[0].source))
    return [replace(closed, license="CC BY-NC 4.0", license_url=url, fate="license")]


def _license_missing(rng: Random, world: World, clean: Sequence[Specimen]) -> list[Specimen]:
    silent = _own(clean, fresh_text(rng, world, clean[0].source))
    return [replace(silent, license=None, license_url=None, fate="license")]


def _too_short(rng: Random, world: World, clean: Sequence[Specimen]) -> list[Specimen]:
    return [replace(_own(clean, say(rng, rng.choice(TAKING), {})), fate="too_short")]


def _repetition(rng: Random, world: World, clean: Sequence[Specimen]) -> list[Specimen]:
    sentence = say(rng, rng.choice(TAKING), {})
    line = f"To be read to all of the patients that have come, with a pause: {sentence}"
    return [replace(_own(clean, "\n".join([line] * rng.randrange(6, 12))), fate="repetition")]


def _own(clean: Sequence[Specimen], text: str) -> Specimen:
    """A document of its own, under the first of the licences; its id and kind come with its number."""
    return specimen(clean[0].source, 0, text)


KINDS: Mapping[str, Kind] = {
    "exact_copy": _exact_copy,
    "reprint": _reprint,
    "dose_variant": _dose_variant,
    "language": _language,
    "boilerplate": _boilerplate,
    "pii": _pii,
    "license_nc": _license_nc,
    "license_missing": _license_missing,
    "too_short": _too_short,
    "repetition": _repetition,
}
