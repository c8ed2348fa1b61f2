"""Licences: what words and URLs prove, what they do not, and what a policy makes of it."""

import gzip
import json
import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from domainlm.tasks.documents import UNKNOWN_LICENSE
from domainlm.tasks.licenses import LicensePolicy, UnknownLicense, from_prose, identify

BY_UNVERSIONED = "LicenseRef-CC-BY-unversioned"

# Every wording of the real data, with what it is documented to be.
REAL_WORDINGS = {
    ("CC-BY", "creativecommons.org/licenses/by/2.0"): "CC-BY-2.0",
    ("CC-BY", "creativecommons.org/licenses/by/2.0/"): "CC-BY-2.0",
    ("CC-BY", "creativecommons.org/licenses/by/2.5/"): "CC-BY-2.5",
    ("CC-BY", "creativecommons.org/licenses/by/3.0"): "CC-BY-3.0",
    ("CC-BY", "creativecommons.org/licenses/by/3.0/"): "CC-BY-3.0",
    ("CC-BY", "creativecommons.org/licenses/by/3.0/deed.en_GB"): "CC-BY-3.0",
    ("CC-BY", "creativecommons.org/licenses/by/3.0/deed.en_US"): "CC-BY-3.0",
    ("CC-BY", "creativecommons.org/licenses/by/3/"): "CC-BY-3.0",
    ("CC-BY", "creativecommons.org/licenses/by/4.0"): "CC-BY-4.0",
    ("CC-BY", "creativecommons.org/licenses/by/4.0/"): "CC-BY-4.0",
    ("CC-BY", "creativecommons.org/licenses/by/4.0/legalcode"): "CC-BY-4.0",
    ("CC-BY", "text"): BY_UNVERSIONED,
    ("CC0-1.0", "creativecommons.org/publicdomain/zero/1.0/"): "CC0-1.0",
    ("PDM-1.0", "creativecommons.org/publicdomain/mark/1.0/"): "CC-PDM-1.0",
    ("public-domain (article statement)", "text"): "LicenseRef-public-domain",
    ("CC-BY-4.0 (at this commit)", ""): "CC-BY-4.0",
    ("CC-BY-4.0 (dataset); NIH web text", ""): "CC-BY-4.0",
    ("CC-BY-SA-3.0 (Wikipedia)", ""): "CC-BY-SA-3.0",
    ("CC-BY-SA-4.0 (collection); SEC public filings", ""): "CC-BY-SA-4.0",
    ("MIT OR Apache-2.0", ""): "MIT OR Apache-2.0",
    ("SEC public filing (test fixture of MIT repo)", ""): UNKNOWN_LICENSE,
    ("government edict / public domain (repo has no LICENSE file)", ""): UNKNOWN_LICENSE,
}


@pytest.mark.parametrize(("wording", "expected"), REAL_WORDINGS.items(), ids=lambda value: str(value)[:60])
def test_a_wording_of_the_real_data_comes_out_as_documented(wording: tuple[str, str], expected: str) -> None:
    license = identify(*wording)
    assert license.expression == expected
    assert all(part in license.evidence for part in wording)


@pytest.mark.parametrize(
    ("words", "url", "expected"),
    [
        ("", "", UNKNOWN_LICENSE),
        ("mit", "", "MIT"),
        ("cc-by-4.0 or mit", "", "CC-BY-4.0 OR MIT"),
        ("CC BY-NC-SA 4.0", "", "CC-BY-NC-SA-4.0"),
        ("CC BY", "", BY_UNVERSIONED),
        ("CC-BY", "https://creativecommons.org/licenses/by/", BY_UNVERSIONED),
        ("CC-BY", "https://creativecommons.org/licenses/by/3.0/us/", "CC-BY-3.0-US"),
        ("CC-BY", "https://creativecommons.org/licenses/by/2.0/uk/", "LicenseRef-CC-BY-2.0-UK"),
        ("", "https://creativecommons.org/licenses/by-nd-nc/1.0/", "CC-BY-NC-ND-1.0"),
        ("", "https://example.org/creativecommons/by/4.0", UNKNOWN_LICENSE),
        ("", "https://creativecommons.org/licenses/byte/4.0/", UNKNOWN_LICENSE),
        ("All rights reserved.", "", UNKNOWN_LICENSE),
        ("CC-BYNC", "", UNKNOWN_LICENSE),
        ("see the MIT licence", "", UNKNOWN_LICENSE),
    ],
)
def test_nothing_is_concluded_beyond_what_is_said(words: str, url: str, expected: str) -> None:
    assert identify(words, url).expression == expected


def test_words_and_url_that_contradict_each_other_both_hold() -> None:
    license = identify("CC-BY-NC-4.0", "https://creativecommons.org/licenses/by/4.0/")
    assert license.expression == "CC-BY-4.0 AND CC-BY-NC-4.0"
    assert LicensePolicy(allow=("CC-BY-*",)).judge(license.expression) == "denied"
    assert identify("MIT OR Apache-2.0", "https://creativecommons.org/licenses/by/4.0/").expression == (
        "CC-BY-4.0 AND (MIT OR Apache-2.0)"
    )


@pytest.mark.parametrize(
    ("prose", "expected"),
    [
        ("under the terms of the Creative Commons Attribution License, which permits unrestricted use", BY_UNVERSIONED),
        ("a Creative Commons Attribution-NonCommercial-NoDerivs 3.0 Unported License.", "CC-BY-NC-ND-3.0"),
        ("Creative Commons Attribution\u2010ShareAlike\u2010NonCommercial 4.0", "CC-BY-NC-SA-4.0"),
        ("Attribution-NonCommercial-ShareAlike 4.0 International (CC BY-NC-SA 4.0) License", "CC-BY-NC-SA-4.0"),
        ("permits unrestricted noncommercial use, provided the work is cited", "LicenseRef-noncommercial"),
        (
            "Creative Commons Attribution License, for non-commercial purposes",
            f"{BY_UNVERSIONED} AND LicenseRef-noncommercial",
        ),
        ("Publication of EHP lies in the public domain and is without copyright.", "LicenseRef-public-domain"),
        (
            "https://creativecommons.org/licenses/by/4.0/; for data http://creativecommons.org/publicdomain/zero/1.0/",
            "CC-BY-4.0 AND CC0-1.0",
        ),
        ("Copyright 2001 Elsevier Science.", UNKNOWN_LICENSE),
    ],
)
def test_a_paragraph_names_a_licence_only_by_its_name_or_url(prose: str, expected: str) -> None:
    assert from_prose(prose) == expected


def test_a_star_stands_for_a_version_and_lets_no_other_terms_through() -> None:
    policy = LicensePolicy(allow=("CC-BY-*",))
    allowed = ("CC-BY-4.0", "CC-BY-2.5", "CC-BY-3.0-US", "CC-BY-3.0-IGO")
    assert {license: policy.judge(license) for license in allowed} == dict.fromkeys(allowed, "allowed")
    denied = ("CC-BY-NC-4.0", "CC-BY-SA-4.0", "CC-BY-NC-ND-4.0", "LicenseRef-CC-BY-unversioned", "MIT")
    assert {license: policy.judge(license) for license in denied} == dict.fromkeys(denied, "denied")


@pytest.mark.parametrize(
    ("expression", "judgement"),
    [
        ("MIT OR GPL-3.0-only", "allowed"),
        ("GPL-3.0-only OR MIT", "allowed"),
        ("MIT AND GPL-3.0-only", "denied"),
        ("GPL-3.0-only AND MIT", "denied"),
        ("MIT AND (GPL-3.0-only OR CC0-1.0)", "allowed"),
        ("(MIT AND GPL-3.0-only) OR CC0-1.0", "allowed"),
        ("(MIT OR CC0-1.0) AND GPL-3.0-only", "denied"),
        ("GPL-3.0-only OR MIT AND CC0-1.0", "allowed"),
        ("Apache-2.0 WITH LLVM-exception", "allowed"),
        ("GPL-3.0-only WITH Classpath-exception-2.0", "denied"),
    ],
)
def test_or_needs_one_side_and_and_needs_both(expression: str, judgement: str) -> None:
    assert LicensePolicy(allow=("MIT", "CC0-1.0", "Apache-2.0")).judge(expression) == judgement


def test_a_denied_licence_is_denied_although_a_pattern_allows_it() -> None:
    policy = LicensePolicy(allow=("CC-BY-*",), deny=("CC-BY-2.0",))
    assert (policy.judge("CC-BY-2.0"), policy.judge("CC-BY-2.5")) == ("denied", "allowed")


def test_an_unknown_licence_is_quarantined_dropped_or_an_error_as_the_policy_says() -> None:
    assert LicensePolicy().judge(UNKNOWN_LICENSE) == "quarantined"
    assert LicensePolicy(unknown="drop").judge(UNKNOWN_LICENSE) == "denied"
    with pytest.raises(UnknownLicense, match="give the source its `license`"):
        LicensePolicy(unknown="fail").judge(UNKNOWN_LICENSE)


def test_a_misspelt_licence_in_a_policy_is_refused_with_the_right_name() -> None:
    with pytest.raises(ValidationError, match=r"'CC-BY4\.0' is no SPDX licence id; did you mean CC-BY-4\.0\?"):
        LicensePolicy(allow=("CC-BY4.0",))


@pytest.mark.real
def test_no_wording_of_the_real_data_is_missing_from_the_table() -> None:
    root = Path(os.environ.get("REALDATA", "/nonexistent"))
    files = sorted(root.glob("*/*.jsonl.gz"))
    assert files, "set REALDATA to the folder of real text"
    found = set()
    for path in files:
        with gzip.open(path, "rt") as lines:
            rows = map(json.loads, lines)
            found |= {(row["license"], row.get("license_url") or "") for row in rows}
    assert found == set(REAL_WORDINGS)
