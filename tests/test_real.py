"""The chain on real text, in a short form: real licences, real articles, the real benchmarks' first questions."""

import json
from pathlib import Path

import pytest

from domainlm.flows.build_domain_model import build_domain_model
from domainlm.flows.recipe_loading import load_recipe
from domainlm.flows.show import newest
from domainlm.flows.tracing import open_ledger
from domainlm.tasks.runtime import Runtime
from domainlm.tasks.store import Sealed, Store

SHORT = (
    "sources=[{name: articles, path: raw_jats/*.nxml, format: jats},"
    " {name: plos, path: biomed/plos_starter.jsonl.gz, format: jsonl},"
    " {name: general, path: general/openstax_psychology.jsonl.gz, format: jsonl}]",
    "mix.token_shares={articles: 0.1, plos: 0.8, general: 0.1}",
    "mix.token_budget=24576",
    "mix.max_repetitions=10",
    "train.model={preset: llama-6m, layers: 2, width: 64, heads: 2, kv_heads: 2, mlp_width: 128}",
    "tokenizer.vocab_size=1024",
    "decontaminate.held_out_share=0.15",
    "evaluate.held_out_bytes=500000",
    "evaluate.benchmarks.medqa.limit=12",
    "evaluate.benchmarks.pubmedqa.limit=12",
)


@pytest.mark.real
@pytest.mark.timeout(600)
def test_real_articles_become_a_model_that_reads_better_than_its_twin(
    realdata: Path, tmp_path: Path, prefect_server: None
) -> None:
    recipe = load_recipe("realdata", SHORT)
    published = build_domain_model(recipe, Runtime(store=tmp_path, data=realdata))
    assert isinstance(published, Sealed)
    store = Store(tmp_path / "realdata")
    stages = newest(store, "realdata").stages
    check_licences(realdata, stages)
    check_ledger(store)
    told = json.loads((published.path / "report.json").read_text())
    verdicts = {one["benchmark"]: one["verdict"] for one in told["verdict"]["comparisons"]}
    assert verdicts["held_out/plos"] == "better"


def check_licences(realdata: Path, stages: dict[str, Sealed]) -> None:
    """Half of the 24 articles may not be used commercially or changed; none of them reaches a shard."""
    manifest = [json.loads(line) for line in (realdata / "raw_jats" / "MANIFEST.jsonl").read_text().splitlines()]
    closed = {Path(line["file"]).stem for line in manifest if "nc" in line["license"] or "nd" in line["license"]}
    kept = set(stages["decontaminate.articles"].manifest.licenses)
    assert len(closed) == 12
    assert not any("NC" in license or "ND" in license or license == "unknown" for license in kept)
    assert stages["filter.articles"].manifest.fates["license"] >= len(closed)


def check_ledger(store: Store) -> None:
    """The whole budget is accounted for, and what a step saw it finds again from each document."""
    ledger = open_ledger(store, "realdata")
    accounting = ledger.accounting()
    assert sum(one.trained_tokens for one in accounting.corpora) + accounting.remainder_tokens == 24_576
    for row in ledger.documents_of_step(5):
        steps = [one for one in ledger.steps_of_document(row.doc_id) if one.step == 5]
        assert sum(one.tokens for one in steps) == row.tokens
