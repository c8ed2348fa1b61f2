"""Rules: each says of which documents it does not want, and why, from their annotations.

A rule is a settings model (what the recipe's YAML gives: `{rule: length, min_words: 50}`) whose `opinions` compare
what `annotate` has measured with the settings. To add one: the model, a name in `RuleSettings`, and, if nothing yet
measures what it needs, an annotator. The published quality rules are in `quality_rules`.
"""

import json
from collections.abc import Iterator
from typing import Annotated, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, PositiveInt

from domainlm.tasks.datatrove_filters import DatatroveFilter
from domainlm.tasks.learn_domain import LearnDomainConfig
from domainlm.tasks.licenses import LicensePolicy
from domainlm.tasks.opinions import Check, Opinion, Rows, at_least, at_most, rows_where
from domainlm.tasks.quality_rules import (
    C4Rule,
    FineWebRule,
    GopherQualityRule,
    GopherRepetitionRule,
    MeasuredRule,
    Settings,
    Share,
)

LanguageCode = Annotated[str, Field(pattern=r"^[a-z]{2,3}$")]
QUARANTINED = "quarantined"


class LicenseRule(Settings, title="Licence gate"):
    """The licence is allowed by the filter's licence policy."""

    rule: Literal["license"] = "license"

    def opinions(self, annotations: pa.Table, policy: LicensePolicy) -> Iterator[Opinion]:
        """`denied` or `quarantined`, with the licence that was judged."""
        encoded = annotations["license"].combine_chunks().dictionary_encode()
        codes = encoded.indices.to_numpy()
        said = [f"{policy.judge(license)}: {license}" for license in encoded.dictionary.to_pylist()]

        def found(rows: Rows) -> list[str]:
            return [said[code] for code in codes[rows]]

        for judgement, fate in (("denied", self.rule), (QUARANTINED, QUARANTINED)):
            objected = [code for code, judged in enumerate(said) if judged.startswith(f"{judgement}:")]
            rows = np.flatnonzero(np.isin(codes, objected))
            yield Opinion(self.rule, judgement, "allowed", rows, found, fate)


class RetractedRule(Settings, title="Not retracted"):
    """The article was not retracted, as far as its own metadata says."""

    rule: Literal["retracted"] = "retracted"

    def opinions(self, annotations: pa.Table) -> Iterator[Opinion]:
        """PubMed's "Retracted Publication", a reader's `retracted: true`, or a title that says so."""
        retracted = annotations["retracted"]

        def found(rows: Rows) -> list[str]:
            return ["retracted" if yes else "not retracted" for yes in retracted.take(rows).to_pylist()]

        yield Opinion(self.rule, self.rule, "not retracted", rows_where(retracted), found, self.rule)


class ConcernRule(Settings, title="No concern"):
    """No editor has expressed concern about the article, as far as its own metadata says. In no profile: a concern is
    not yet a retraction."""

    rule: Literal["concern"] = "concern"

    def opinions(self, annotations: pa.Table) -> Iterator[Opinion]:
        """A link of the article to an expression of concern (PubMed, JATS), or `under_concern: true` in metadata."""
        concerned = annotations["under_concern"]

        def found(rows: Rows) -> list[str]:
            return ["under concern" if yes else "no concern" for yes in concerned.take(rows).to_pylist()]

        yield Opinion(self.rule, self.rule, "no concern", rows_where(concerned), found, self.rule)


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

    def opinions(self, annotations: pa.Table) -> Iterator[Opinion]:
        """The likeliest language is none of those, or not likely enough."""
        languages, scores = annotations["language"], annotations["language.score"]
        wanted = pc.is_in(languages, value_set=pa.array(self.languages))
        rows = rows_where(pc.or_(pc.invert(wanted), pc.less(scores, self.min_score)))

        def found(rows: Rows) -> list[str]:
            both = zip(languages.take(rows).to_pylist(), scores.take(rows).to_pylist(), strict=True)
            return [f"{language} {score:.3f}" for language, score in both]

        threshold = f"{'/'.join(self.languages)} {self.min_score:g}"
        yield Opinion(self.rule, "languages", threshold, rows, found, self.rule)


class LengthRule(MeasuredRule, title="Length"):
    """Long enough to teach something, short enough to be one document; counts words with a letter or digit first."""

    rule: Literal["length"] = "length"
    min_words: PositiveInt = Field(20, title="Least words", description="A short abstract has 40 (Gopher: 50).")
    max_words: PositiveInt = Field(100_000, title="Most words", description="More is a book or a dump.")

    def checks(self) -> tuple[Check, ...]:
        """Both bounds."""
        return at_least("words", "min_words", self.min_words), at_most("words", "max_words", self.max_words)


class BoilerplateRule(MeasuredRule, title="Boilerplate"):
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

    def checks(self) -> tuple[Check, ...]:
        """The share of characters in such sentences."""
        return (at_most("boilerplate.share", "max_share", self.max_share),)


class DomainRule(MeasuredRule, title="Domain"):
    """Like the documents of the domain's own sources, by a linear model that is learned from them."""

    rule: Literal["domain"] = "domain"
    classifier: LearnDomainConfig = Field(title="Classifier", description="Which sources it is learned from.")
    min_score: Share = Field(0.5, title="Least score", description="Probability that must be reached.")

    def checks(self) -> tuple[Check, ...]:
        """The probability of being of the domain."""
        return (at_least("domain.score", "min_score", self.min_score),)


class DatatroveRule(Settings, DatatroveFilter, title="datatrove filter"):
    """One of datatrove's own filters keeps it; several of them can be rules."""

    rule: Literal["datatrove"] = "datatrove"

    @property
    def name(self) -> str:
        """`datatrove.RegexFilter`."""
        return f"{self.rule}.{self.filter}"

    def asked(self) -> DatatroveFilter:
        """What has to be asked of each text."""
        return DatatroveFilter(filter=self.filter, parameters=self.parameters)

    def opinions(self, annotations: pa.Table) -> Iterator[Opinion]:
        """The block's reason."""
        reasons = annotations[self.name]

        def found(rows: Rows) -> list[str]:
            return [reason or "kept" for reason in reasons.take(rows).to_pylist()]

        threshold = json.dumps(dict(self.parameters), sort_keys=True) if self.parameters else "its defaults"
        yield Opinion(self.name, self.filter, threshold, rows_where(pc.is_valid(reasons)), found, self.name)


RuleSettings = (
    LicenseRule
    | RetractedRule
    | ConcernRule
    | LanguageRule
    | LengthRule
    | BoilerplateRule
    | GopherQualityRule
    | GopherRepetitionRule
    | C4Rule
    | FineWebRule
    | DomainRule
    | DatatroveRule
)
Rule = Annotated[RuleSettings, Field(discriminator="rule")]
