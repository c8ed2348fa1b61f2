"""Any filter of datatrove by its name, where it judges a document by its text alone and fetches nothing.

In: texts. Out: the reason that the block gives for dropping each, or null. Blocks that take a language get our words.
"""

import inspect
from collections.abc import Mapping
from typing import Self

import pyarrow as pa
from datatrove.data import Document as TroveDocument
from datatrove.pipeline import filters as blocks
from datatrove.pipeline.filters.base_filter import BaseFilter
from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator, model_validator

from domainlm.tasks.words import WORDS

ALLOWED: Mapping[str, type[BaseFilter]] = {
    block.__name__: block
    for block in (
        *(blocks.C4ParagraphFilter, blocks.C4QualityFilter, blocks.FineWebQualityFilter),
        *(blocks.GopherQualityFilter, blocks.GopherRepetitionFilter, blocks.RegexFilter),
    )
}
REFUSED: Mapping[str, str] = {
    "C4BadWordsFilter": "it fetches its word lists, and nothing is fetched that the recipe does not name",
    "FastTextClassifierFilter": "it fetches its model; the rule `domain` learns one from the recipe's own sources",
    "LanguageFilter": "it fetches its model; the rule `language` has one that ships with it",
    "LambdaFilter": "it takes code, and a recipe holds none",
    "SamplerFilter": "it draws lots in the order of the documents; the result would depend on how they are sharded",
    "UnigramLogProbFilter": "it fetches its table of words",
    "URLFilter": "it judges web addresses by lists that it unpacks and fetches, and not the text",
}
NOT_PARAMETERS = ("self", "exclusion_writer", "language", "tokenizer_language")


class DatatroveFilter(BaseModel):
    """One of datatrove's filters and what it is given."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="datatrove filter")

    filter: str = Field(title="Filter", description=f"One of {', '.join(sorted(ALLOWED))}.")
    parameters: Mapping[str, JsonValue] = Field(
        default_factory=dict, title="Parameters", description="As datatrove names them; its defaults for the others."
    )

    @field_validator("filter")
    @classmethod
    def _is_allowed(cls, name: str) -> str:
        if name in REFUSED:
            raise ValueError(f"datatrove's {name} cannot be a rule: {REFUSED[name]}. Allowed: {', '.join(ALLOWED)}.")
        if name not in ALLOWED:
            raise ValueError(f"datatrove has no filter {name!r} that can be a rule. Allowed: {', '.join(ALLOWED)}.")
        return name

    @model_validator(mode="after")
    def _can_be_made(self) -> Self:
        known = [
            name for name in inspect.signature(ALLOWED[self.filter].__init__).parameters if name not in NOT_PARAMETERS
        ]
        if unknown := sorted(set(self.parameters) - set(known)):
            takes = f"it takes {', '.join(known)}" if known else "it takes none"
            raise ValueError(f"datatrove's {self.filter} has no parameter {', '.join(unknown)}; {takes}.")
        try:
            self.block()
        except Exception as error:  # whatever a constructor of theirs makes of a wrong value
            raise ValueError(f"datatrove's {self.filter} does not take {dict(self.parameters)}: {error}") from error
        return self

    def block(self) -> BaseFilter:
        """The filter, with our words where it takes a language."""
        block = ALLOWED[self.filter]
        words = {"language": WORDS} if "language" in inspect.signature(block.__init__).parameters else {}
        return block(**self.parameters, **words)


def reasons(texts: pa.Array, asked: DatatroveFilter) -> pa.Array:
    """Why the filter drops each text; null where it keeps it."""
    block = asked.block()
    return pa.array([_reason(text, block) for text in texts.to_pylist()], pa.string())


def _reason(text: str, block: BaseFilter) -> str | None:
    if not text.strip():
        return "no words"  # by whose number some blocks divide
    result = block.filter(TroveDocument(text=text, id=""))
    if isinstance(result, tuple):
        return None if result[0] else str(result[1])
    return None if result else "dropped"
