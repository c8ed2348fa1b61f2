"""The licence gate: whatever a record says of its licence, no token of a licence that is not allowed reaches a shard.

The judge of these tests is written apart from the policy's: a list of licences that may be trained on, and what each
wording says to a person.
"""

import gzip
import json
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from domainlm.tasks.acquire import AcquireConfig, acquire
from domainlm.tasks.annotate import annotate
from domainlm.tasks.document_shards import EmptyCorpus
from domainlm.tasks.documents import Document, read_documents
from domainlm.tasks.filter import FilterConfig
from domainlm.tasks.filter import filter as filter_documents
from domainlm.tasks.licenses import LicensePolicy, UnknownLicense
from domainlm.tasks.manifest import Part, outside
from domainlm.tasks.rules import LicenseRule
from domainlm.tasks.runtime import Runtime
from domainlm.tasks.source_files import find_files
from domainlm.tasks.store import Sealed, Store
from domainlm.tasks.tokenize import TokenizeConfig, tokenize
from domainlm.trainer.shards import Shard

Unknown = Literal["quarantine", "drop", "fail"]

# (wording, URL): the terms that a person reads in them. None: nobody knows.
WORDINGS: dict[tuple[str, str], frozenset[str] | None] = {
    ("CC-BY-4.0", ""): frozenset({"CC-BY-4.0"}),
    ("cc-by-4.0", ""): frozenset({"CC-BY-4.0"}),
    ("CC BY 4.0", ""): frozenset({"CC-BY-4.0"}),
    ("", "https://creativecommons.org/licenses/by/4.0/"): frozenset({"CC-BY-4.0"}),
    ("", "http://creativecommons.org/licenses/by/3.0/us/deed.en"): frozenset({"CC-BY-3.0-US"}),
    ("CC-BY", "creativecommons.org/licenses/by/2.0"): frozenset({"CC-BY-2.0"}),
    ("Creative Commons Attribution License", ""): frozenset({"CC-BY"}),
    ("CC0", ""): frozenset({"CC0-1.0"}),
    ("", "https://creativecommons.org/publicdomain/zero/1.0/"): frozenset({"CC0-1.0"}),
    ("MIT", ""): frozenset({"MIT"}),
    ("MIT AND CC-BY-NC-4.0", ""): frozenset({"MIT", "CC-BY-NC-4.0"}),
    ("GPL-3.0-only", ""): frozenset({"GPL-3.0-only"}),
    ("CC-BY-NC-4.0", ""): frozenset({"CC-BY-NC-4.0"}),
    ("CC BY-NC-ND 3.0", ""): frozenset({"CC-BY-NC-ND-3.0"}),
    ("CC-BY-SA-4.0", ""): frozenset({"CC-BY-SA-4.0"}),
    ("", "https://creativecommons.org/licenses/by-nc/4.0/"): frozenset({"CC-BY-NC-4.0"}),
    ("CC-BY-4.0", "https://creativecommons.org/licenses/by-nd/4.0/"): frozenset({"CC-BY-4.0", "CC-BY-ND-4.0"}),
    ("CC-BY-NC-4.0", "https://creativecommons.org/licenses/by/4.0/"): frozenset({"CC-BY-4.0", "CC-BY-NC-4.0"}),
    ("Creative Commons Attribution License, for non-commercial use", ""): frozenset({"CC-BY", "NC"}),
    ("Creative Commons Attribution Non-Commercial License", ""): frozenset({"CC-BY-NC"}),
    ("permits unrestricted noncommercial use", ""): frozenset({"NC"}),
    ("All rights reserved", ""): None,
    ("free for research", ""): None,
    ("see LICENSE.txt", "https://example.org/licenses/by/4.0/"): None,
    ("CC-BYNC", ""): None,
    ("unknown", ""): None,
    ("UNLICENSED", ""): None,
}
FAMILIES = {
    "CC-BY-*": {"CC-BY-4.0", "CC-BY-3.0-US", "CC-BY-2.0"},
    "LicenseRef-CC-BY-unversioned": {"CC-BY"},
    "CC0-1.0": {"CC0-1.0"},
    "MIT": {"MIT"},
    "CC-BY-SA-*": {"CC-BY-SA-4.0"},
    "CC-BY-NC-*": {"CC-BY-NC-4.0"},
    "GPL-3.0-only": {"GPL-3.0-only"},
}
policies = st.builds(
    LicensePolicy,
    allow=st.lists(st.sampled_from(sorted(FAMILIES)), unique=True).map(tuple),
    deny=st.lists(st.sampled_from(sorted(FAMILIES)), unique=True, max_size=2).map(tuple),
    unknown=st.sampled_from(("quarantine", "drop", "fail")),
)
wordings = st.sampled_from(sorted(WORDINGS))


def may_train(terms: frozenset[str] | None, policy: LicensePolicy) -> bool:
    """Whether all of the terms are allowed and none of them is denied."""
    allowed = set().union(*(FAMILIES[name] for name in policy.allow))
    denied = set().union(*(FAMILIES[name] for name in policy.deny))
    return terms is not None and terms <= allowed - denied


def record(number: int, words: str, url: str) -> bytes:
    row = {"id": str(number), "text": f"text of {number}", "license": words, "license_url": url}
    return json.dumps({name: value for name, value in row.items() if value}).encode() + b"\n"


def passed(root: Path, content: bytes, policy: LicensePolicy, license: str | None = None) -> tuple[Sealed, Sealed]:
    """Acquire and filter records; the sealed outputs."""
    (root / "raw").mkdir()
    (root / "raw/a.jsonl").write_bytes(content)
    store, runtime = Store(root / "store"), Runtime()
    source = AcquireConfig(name="s", format="jsonl", license=license, dead_letter_budget=1)
    acquired = acquire.build(
        store, source, {"files": outside(root / "raw", [root / "raw/a.jsonl"], origin="")}, runtime
    )
    return acquired, gate(store, acquired, policy, runtime)


def gate(store: Store, acquired: Sealed, policy: LicensePolicy, runtime: Runtime) -> Sealed:
    config = FilterConfig(licenses=policy, rules=(LicenseRule(),))
    documents = acquired.part("kept")
    measured = annotate.build(store, config.annotate_config(), {"documents": documents}, runtime).part("annotated")
    return filter_documents.build(store, config, {"documents": documents, "annotations": measured}, runtime)


def documents(sealed: Sealed, folder: str = "kept") -> list[Document]:
    return [one for path in sorted((sealed.path / folder).glob("*.parquet")) for one in read_documents(path)]


ALL = [*WORDINGS, ("", "")]
OPEN = LicensePolicy(allow=("CC-BY-*", "CC0-1.0", "MIT"), unknown="quarantine")


@settings(max_examples=6, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(wordings, min_size=1, max_size=12), policies, st.sampled_from([None, "MIT", "CC-BY-NC-4.0"]))
@example(ALL, OPEN, None)
@example(ALL, OPEN, "MIT")
@example(ALL, LicensePolicy(allow=("CC-BY-*",), deny=("CC-BY-*",), unknown="drop"), "MIT")
@example([("All rights reserved", "")], LicensePolicy(allow=("MIT",), unknown="fail"), "MIT")
def test_what_is_kept_is_exactly_what_may_be_trained_on(
    said: list[tuple[str, str]], policy: LicensePolicy, license: str | None
) -> None:
    terms = {
        f"s/{number}": frozenset({license}) if one == ("", "") and license else WORDINGS.get(one)
        for number, one in enumerate(said)
    }
    expected = {doc_id for doc_id, its in terms.items() if may_train(its, policy)}
    unknown = {doc_id for doc_id, its in terms.items() if its is None}
    with TemporaryDirectory() as folder:
        content = b"".join(record(number, *one) for number, one in enumerate(said))
        try:
            _, filtered = passed(Path(folder), content, policy, license)
        except UnknownLicense:
            assert policy.unknown == "fail"
            assert unknown
            return
        except EmptyCorpus:
            assert not expected
            return
        assert not (unknown and policy.unknown == "fail")
        assert {one.doc_id for one in documents(filtered)} == expected
        quarantined = {one.doc_id for one in documents(filtered, "quarantined")}
        assert quarantined == (unknown if policy.unknown == "quarantine" else set())


@settings(max_examples=5, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.text(max_size=60), st.text(max_size=60)), min_size=30, max_size=60))
@example(
    [
        ("MIT-", ""),
        ("MIT OR", ""),
        ("(MIT", ""),
        ("MIT\0", ""),
        ("OR", ""),
        ("AND MIT", ""),
        ("mit, but not for you", ""),
    ]
)
@example([("MIT+", "javascript:MIT"), ("LicenseRef-MIT", ""), ("CC0-1.0 WITH X", ""), ("not MIT", ""), ("No CC0", "")])
def test_no_wording_whatever_passes_for_a_licence_that_it_does_not_name(said: list[tuple[str, str]]) -> None:
    """Kept with the evidence that names it, or not at all."""
    policy = LicensePolicy(allow=("MIT",), unknown="drop")
    with TemporaryDirectory() as folder:
        content = b"".join(record(number, *one) for number, one in enumerate(said)) + record(99, "MIT", "")
        _, filtered = passed(Path(folder), content, policy, "CC-BY-NC-4.0")
        for one in documents(filtered):
            assert "MIT" in one.license_evidence.upper().replace("(", " ").split()
            assert one.license.replace("(", "").replace(")", "").split(" OR ").count("MIT") == 1


def test_no_token_of_a_licence_that_is_not_allowed_reaches_a_shard(tmp_path: Path, tokenizer: Part) -> None:
    content = b"".join(record(number, *one) for number, one in enumerate(ALL))
    _, filtered = passed(tmp_path, content, OPEN)
    inputs = {"documents": filtered.part("kept"), "tokenizer": tokenizer}
    tokens = tokenize.build(Store(tmp_path / "store"), TokenizeConfig(), inputs, Runtime())
    shards = [Shard.open(path) for path in sorted(tokens.path.glob("shards/*.arrow"))]
    rows = [(shard, row) for shard in shards for row in range(shard.num_documents)]
    in_shards = {(shard.doc_ids[row].as_py(), shard.licenses[row].as_py()) for shard, row in rows}
    expected = {f"s/{number}" for number, one in enumerate(ALL) if may_train(WORDINGS.get(one), OPEN)}
    assert {doc_id for doc_id, _ in in_shards} == expected
    assert len(expected) > 5
    assert {license for _, license in in_shards} == {"CC-BY-4.0", "CC-BY-3.0-US", "CC-BY-2.0", "CC0-1.0", "MIT"}
    assert {name for name in tokens.manifest.counts if name.startswith("tokens.")} == {
        f"tokens.{license}" for _, license in in_shards
    }


@pytest.mark.parametrize(("suffix", "unknown"), list(product(("jsonl", "csv", "parquet"), ("quarantine", "drop"))))
def test_a_source_of_no_known_licence_is_kept_from_training_in_every_format(
    tmp_path: Path, suffix: str, unknown: Unknown
) -> None:
    table = pa.table({"id": ["1", "2"], "text": ["one", "two"], "license": ["MIT", "all rights reserved"]})
    path = tmp_path / f"a.{suffix}"
    if suffix == "jsonl":
        path.write_text("\n".join(json.dumps(row) for row in table.to_pylist()))
    elif suffix == "csv":
        pyarrow.csv.write_csv(table, path)
    else:
        pq.write_table(table, path)
    store, runtime = Store(tmp_path / "store"), Runtime()
    source = AcquireConfig.model_validate({"name": "s", "format": suffix, "license": "MIT"})
    acquired = acquire.build(store, source, {"files": outside(tmp_path, [path], origin="")}, runtime)
    filtered = gate(store, acquired, LicensePolicy(allow=("MIT",), unknown=unknown), runtime)
    assert [one.doc_id for one in documents(filtered)] == ["s/1"]
    assert filtered.manifest.fates.get("quarantined", 0) == (unknown == "quarantine")


@pytest.mark.real
def test_of_24_real_articles_those_with_more_than_attribution_asked_are_held_back(
    store: Store, runtime: Runtime, realdata: Path
) -> None:
    files = outside(realdata, find_files(realdata, "raw_jats/*.nxml"), origin="raw_jats")
    acquired = acquire.build(store, AcquireConfig(name="pmc", format="jats"), {"files": files}, runtime)
    filtered = gate(store, acquired, LicensePolicy(), runtime)
    rows = map(json.loads, (realdata / "raw_jats/MANIFEST.jsonl").read_text().splitlines())
    free = {row["file"].removesuffix(".nxml") for row in rows if row["license"] in ("by", "cc0", "pd-mark")}
    assert {one.doc_id.removeprefix("pmc/") for one in documents(filtered)} == free
    assert len(free) == 12


def test_an_error_names_the_licence_that_left_nothing(store: Store, runtime: Runtime, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("A contract.")
    files = {"files": outside(tmp_path, [tmp_path / "a.txt"], origin="contracts")}
    source = AcquireConfig(name="contracts", format="text", license="CC-BY-SA-4.0")
    with pytest.raises(EmptyCorpus, match=r"Licences: CC-BY-SA-4\.0 1\. Allow .* `filter\.licenses\.allow`"):
        gate(store, acquire.build(store, source, files, runtime), LicensePolicy(), runtime)


def test_a_source_whose_records_name_a_licence_that_nobody_knows_is_kept_by_the_advice_of_the_error(
    store: Store, runtime: Runtime, tmp_path: Path
) -> None:
    (tmp_path / "law.jsonl").write_text(json.dumps({"id": "1", "text": "No duty.", "license": "edict"}) + "\n")
    files = {"files": outside(tmp_path, [tmp_path / "law.jsonl"], origin="law")}
    source = AcquireConfig(name="law", format="jsonl", license="CC0-1.0", license_evidence="section 1")
    with pytest.raises(
        EmptyCorpus, match=r"Licences: unknown \('edict'\) 1\. .*`license_field: ''` and `license_url_field: ''`"
    ):
        gate(store, acquire.build(store, source, files, runtime), LicensePolicy(), runtime)
    advised = acquire.build(store, source.model_copy(update={"license_field": ""}), files, runtime)
    (kept,) = documents(gate(store, advised, LicensePolicy(), runtime))
    assert (kept.license, kept.license_evidence) == ("CC0-1.0", "section 1")


@pytest.mark.real
def test_the_real_law_of_no_known_licence_is_held_back_whatever_the_source_says(
    store: Store, runtime: Runtime, realdata: Path
) -> None:
    """Each record has words of its own that nobody can place: the source's licence does not overrule them."""
    path = realdata / "other/legal_dc_code.jsonl.gz"
    with gzip.open(path) as lines:
        count = sum(1 for _ in lines)
    source = AcquireConfig(name="law", format="jsonl", license="CC0-1.0")
    acquired = acquire.build(store, source, {"files": outside(path.parent, [path], origin="law")}, runtime)
    assert acquired.manifest.licenses == {"unknown": count}
    with pytest.raises(EmptyCorpus, match=f"quarantined {count:,}.*'government edict .*license_field: ''"):
        gate(store, acquired, LicensePolicy(), runtime)
    with pytest.raises(UnknownLicense, match="give the source its `license`"):
        gate(store, acquired, LicensePolicy(unknown="fail"), runtime)
