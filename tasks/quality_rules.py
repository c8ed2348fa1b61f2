"""The published quality rules, by datatrove's own blocks with our word tokenizer: Gopher, C4 and FineWeb.

In: a document and a rule's settings. Out: a verdict whose value is the block's reason, and whose threshold is the
setting that it went by. A block stops at its first reason.

Web thresholds drop typical biomedical prose: on 1,357 real trials the published ones drop 336 (294 for too few
alphabetic words, since every punctuation mark counts as a word), on 198 textbook sections 77. The defaults here drop 1
and 9 of them with all four rules; the published number stands in each description.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Annotated, Literal

from datatrove.data import Document as TroveDocument
from datatrove.pipeline.filters import (
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
)
from datatrove.pipeline.filters.base_filter import BaseFilter
from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveInt

from domainlm.tasks.documents import Document, Verdict
from domainlm.tasks.words import WORDS

Share = Annotated[float, Field(ge=0, le=1)]


class Settings(BaseModel):
    """What a rule is given by the recipe."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class GopherQualityRule(Settings, title="Gopher quality"):
    """Reads like prose (Rae et al. 2021, table A1); its length limits are the rule `length`."""

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


class GopherRepetitionRule(Settings, title="Gopher repetition"):
    """Does not repeat itself (Rae et al. 2021, table A1)."""

    rule: Literal["gopher_repetition"] = "gopher_repetition"
    max_duplicate_paragraphs: Share = Field(0.3, title="Duplicate paragraphs", description="Share (Gopher: 0.3).")
    max_duplicate_lines: Share = Field(0.3, title="Duplicate lines", description="Share (Gopher: 0.3).")
    max_paragraph_chars: Share = Field(0.2, title="Duplicate paragraph characters", description="(Gopher: 0.2)")
    max_line_chars: Share = Field(0.2, title="Duplicate line characters", description="(Gopher: 0.2)")
    top_ngrams: tuple[tuple[int, float], ...] = Field(
        ((2, 0.2), (3, 0.18), (4, 0.16)),
        title="Commonest n-grams",
        description="n and the most characters in the commonest, as a share (Gopher: 2-4 words, 0.2, 0.18, 0.16).",
    )
    duplicate_ngrams: tuple[tuple[int, float], ...] = Field(
        ((5, 0.25), (6, 0.24), (7, 0.23), (8, 0.22), (9, 0.21), (10, 0.20)),
        title="Duplicate n-grams",
        description="n and the most characters in repeated ones, as a share (Gopher: 5-10 words, 0.15 down to 0.10).",
    )


class C4Rule(Settings, title="C4"):
    """Has sentences (Raffel et al. 2020). The block's edits of lines are not taken over: documents stay as they are."""

    rule: Literal["c4"] = "c4"
    min_sentences: PositiveInt = Field(3, title="Least sentences", description="In lines that count (C4: 5).")
    terminal_punctuation: bool = Field(
        True, title="Only finished lines", description="A line counts only if it ends in a stop (C4: yes)."
    )
    curly_brackets: bool = Field(
        True, title="Curly brackets", description="Keep pages with { (C4: no); LaTeX has them."
    )


class FineWebRule(Settings, title="FineWeb"):
    """Lines look like paragraphs (Penedo et al. 2024)."""

    rule: Literal["fineweb"] = "fineweb"
    min_finished_lines: Share = Field(
        0.1, title="Finished lines", description="Share ending in a stop (FineWeb: 0.12)."
    )
    max_short_lines: Share = Field(0.8, title="Short lines", description="Share of 30 characters (FineWeb: 0.67).")
    max_duplicate_chars: Share = Field(0.1, title="Duplicate lines", description="Share of text (FineWeb: 0.01).")
    max_line_breaks: Share = Field(0.3, title="Line breaks", description="For each word (FineWeb: 0.3).")


QualitySettings = GopherQualityRule | GopherRepetitionRule | C4Rule | FineWebRule

# The setting behind each of the blocks' reasons; for n-grams the pair (n, share) names itself.
REASONS: Mapping[str, str] = {
    "gopher_below_avg_threshold": "min_word_chars",
    "gopher_above_avg_threshold": "max_word_chars",
    "gopher_too_many_hashes": "max_symbols",
    "gopher_too_many_ellipsis": "max_symbols",
    "gopher_too_many_bullets": "max_bullets",
    "gopher_too_many_end_ellipsis": "max_ellipses",
    "gopher_below_alpha_threshold": "min_alphabetic",
    "gopher_enough_stop_words": "min_stop_words",
    "dup_para_frac": "max_duplicate_paragraphs",
    "dup_line_frac": "max_duplicate_lines",
    "dup_para_char_frac": "max_paragraph_chars",
    "dup_line_char_frac": "max_line_chars",
    "too_few_sentences": "min_sentences",
    "curly_bracket": "curly_brackets",
    "line_punct_ratio": "min_finished_lines",
    "short_line_ratio": "max_short_lines",
    "char_dup_ratio": "max_duplicate_chars",
    "list_ratio": "max_line_breaks",
}


def gopher_quality(document: Document, settings: GopherQualityRule) -> Verdict:
    """datatrove's GopherQualityFilter, without its limits of length."""
    return _block_verdict(document, settings, _gopher_quality_block(settings))


def gopher_repetition(document: Document, settings: GopherRepetitionRule) -> Verdict:
    """datatrove's GopherRepetitionFilter."""
    return _block_verdict(document, settings, _gopher_repetition_block(settings))


def c4(document: Document, settings: C4Rule) -> Verdict:
    """datatrove's C4QualityFilter."""
    return _block_verdict(document, settings, _c4_block(settings))


def fineweb(document: Document, settings: FineWebRule) -> Verdict:
    """datatrove's FineWebQualityFilter."""
    return _block_verdict(document, settings, _fineweb_block(settings))


def _block_verdict(document: Document, settings: QualitySettings, block: BaseFilter) -> Verdict:
    if not re.search(r"\w", document.text):  # the blocks divide by the number of words
        return Verdict(document.doc_id, settings.rule, "no words", "some words", keep=False)
    result = block.filter(TroveDocument(text=document.text, id=document.doc_id))
    if result is True:
        return Verdict(document.doc_id, settings.rule, "passed", "all", keep=True)
    reason = str(result[1]) if isinstance(result, tuple) else "dropped"
    return Verdict(document.doc_id, settings.rule, reason, _threshold(settings, reason), keep=False)


def _threshold(settings: QualitySettings, reason: str) -> str:
    if name := REASONS.get(reason):
        return f"{name} {getattr(settings, name):g}"
    ngram = re.fullmatch(r"(?:top|duplicated)_(\d+)_(?:n_)?grams?", reason)
    if ngram and isinstance(settings, GopherRepetitionRule):
        shares = settings.top_ngrams if reason.startswith("top") else settings.duplicate_ngrams
        return f"{dict(shares)[int(ngram[1])]:g}"
    return "none"


@lru_cache
def _gopher_quality_block(settings: GopherQualityRule) -> BaseFilter:
    return GopherQualityFilter(
        min_doc_words=None,
        max_doc_words=None,
        min_avg_word_length=settings.min_word_chars,
        max_avg_word_length=settings.max_word_chars,
        max_symbol_word_ratio=settings.max_symbols,
        max_bullet_lines_ratio=settings.max_bullets,
        max_ellipsis_lines_ratio=settings.max_ellipses,
        max_non_alpha_words_ratio=settings.min_alphabetic,
        min_stop_words=settings.min_stop_words,
        language=WORDS,
    )


@lru_cache
def _gopher_repetition_block(settings: GopherRepetitionRule) -> BaseFilter:
    return GopherRepetitionFilter(
        dup_para_frac=settings.max_duplicate_paragraphs,
        dup_line_frac=settings.max_duplicate_lines,
        dup_para_char_frac=settings.max_paragraph_chars,
        dup_line_char_frac=settings.max_line_chars,
        top_n_grams=settings.top_ngrams,
        dup_n_grams=settings.duplicate_ngrams,
        language=WORDS,
    )


@lru_cache
def _c4_block(settings: C4Rule) -> BaseFilter:
    return C4QualityFilter(
        min_num_sentences=settings.min_sentences,
        filter_no_terminal_punct=settings.terminal_punctuation,
        filter_curly_bracket=not settings.curly_brackets,
        language=WORDS,
    )


@lru_cache
def _fineweb_block(settings: FineWebRule) -> BaseFilter:
    return FineWebQualityFilter(
        line_punct_thr=settings.min_finished_lines,
        short_line_thr=settings.max_short_lines,
        char_duplicates_ratio=settings.max_duplicate_chars,
        new_line_ratio=settings.max_line_breaks,
        language=WORDS,
    )
