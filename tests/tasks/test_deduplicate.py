"""Deduplication: what counts as the same text, which of two is kept, and that nothing but the documents decides."""

import gzip
import json
import os
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from domainlm.tasks.comparison import compare_texts
from domainlm.tasks.deduplicate import DeduplicateConfig, deduplicate
from domainlm.tasks.documents import Document, content_sha256, read_documents, read_verdicts, write_rows
from domainlm.tasks.manifest import Part, outside
from domainlm.tasks.minhash import candidate_pairs, sketch
from domainlm.tasks.preference import license_rank
from domainlm.tasks.quantities import quantities_digest
from domainlm.tasks.runtime import Runtime
from domainlm.tasks.store import Sealed, Store

CONFIG = DeduplicateConfig()
SUMMARY = (
    "Velotrine is a selective inhibitor of the enzyme renal kinase. Adults take 5 mg once a day with water, in the "
    "morning, whether or not they have eaten. The dose may be raised after two weeks if the pressure of the blood has "
    "not fallen to the level that was agreed with the physician. Patients with an impaired liver start with half of "
    "the dose, and their transaminases are checked every month. The most frequent adverse effect is a dry cough, "
    "which is harmless and goes away when the medicine is stopped. Angioedema is rare but dangerous: whoever notices "
    "a swelling of lips or tongue has to stop at once and call for help. Velotrine must not be taken during pregnancy."
)
EDITED = SUMMARY.replace("in the morning, whether", "in the mornings whether").replace(
    "is harmless", "is quite harmless"
)
OTHER = "Amcoril relieves pain after surgery. It is given into a vein and works within ten minutes for about six hours."


def shards(root: Path, source: str, texts: Sequence[str], *, license: str = "CC-BY-4.0", files: int = 1) -> Part:
    size = -(-len(texts) // files)
    paths = [root / source / str(files) / "kept" / f"{number:05d}.parquet" for number in range(files)]
    for number, path in enumerate(paths):
        rows = range(number * size, min(len(texts), (number + 1) * size))
        write_rows(path, Document, [_document(source, row, texts[row], license) for row in rows])
    return outside(paths[0].parent.parent, paths, origin=f"filter-{source}/kept")


def _document(source: str, number: int, text: str, license: str) -> Document:
    return Document(
        doc_id=f"{source}/{number:04d}",
        text=text,
        source=source,
        license=license,
        license_evidence="test",
        uri=f"{source}#{number}",
        retrieved_at=None,
        content_sha256=content_sha256(text),
        parent_id=None,
        native_metadata="{}",
    )


def kept(sealed: Sealed) -> list[str]:
    return [d.doc_id for path in sealed.part("kept").paths() for d in read_documents(path)]


def build(store: Store, runtime: Runtime, inputs: Mapping[str, Part]) -> Sealed:
    return deduplicate.build(store, CONFIG, inputs, runtime)


def test_equal_but_for_blanks_and_nearly_equal_documents_are_kept_once(
    store: Store, runtime: Runtime, tmp_path: Path
) -> None:
    texts = [SUMMARY, OTHER, SUMMARY.replace(". ", ".\n\n"), EDITED]
    sealed = build(store, runtime, {"a": shards(tmp_path, "a", texts, files=2)})
    assert sealed.manifest.fates == {"kept": 2, "exact_duplicate": 1, "near_duplicate": 1}
    assert kept(sealed) == ["a/0001", "a/0003"]  # the edited one is the longest
    verdicts = [v for path in sealed.part("verdicts").paths() for v in read_verdicts(path)]
    assert [(v.doc_id, v.rule, v.value) for v in verdicts] == [
        ("a/0000", "deduplicate.near", "a/0003"),
        ("a/0002", "deduplicate.exact", "a/0003"),
    ]


@pytest.mark.parametrize(
    "changed",
    [
        SUMMARY.replace("5 mg", "50 mg"),
        SUMMARY.replace("5 mg", "5 µg"),
        SUMMARY.replace("once a day", "twice a day"),
        SUMMARY.replace("two weeks", "six weeks"),
        SUMMARY.replace("Velotrine", "Sebutan"),
    ],
)
def test_documents_that_differ_only_in_a_dose_or_in_the_drug_are_both_kept(
    store: Store, runtime: Runtime, tmp_path: Path, changed: str
) -> None:
    sealed = build(store, runtime, {"a": shards(tmp_path, "a", [SUMMARY, changed])})
    assert sealed.manifest.fates["kept"] == 2
    (pair,) = pq.read_table(sealed.path / "pairs" / "00000.parquet").to_pylist()
    assert pair["jaccard"] >= CONFIG.min_jaccard
    assert pair["decision"] == ("different subjects" if "Sebutan" in changed else "different quantities")


def test_every_pair_that_was_compared_is_on_record(store: Store, runtime: Runtime, tmp_path: Path) -> None:
    sealed = build(store, runtime, {"a": shards(tmp_path, "a", [SUMMARY, EDITED, SUMMARY, OTHER])})
    pairs = pq.read_table(sealed.path / "pairs" / "00000.parquet").to_pylist()
    assert [(p["doc_id_a"], p["doc_id_b"], p["kind"], p["decision"]) for p in pairs] == [
        ("a/0000", "a/0001", "near", "duplicate"),
        ("a/0000", "a/0002", "exact", "duplicate"),
    ]
    assert pairs[0]["jaccard"] == pytest.approx(compare_texts(SUMMARY, EDITED)[0])
    assert pairs[1]["jaccard"] == 1.0


def test_the_more_permissive_licence_survives_then_the_longer_then_the_first(
    store: Store, runtime: Runtime, tmp_path: Path
) -> None:
    inputs = {
        "a": shards(tmp_path, "a", [SUMMARY, OTHER], license="CC-BY-SA-4.0"),
        "b": shards(tmp_path, "b", [SUMMARY + "\n", OTHER, OTHER], license="CC0-1.0"),
        "c": shards(tmp_path, "c", [EDITED], license="CC-BY-4.0"),
    }
    assert kept(build(store, runtime, inputs)) == ["b/0000", "b/0001"]


def test_licences_rank_from_public_domain_to_unknown() -> None:
    order = ["CC0-1.0", "CC-BY-4.0", "CC-BY-SA-4.0", "LicenseRef-EULA", "CC-BY-NC-4.0", "unknown"]
    assert [license_rank(license) for license in order] == list(range(6))
    assert license_rank("MIT OR GPL-3.0-only") == license_rank("MIT")
    assert license_rank("CC-BY-4.0 AND CC-BY-NC-4.0") == license_rank("CC-BY-NC-4.0")


def test_nothing_is_dropped_along_a_chain(store: Store, runtime: Runtime, tmp_path: Path) -> None:
    """Each version is like the one before; the last is not like the first, so the first cannot stand for it."""
    vocabulary = [f"{a}{b}{c}" for a in "bdfgklm" for b in "aeiou" for c in "nprst"]
    words = random.Random(0).choices(vocabulary, k=300)
    versions = [" ".join(words[28 * n : 28 * n + 216]) for n in range(4)]
    assert compare_texts(versions[0], versions[3])[0] < CONFIG.min_jaccard
    sealed = build(store, runtime, {"a": shards(tmp_path, "a", versions)})
    survivors = {v.doc_id: v.value for path in sealed.part("verdicts").paths() for v in read_verdicts(path)}
    assert 1 < sealed.manifest.fates["kept"] <= 4
    for dropped, survivor in survivors.items():
        a, b = (versions[int(doc_id[-1])] for doc_id in (dropped, survivor))
        assert compare_texts(a, b)[0] >= CONFIG.min_jaccard


def test_neither_workers_nor_the_order_of_sources_nor_the_cut_of_shards_decides(
    tmp_path: Path, runtime: Runtime
) -> None:
    texts = [f"{SUMMARY} Batch {n % 7}. {OTHER * (n % 3)}" for n in range(30)]
    others = [SUMMARY.replace("adverse", "unwanted"), OTHER, *texts[:9]]

    def run(name: str, files: int, workers: int, *, turned: bool = False) -> Sealed:
        inputs = {"a": shards(tmp_path, "a", texts, files=files), "b": shards(tmp_path, "b", others, files=1)}
        if turned:
            inputs = dict(reversed(inputs.items()))
        return build(Store(tmp_path / name), runtime.model_copy(update={"workers": workers}), inputs)

    first = run("first", 3, 1)
    assert first.manifest.fates["exact_duplicate"] > 9
    assert run("workers", 3, 2).manifest.digest == first.manifest.digest
    assert run("order", 3, 1, turned=True).manifest.digest == first.manifest.digest
    cut = run("cut", 5, 1)
    assert kept(cut) == kept(first)
    assert (cut.path / "pairs/00000.parquet").read_bytes() == (first.path / "pairs/00000.parquet").read_bytes()


def test_a_shard_of_nothing_but_duplicates_is_mirrored_by_an_empty_one(
    store: Store, runtime: Runtime, tmp_path: Path
) -> None:
    inputs = {"a": shards(tmp_path, "a", [SUMMARY, OTHER]), "b": shards(tmp_path, "b", [OTHER, SUMMARY])}
    sealed = build(store, runtime, inputs)
    assert [(part.files, part.rows) for part in (sealed.part("kept/a"), sealed.part("kept/b"))] == [
        (("kept/a/00000.parquet",), 2),
        (("kept/b/00000.parquet",), 0),
    ]


def test_quantities_keep_sign_comparison_and_unit_and_forget_order_and_blanks() -> None:
    assert quantities_digest("5 mg, then 10 mg") == quantities_digest("10mg then 5mg")
    different = ["p < 0.05", "p > 0.05", "0.05", "-0.05", "0.05 %", "0.5", "0.05 and 0.05"]
    assert len({quantities_digest(text) for text in different}) == len(different)


def test_a_word_that_one_document_repeats_and_the_other_lacks_is_another_subject() -> None:
    assert compare_texts(SUMMARY, EDITED)[1]
    assert not compare_texts(SUMMARY, SUMMARY.replace("Velotrine", "Sebutan"))[1]


def test_pairs_of_the_likeness_that_counts_are_nearly_all_proposed() -> None:
    """At 20 bands of 6 hashes the chance to miss a pair at the threshold of 0.8 is 0.2%."""
    rng = random.Random(1)
    vocabulary = [f"w{n}" for n in range(5_000)]
    texts: list[str] = []
    for _ in range(200):
        words = rng.choices(vocabulary, k=400)
        changed = [*words[:355], *rng.choices(vocabulary, k=45)]
        texts += [" ".join(words), " ".join(changed)]
    sketches = sketch(pa.array(texts), bands=20, band_hashes=6)
    pairs = candidate_pairs(sketches.bands, sketches.quantities)
    planted = {(2 * n, 2 * n + 1) for n in range(200)}
    found = {(int(a), int(b)) for a, b in pairs}
    assert len(planted & found) >= 196
    assert len(found - planted) <= 2


@pytest.mark.real
def test_edited_copies_of_real_trials_are_found_and_no_real_trial_is_lost(
    store: Store, runtime: Runtime, tmp_path: Path
) -> None:
    data = os.environ.get("REALDATA")
    assert data, "set REALDATA to the directory with the real text"
    with gzip.open(Path(data) / "biomed" / "pmc_rct-01.jsonl.gz", "rt") as lines:
        texts = [json.loads(line)["text"][:12_000] for _, line in zip(range(100), lines, strict=False)]
    edited = [text.replace(" the ", " this ", 3).replace(" was ", " has been ", 1) for text in texts]
    doses = [text.replace(" 2", " 3", 1) for text in texts]
    assert sum(a != b for a, b in zip(texts, edited, strict=True)) == 100
    inputs = {"original": shards(tmp_path, "original", texts), "edited": shards(tmp_path, "edited", edited)}
    assert build(store, runtime, inputs).manifest.fates["kept"] == 100
    inputs = {"original": inputs["original"], "doses": shards(tmp_path, "doses", doses)}
    assert build(store, runtime, inputs).manifest.fates["kept"] == 200
