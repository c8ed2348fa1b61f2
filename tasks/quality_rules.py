"""The published quality rules as checks of measures: Gopher, C4 and FineWeb.

Each rule is a settings model; `checks` pairs its settings with what `quality.measures` has measured. With a paper's
thresholds a rule keeps and drops exactly what datatrove's block of that paper does, given our word tokenizer.

Web thresholds drop typical biomedical prose: on 1,357 real trials the published ones drop 336 (294 for too few
alphabetic words, since every punctuation mark counts as a word), on 198 textbook sections 77. The defaults here drop 1
and 9 of them with all four rules; the published number stands in each description. `profiles` has them by domain.
"""

from collections.abc import Iterator
from typing import Annotated, Literal

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveInt

from domainlm.tasks.opinions import Check, Opinion, at_least, at_most

Share = Annotated[float, Field(ge=0, le=1)]
SOME_TEXT = at_least("tokens", "tokens", 1)  # the blocks divide by the number of words and marks


class Settings(BaseModel):
    """What a rule is given by the recipe."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class MeasuredRule(Settings):
    """A rule that is nothing but checks of measures."""

    rule: str

    def checks(self) -> tuple[Check, ...]:
        """The measures and the thresholds that the settings give them."""
        raise NotImplementedError

    def opinions(self, annotations: pa.Table) -> Iterator[Opinion]:
        """What each check says."""
        yield from (check.opinion(self.rule, annotations) for check in self.checks())


class GopherQualityRule(MeasuredRule, title="Gopher quality"):
    """Reads like prose (Rae et al. 2021, section A.1.1); its length limits are the rule `length`."""

    rule: Literal["gopher_quality"] = "gopher_quality"
    min_word_chars: NonNegativeFloat = Field(3, title="Shortest mean word", description="Characters (Gopher: 3).")
    max_word_chars: NonNegativeFloat = Field(10, title="Longest mean word", description="Characters (Gopher: 10).")
    max_symbols: Share = Field(0.1, title="Most symbols", description="# or ... for each word (Gopher: 0.1).")
    max_bullets: Share = Field(0.9, title="Most bullets", description="Share of lines that begin so (Gopher: 0.9).")
    max_ellipses: Share = Field(0.3, title="Most ellipses", description="Share of lines that end so (Gopher: 0.3).")
    min_alphabetic: Share = Field(
        0.6, title="Least alphabetic", description="Share of words and marks with a letter (Gopher: 0.8)."
    )
    min_stop_words: int = Field(2, ge=0, title="Least stop words", description="Different ones of 8 (Gopher: 2).")

    def checks(self) -> tuple[Check, ...]:
        """In the order of datatrove's block."""
        return (
            SOME_TEXT,
            at_least("gopher_quality.mean_word_chars", "min_word_chars", self.min_word_chars),
            at_most("gopher_quality.mean_word_chars", "max_word_chars", self.max_word_chars),
            at_most("gopher_quality.hashes", "max_symbols", self.max_symbols),
            at_most("gopher_quality.ellipses", "max_symbols", self.max_symbols),
            at_most("gopher_quality.bullet_lines", "max_bullets", self.max_bullets),
            at_most("gopher_quality.ellipsis_lines", "max_ellipses", self.max_ellipses),
            at_least("gopher_quality.alphabetic", "min_alphabetic", self.min_alphabetic),
            at_least("gopher_quality.stop_words", "min_stop_words", self.min_stop_words),
        )


class GopherRepetitionRule(MeasuredRule, title="Gopher repetition"):
    """Does not repeat itself (Rae et al. 2021, table A1)."""

    rule: Literal["gopher_repetition"] = "gopher_repetition"
    max_duplicate_paragraphs: Share = Field(0.3, title="Duplicate paragraphs", description="Share (Gopher: 0.3).")
    max_duplicate_lines: Share = Field(0.3, title="Duplicate lines", description="Share (Gopher: 0.3).")
    max_paragraph_chars: Share = Field(0.2, title="Duplicate paragraph characters", description="(Gopher: 0.2)")
    max_line_chars: Share = Field(0.2, title="Duplicate line characters", description="(Gopher: 0.2)")
    top_ngrams: tuple[tuple[Literal[2, 3, 4], Share], ...] = Field(
        ((2, 0.2), (3, 0.18), (4, 0.16)),
        title="Commonest n-grams",
        description="n and the most characters in the commonest, as a share (Gopher: 2-4 words, 0.2, 0.18, 0.16).",
    )
    duplicate_ngrams: tuple[tuple[Literal[5, 6, 7, 8, 9, 10], Share], ...] = Field(
        ((5, 0.25), (6, 0.24), (7, 0.23), (8, 0.22), (9, 0.21), (10, 0.20)),
        title="Duplicate n-grams",
        description="n and the most characters in repeated ones, as a share (Gopher: 5-10 words, 0.15 down to 0.10).",
    )

    def checks(self) -> tuple[Check, ...]:
        """In the order of datatrove's block."""
        measures = "gopher_repetition"
        return (
            SOME_TEXT,
            at_most(f"{measures}.paragraphs", "max_duplicate_paragraphs", self.max_duplicate_paragraphs),
            at_most(f"{measures}.paragraph_chars", "max_paragraph_chars", self.max_paragraph_chars),
            at_most(f"{measures}.lines", "max_duplicate_lines", self.max_duplicate_lines),
            at_most(f"{measures}.line_chars", "max_line_chars", self.max_line_chars),
            *(at_most(f"{measures}.top_{n}_grams", f"top_ngrams.{n}", share) for n, share in self.top_ngrams),
            *(
                at_most(f"{measures}.repeated_{n}_grams", f"duplicate_ngrams.{n}", share)
                for n, share in self.duplicate_ngrams
            ),
        )


class C4Rule(MeasuredRule, title="C4"):
    """Has sentences (Raffel et al. 2020, section 2.2). Its edits of lines are not taken over: documents stay as is."""

    rule: Literal["c4"] = "c4"
    min_sentences: PositiveInt = Field(3, title="Least sentences", description="In lines that count (C4: 5).")
    terminal_punctuation: bool = Field(
        True, title="Only finished lines", description="A line counts only if it ends in a stop (C4: yes)."
    )
    curly_brackets: bool = Field(
        True, title="Curly brackets", description="Keep pages with { (C4: no); LaTeX has them."
    )

    def checks(self) -> tuple[Check, ...]:
        """datatrove's block goes line by line; what it would meet first is not kept apart."""
        lines = "c4.finished_" if self.terminal_punctuation else "c4."
        curly = () if self.curly_brackets else (at_most(f"{lines}curly_lines", "curly_brackets", 0),)
        return (
            SOME_TEXT,
            at_most(f"{lines}lorem_lines", "lorem_ipsum", 0),
            *curly,
            at_least(f"{lines}sentences", "min_sentences", self.min_sentences),
        )


class FineWebRule(MeasuredRule, title="FineWeb"):
    """Lines look like paragraphs (Penedo et al. 2024, section 3.6)."""

    rule: Literal["fineweb"] = "fineweb"
    min_finished_lines: Share = Field(
        0.1, title="Finished lines", description="Share ending in a stop (FineWeb: 0.12)."
    )
    max_short_lines: Share = Field(0.8, title="Short lines", description="Share of 30 characters (FineWeb: 0.67).")
    max_duplicate_chars: Share = Field(0.1, title="Duplicate lines", description="Share of text (FineWeb: 0.01).")
    max_line_breaks: Share = Field(0.3, title="Line breaks", description="For each word (FineWeb: 0.3).")

    def checks(self) -> tuple[Check, ...]:
        """In the order of datatrove's block."""
        return (
            SOME_TEXT,
            at_least("fineweb.finished_lines", "min_finished_lines", self.min_finished_lines),
            at_most("fineweb.short_lines", "max_short_lines", self.max_short_lines),
            at_most("fineweb.repeated_line_chars", "max_duplicate_chars", self.max_duplicate_chars),
            at_most("fineweb.line_breaks", "max_line_breaks", self.max_line_breaks),
        )
