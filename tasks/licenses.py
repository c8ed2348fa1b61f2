"""Licences: from the words of an origin to an SPDX expression with its evidence, and the policy that judges it.

In goes what a record says ("CC-BY", a URL, a paragraph of JATS permissions); out comes a `License`. The rule is that
nothing is guessed:

- an SPDX expression stands for itself, alone or before a remark ("CC-BY-4.0 (at this commit)");
- a Creative Commons URL proves family, version and port; words prove a version only when they say one, else the
  licence is `LicenseRef-CC-BY-unversioned`, a true statement that a policy may allow or not;
- words and URL that contradict each other both hold: `CC-BY-4.0 AND LicenseRef-CC-BY-NC-unversioned`;
- everything else is `unknown`, and its wording is kept as evidence.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression
from pydantic import BaseModel, ConfigDict, Field, field_validator

from domainlm.tasks.documents import UNKNOWN_LICENSE

Judgement = Literal["allowed", "denied", "quarantined"]

NONCOMMERCIAL = "LicenseRef-noncommercial"
PUBLIC_DOMAIN = "LicenseRef-public-domain"
# How a person who knows a licence better than the records says so.
KNOWN_BETTER = (
    "give the source its `license` with evidence, and where its records name one that nobody knows (rows of jsonl, "
    "parquet, arrow, csv or hub) `license_field: ''` and `license_url_field: ''`, for that goes before it"
)
ALIASES = {
    "cc0": "CC0-1.0",
    "pdm-1.0": "CC-PDM-1.0",
    "public-domain": PUBLIC_DOMAIN,
    "public domain": PUBLIC_DOMAIN,
}

_CC_URL = re.compile(
    r"creativecommons\.org/(?:licenses/by(?P<terms>(?:-nc|-sa|-nd)*)(?![\w-])"
    r"(?:/(?P<version>\d(?:\.\d)?)(?:/(?P<port>[a-z]{2}|igo)(?![\w-]))?)?"
    r"|publicdomain/(?P<public>zero|mark)/1\.0)",
    re.IGNORECASE,
)
_TERMS = {"NC": r"nc\b|non[ -]?commercial", "SA": r"sa\b|share[ -]?alike", "ND": r"nd\b|no[ -]?deriv\w*(?: works)?"}
_CC_WORDS = re.compile(
    r"\b(?:cc|creative commons)\b[ :,(-]{0,3}(?:licen[cs]e )?(?:by\b|attribution)"
    rf"(?P<terms>(?:[ ,/-]*(?:{'|'.join(_TERMS.values())}))*)"
    r"(?: (?:international|unported|generic|public))?(?: licen[cs]e)?(?:,? (?:version )?v?(?P<version>\d\.\d)\b)?",
    re.IGNORECASE,
)
_CC0_WORDS = re.compile(r"\bCC0\b|\bcreative commons (?:zero|public domain (?:declaration|dedication))", re.IGNORECASE)
_NONCOMMERCIAL_WORDS = re.compile(r"\bnon[ -]?commercial|\bno commercial use|\bnot for profit", re.IGNORECASE)
_PUBLIC_DOMAIN_WORDS = re.compile(r"\b(?:is|lies|are) in the public domain\b", re.IGNORECASE)
_DASHES = str.maketrans(dict.fromkeys("\u2010\u2011\u2012\u2013\u2014", "-"))


class UnknownLicense(ValueError):
    """A document whose licence nobody knows, under a policy that does not put up with it."""


@dataclass(frozen=True, slots=True)
class License:
    """An SPDX expression, or `unknown`, and the words that it was read from."""

    expression: str
    evidence: str


class LicensePolicy(BaseModel):
    """Which licences a corpus may hold. What is neither allowed nor unknown is denied."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="Licence policy")

    allow: tuple[str, ...] = Field(
        ("CC-BY-*", "LicenseRef-CC-BY-unversioned", "CC0-1.0", "CC-PDM-1.0", PUBLIC_DOMAIN, "MIT", "Apache-2.0"),
        title="Allowed",
        description="SPDX ids; a final * stands for any version, so that CC-BY-* lets no CC-BY-NC-4.0 through.",
    )
    deny: tuple[str, ...] = Field((), title="Denied", description="SPDX ids that are denied although `allow` fits.")
    unknown: Literal["quarantine", "drop", "fail"] = Field(
        "quarantine", title="Unknown", description="What a document without a known licence gets."
    )

    @field_validator("allow", "deny")
    @classmethod
    def _are_licenses(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in patterns:
            if not pattern.endswith("-*") and spdx(pattern) != pattern:
                hint = get_close_matches(pattern, [spdx(pattern) or "", *ALIASES.values(), *_VERSIONED], 1, 0.5)
                raise ValueError(f"{pattern!r} is no SPDX licence id{f'; did you mean {hint[0]}?' if hint else '.'}")
        return patterns

    def judge(self, license: str) -> Judgement:
        """What the policy says of an SPDX expression or `unknown`; raises UnknownLicense where `unknown` is fail."""
        if license != UNKNOWN_LICENSE:
            return "allowed" if self._allows(re.findall(r"[()]|[^\s()]+", license)) else "denied"
        if self.unknown == "fail":
            raise UnknownLicense(
                f"A document has no known licence and the policy says `unknown: fail`. To let it in, {KNOWN_BETTER}; "
                "or set `unknown` to quarantine or drop."
            )
        return "quarantined" if self.unknown == "quarantine" else "denied"

    def _allows(self, tokens: list[str]) -> bool:
        """OR needs one side, AND needs both; consumes the tokens up to the end or a closing bracket."""
        any_side, all_terms = False, True
        while tokens:
            token = tokens.pop(0)
            if token == ")":
                break
            if token == "OR":
                any_side, all_terms = any_side or all_terms, True
            elif token == "(":
                all_terms = self._allows(tokens) and all_terms
            elif token == "WITH":
                tokens.pop(0)  # an exception only ever permits more
            elif token != "AND":
                all_terms = self._allows_one(token) and all_terms
        return any_side or all_terms

    def _allows_one(self, license: str) -> bool:
        return _fits(license, self.allow) and not _fits(license, self.deny)


def identify(words: str, url: str = "") -> License:
    """The licence that a record's wording and its licence URL name together, with both as evidence."""
    evidence = "; ".join(part for part in (words.strip(), url.strip()) if part)
    return License(_together(from_words(words), from_url(url)), evidence or "none given")


def from_url(url: str) -> str:
    """The licence that a URL proves, or `unknown`. A text with several Creative Commons URLs names all of them."""
    return _all_of(_of_url(match) for match in _CC_URL.finditer(url))


def from_words(words: str) -> str:
    """The licence that a short wording ("CC-BY-4.0 (dataset)") or a paragraph names, or `unknown`."""
    for phrase in (words, re.split(r"[(;]", words)[0]):
        if found := spdx(phrase.strip()) or ALIASES.get(phrase.strip().lower()):
            return found
    return from_prose(words)


def from_prose(text: str) -> str:
    """The licence that a paragraph names: by URL if it has one, else by the words for Creative Commons licences."""
    text = " ".join(text.translate(_DASHES).split())
    if (proven := from_url(text)) != UNKNOWN_LICENSE:
        return proven
    named = [_of_words(match) for match in _CC_WORDS.finditer(text)]
    if _CC0_WORDS.search(text):
        named.append("CC0-1.0")
    elif not named and _PUBLIC_DOMAIN_WORDS.search(text):
        named.append(PUBLIC_DOMAIN)
    if _NONCOMMERCIAL_WORDS.search(text) and not any("-NC" in license for license in named):
        named.append(NONCOMMERCIAL)
    return _all_of(named)


def spdx(text: str) -> str | None:
    """The canonical form of an SPDX expression, or None if `text` is none."""
    try:
        return canonicalize_license_expression(text)
    except InvalidLicenseExpression:
        return None


_VERSIONED = [f"CC-{terms}-{version}" for terms in ("BY", "BY-SA", "BY-NC") for version in ("3.0", "4.0")]


def _fits(license: str, patterns: tuple[str, ...]) -> bool:
    return any(
        license == pattern
        or (pattern.endswith("*") and re.fullmatch(re.escape(pattern[:-1]) + r"\d[\d.]*(-[A-Za-z]+)*", license))
        for pattern in patterns
    )


def _of_url(match: re.Match[str]) -> str:
    if public := match["public"]:
        return "CC0-1.0" if public.lower() == "zero" else "CC-PDM-1.0"
    return _creative_commons(match["terms"], match["version"], match["port"])


def _of_words(match: re.Match[str]) -> str:
    return _creative_commons(match["terms"], match["version"], None)


def _creative_commons(terms: str, version: str | None, port: str | None) -> str:
    """The SPDX id where there is one, else a LicenseRef that says no more than was proven."""
    family = "-".join(["CC-BY", *(name for name, words in _TERMS.items() if re.search(words, terms, re.IGNORECASE))])
    if version is None:
        return f"LicenseRef-{family}-unversioned"
    number = version if "." in version else f"{version}.0"
    name = f"{family}-{number}" + (f"-{port.upper()}" if port else "")
    return spdx(name) or f"LicenseRef-{name}"


def _together(words: str, url: str) -> str:
    """Both statements: one of them if it says nothing new, else both hold."""
    if url == UNKNOWN_LICENSE or words == url:
        return words
    if words == UNKNOWN_LICENSE or _is_unversioned_form(words, url):
        return url
    return f"{_bracketed(url)} AND {_bracketed(words)}"


def _is_unversioned_form(loose: str, exact: str) -> bool:
    stem = loose.removeprefix("LicenseRef-").removesuffix("-unversioned")
    return loose == f"LicenseRef-{stem}-unversioned" and _fits(exact.removeprefix("LicenseRef-"), (f"{stem}-*",))


def _bracketed(expression: str) -> str:
    return f"({expression})" if " OR " in expression else expression


def _all_of(found: Iterable[str]) -> str:
    names = list(dict.fromkeys(found))
    exact = [name for name in names if not any(_is_unversioned_form(name, other) for other in names)]
    return " AND ".join(exact) or UNKNOWN_LICENSE
