"""Rules: each says one thing of one document, and why. `filter` writes down what all of them say, and then selects.

A rule is a settings model (what the recipe's YAML gives: `{rule: length, min_words: 50}`) and one function
(document, settings) -> Verdict in `RULES`. To add one: the model, the function, a line in `RULES`, a name in
`RuleSettings`. The published quality rules are in `quality_rules`.
"""

import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Annotated, Literal

from py3langid.langid import MODEL_FILE, LanguageIdentifier
from pydantic import Field, PositiveInt

from domainlm.tasks.documents import Document, Verdict
from domainlm.tasks.licenses import LicensePolicy
from domainlm.tasks.quality_rules import (
    C4Rule,
    FineWebRule,
    GopherQualityRule,
    GopherRepetitionRule,
    Settings,
    Share,
    c4,
    fineweb,
    gopher_quality,
    gopher_repetition,
)
from domainlm.tasks.words import WORDS, count_words

LanguageCode = Annotated[str, Field(pattern=r"^[a-z]{2,3}$")]
LANGUAGE_SAMPLE_CHARS = 1_000  # from the beginning, middle and end; the identifier walks byte by byte at 2.5 MB/s


class LicenseRule(Settings, title="Licence gate"):
    """The licence is allowed by the filter's licence policy."""

    rule: Literal["license"] = "license"


class RetractedRule(Settings, title="Not retracted"):
    """The article was not retracted, as far as its own metadata says."""

    rule: Literal["retracted"] = "retracted"


class LanguageRule(Settings, title="Language"):
    """Written in one of these languages, by a model that ships with py3langid."""

    rule: Literal["language"] = "language"
    languages: tuple[LanguageCode, ...] = Field(
        ("en",), title="Languages", description="ISO 639 codes, such as en.", min_length=1
    )
    min_score: Share = Field(0.65, title="Least score", description="Probability that the language must reach.")
    among: tuple[LanguageCode, ...] = Field(
        (), title="Among", description="Languages that are told apart; empty for all 140 of the model."
    )


class LengthRule(Settings, title="Length"):
    """Long enough to teach something, short enough to be one document."""

    rule: Literal["length"] = "length"
    min_words: PositiveInt = Field(20, title="Least words", description="A short abstract has 40 (Gopher: 50).")
    max_words: PositiveInt = Field(100_000, title="Most words", description="More is a book or a dump.")


class BoilerplateRule(Settings, title="Boilerplate"):
    """Not mostly made of sentences that say nothing about the subject."""

    rule: Literal["boilerplate"] = "boilerplate"
    phrases: tuple[str, ...] = Field(
        (
            "accept cookies",
            "all rights reserved",
            "click here",
            "cookie policy",
            "enable javascript",
            "log in to",
            "privacy policy",
            "sign up for",
            "subscribe to",
            "terms of use",
        ),
        title="Phrases",
        description="A sentence with one of these, in any case, is boilerplate.",
        min_length=1,
    )
    max_share: Share = Field(0.3, title="Most boilerplate", description="Share of characters in such sentences.")


RuleSettings = (
    LicenseRule
    | RetractedRule
    | LanguageRule
    | LengthRule
    | BoilerplateRule
    | GopherQualityRule
    | GopherRepetitionRule
    | C4Rule
    | FineWebRule
)
Rule = Annotated[RuleSettings, Field(discriminator="rule")]


def license_gate(document: Document, policy: LicensePolicy) -> Verdict:
    """`allowed`, `denied` or `quarantined`, with the licence that was judged."""
    judgement = policy.judge(document.license)
    value = f"{judgement}: {document.license}"
    return Verdict(document.doc_id, "license", value, "allowed", judgement == "allowed")


def retracted(document: Document, settings: RetractedRule) -> Verdict:
    """PubMed's "Retracted Publication", a reader's `retracted: true`, or a title that says so."""
    metadata = json.loads(document.native_metadata)
    types = metadata.get("publication_types") or []
    says_so = bool(metadata.get("retracted")) or "Retracted Publication" in types
    says_so = says_so or document.text[:20].upper().startswith(("RETRACTED:", "RETRACTED ARTICLE"))
    return Verdict(
        document.doc_id, settings.rule, "retracted" if says_so else "not retracted", "not retracted", not says_so
    )


def language(document: Document, settings: LanguageRule) -> Verdict:
    """The likeliest language and its probability."""
    found, score = _identifier(settings).classify(_sample(document.text))
    keep = found in settings.languages and score >= settings.min_score
    threshold = f"{'/'.join(settings.languages)} {settings.min_score:g}"
    return Verdict(document.doc_id, settings.rule, f"{found} {score:.3f}", threshold, keep)


def length(document: Document, settings: LengthRule) -> Verdict:
    """Words that hold a letter or a digit."""
    words = count_words(document.text)
    keep = settings.min_words <= words <= settings.max_words
    return Verdict(
        document.doc_id, settings.rule, str(words), f"{settings.min_words}..{settings.max_words} words", keep
    )


def boilerplate(document: Document, settings: BoilerplateRule) -> Verdict:
    """Share of characters in sentences that hold one of the phrases."""
    phrases = tuple(phrase.casefold() for phrase in settings.phrases)
    whole = document.text.casefold()
    marked = 0
    if any(phrase in whole for phrase in phrases):
        sentences = (sentence.casefold() for sentence in WORDS.sent_tokenize(document.text))
        marked = sum(len(sentence) for sentence in sentences if any(phrase in sentence for phrase in phrases))
    share = marked / max(1, len(whole))
    keep = share <= settings.max_share
    return Verdict(document.doc_id, settings.rule, f"{share:.3f}", f"{settings.max_share:g}", keep)


RULES: Mapping[str, Callable[..., Verdict]] = {
    "license": license_gate,
    "retracted": retracted,
    "language": language,
    "length": length,
    "boilerplate": boilerplate,
    "gopher_quality": gopher_quality,
    "gopher_repetition": gopher_repetition,
    "c4": c4,
    "fineweb": fineweb,
}


def _sample(text: str) -> str:
    if len(text) <= 3 * LANGUAGE_SAMPLE_CHARS:
        return text
    middle = (len(text) - LANGUAGE_SAMPLE_CHARS) // 2
    parts = (text[start : start + LANGUAGE_SAMPLE_CHARS] for start in (0, middle, len(text) - LANGUAGE_SAMPLE_CHARS))
    return "\n".join(parts)


@lru_cache
def _identifier(settings: LanguageRule) -> LanguageIdentifier:
    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    if unknown := sorted({*settings.languages, *settings.among} - set(identifier.labels)):
        raise ValueError(
            f"the rule `language` does not know {', '.join(unknown)}; it knows {sorted(identifier.labels)}."
        )
    if settings.among:
        identifier.set_languages(sorted({*settings.among, *settings.languages}))
    return identifier
