"""A document of the shipped corpus together with the truth about it.

`truth.jsonl` has one line a specimen: where it is, what was done to it, and what a pipeline should make of it.
"""

from dataclasses import dataclass
from typing import Literal

Fate = Literal[
    "kept", "duplicate", "near_duplicate", "language", "too_short", "repetition", "boilerplate", "leak", "license",
    "dead_letter", "deleted",
]  # fmt: skip


@dataclass(frozen=True)
class Specimen:
    """One document: `kind` is what was done to it, `fate` what should become of it.

    `group` is the `doc_id` of the document that it copies, of which one should survive, or the name of a family, all of
    which should. `evidence` lists what a stage is to find: PII strings, or ids of leaked questions.
    """

    source: str
    id: str
    text: str
    license: str | None
    license_url: str | None = None
    kind: str = "clean"
    fate: Fate = "kept"
    group: str = ""
    evidence: tuple[str, ...] = ()

    @property
    def doc_id(self) -> str:
        """What the pipeline calls it."""
        return f"{self.source}/{self.id}"


@dataclass(frozen=True)
class BrokenLine:
    """A line of a JSONL source that no reader can make a document of."""

    source: str
    kind: str
    raw: bytes
