"""Profiles: the rules of a domain by name, chosen in a recipe in one line: `filter: {profile: legal}`.

`web` has the thresholds of the papers. The others differ from them where text of their domain does, which a note says;
`docs/filters.md` shows what each profile drops of real text, and of which text its thresholds were chosen by. A recipe
changes a rule of its profile by naming it: `filter: {profile: legal, rules: {length: {min_words: 5}}}`.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import BaseModel

from domainlm.tasks.quality_rules import C4Rule, FineWebRule, GopherQualityRule, GopherRepetitionRule
from domainlm.tasks.rules import BoilerplateRule, LanguageRule, LengthRule, LicenseRule, RetractedRule, RuleSettings

Profile = Literal["biomedical", "finance", "genomics", "legal", "web"]

# As published, from 5 words to 10; tables, statutes and filings repeat themselves more than web pages do.
PUBLISHED_REPEATS = ((5, 0.15), (6, 0.14), (7, 0.13), (8, 0.12), (9, 0.11), (10, 0.10))
SOME_REPEATS = ((5, 0.25), (6, 0.24), (7, 0.23), (8, 0.22), (9, 0.21), (10, 0.20))
MANY_REPEATS = ((5, 0.45), (6, 0.42), (7, 0.39), (8, 0.36), (9, 0.33), (10, 0.30))

WEB = (
    LicenseRule(),
    RetractedRule(),
    LengthRule(min_words=50),
    LanguageRule(),
    BoilerplateRule(),
    GopherQualityRule(min_alphabetic=0.8),
    GopherRepetitionRule(duplicate_ngrams=PUBLISHED_REPEATS),
    C4Rule(min_sentences=5, curly_brackets=False),
    FineWebRule(min_finished_lines=0.12, max_short_lines=0.67, max_duplicate_chars=0.01),
)

BIOMEDICAL = (
    LicenseRule(),
    RetractedRule(),
    LengthRule(),  # a short abstract has 40 words
    LanguageRule(),
    BoilerplateRule(),
    GopherQualityRule(min_alphabetic=0.6),  # "(95% CI 1.2-3.4; p < 0.001)" is mostly numbers and marks
    # Drugs, doses and outcomes are named over and over: one trial in a hundred has 5-grams of 0.17 and more.
    GopherRepetitionRule(duplicate_ngrams=SOME_REPEATS),
    # Lines of tables, keywords and references end in no stop, so all count; LaTeX has curly brackets.
    C4Rule(min_sentences=3, terminal_punctuation=False, curly_brackets=True),
    # Some question-and-answer pages have no line that ends in a stop.
    FineWebRule(min_finished_lines=0, max_short_lines=0.8, max_duplicate_chars=0.1),
)

LEGAL = (
    LicenseRule(),
    RetractedRule(),
    LengthRule(min_words=20, max_words=300_000),  # a section of a code is short, a credit agreement long
    LanguageRule(),
    BoilerplateRule(phrases=("accept cookies", "click here", "cookie policy", "enable javascript", "log in to")),
    # Citations ("52 Stat. 810, ch. 620, § 4(a)") are numbers and marks; tables of contents are dotted lines.
    GopherQualityRule(min_alphabetic=0.5, max_symbols=0.2),
    # Definitions are repeated word by word on purpose, and dotted lines are one 4-gram.
    GopherRepetitionRule(
        max_duplicate_lines=0.4,
        top_ngrams=((2, 0.25), (3, 0.3), (4, 0.5)),
        duplicate_ngrams=MANY_REPEATS,
    ),
    # Of 100 sections of a code 5 have two sentences or fewer.
    C4Rule(min_sentences=1, terminal_punctuation=False, curly_brackets=True),
    # Enumerated clauses end in ";" or "and", and each stands on a line of its own.
    FineWebRule(min_finished_lines=0.02, max_short_lines=0.85, max_duplicate_chars=0.3),
)

FINANCE = (
    LicenseRule(),
    RetractedRule(),
    LengthRule(min_words=50, max_words=300_000),  # 25 annual reports have 27,000 to 59,000
    LanguageRule(),
    # "All rights reserved", "terms of use" and "sign up for" are what filings are about; nobody logs in to one.
    BoilerplateRule(phrases=("accept cookies", "click here", "cookie policy", "enable javascript", "log in to")),
    GopherQualityRule(min_alphabetic=0.6),  # figures and marks are 16 to 36 % of the words of those reports
    # Its tables give a cell a line ("$", "-", "2024"): 0.55 to 0.76 of the lines, at most 0.40 of the characters.
    GopherRepetitionRule(max_duplicate_lines=0.8, max_line_chars=0.45, duplicate_ngrams=MANY_REPEATS),
    C4Rule(min_sentences=5, terminal_punctuation=False, curly_brackets=True),
    FineWebRule(min_finished_lines=0.02, max_short_lines=0.92, max_duplicate_chars=0.45),
)

GENOMICS = (
    # A sequence is one word without an end: rules of prose, sentences and language have nothing to say of it.
    LicenseRule(),
    RetractedRule(),
    LengthRule(min_words=1, max_words=10_000_000),
    GopherRepetitionRule(
        max_duplicate_paragraphs=0.5,
        max_duplicate_lines=0.5,
        max_paragraph_chars=0.5,
        max_line_chars=0.5,
        top_ngrams=(),
        duplicate_ngrams=(),
    ),
)

PROFILES: Mapping[Profile, tuple[RuleSettings, ...]] = {
    "biomedical": BIOMEDICAL,
    "finance": FINANCE,
    "genomics": GENOMICS,
    "legal": LEGAL,
    "web": WEB,
}


def changed_by_name(base: Sequence[RuleSettings], given: Mapping[str, object]) -> list[object]:
    """The rules with those given as a map of names: `{length: {min_words: 5}}`."""
    return changed(base, [{"rule": name, **one} if isinstance(one, dict) else one for name, one in given.items()])


def changed(base: Sequence[RuleSettings], given: Sequence[object]) -> list[object]:
    """The rules with those given: the settings of one of the same name are changed, others are added."""
    rules: list[object] = [settings.model_dump() for settings in base]
    places: dict[object, int] = {settings.rule: place for place, settings in enumerate(base)}
    for one in given:
        settings = one.model_dump() if isinstance(one, BaseModel) else one
        place = places.pop(settings.get("rule"), None) if isinstance(settings, dict) else None
        before = rules[place] if place is not None else None
        if isinstance(before, dict) and isinstance(settings, dict) and place is not None:
            rules[place] = {**before, **settings}
        else:  # another rule, or the same once more, which the filter refuses
            rules.append(settings)
    return rules
