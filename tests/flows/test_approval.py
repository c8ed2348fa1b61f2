"""A person approves or rejects what was published; what nobody approved is not built upon where that is asked for."""

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from domainlm.flows.approval import FILE, NotApproved, decide, decision_on, newest_approved
from domainlm.flows.continue_pretraining import continuation
from domainlm.flows.materials import find_model
from domainlm.flows.show import NothingPublished, published_model
from domainlm.tasks.runtime import Runtime
from domainlm.tasks.store import Sealed, Store

from .conftest import Built
from .test_build import BIN


@pytest.fixture
def store(built: Built, tmp_path: Path) -> Store:
    """The sealed directories of the build, and no decision on any of them."""
    root = tmp_path / "store" / "demo"
    root.mkdir(parents=True)
    for path in (built.runtime.store / "demo").glob("*-*"):
        (root / path.name).symlink_to(path)
    return Store(root)


def approve(store: Store, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [BIN / "domainlm", "approve", "demo", "--store", store.root.parent, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_person_approves_a_model_and_takes_it_back(store: Store, built: Built) -> None:
    """Beside the sealed directory, whose bytes stay; the last decision counts, and the first one stays on record."""
    sealed = (built.published.path / "manifest.json").read_bytes()
    done = approve(store, "--by", "A. Pharmacist", "--reason", "read the report")
    assert done.returncode == 0, done.stderr
    assert "approved by A. Pharmacist on " in done.stdout
    model = newest_approved(store, "demo")
    assert model.manifest.key == built.published.manifest.key
    assert approve(store, "--by", "B. Chief", "--reason", "wrong doses", "--reject").returncode == 0
    with pytest.raises(NotApproved, match=r"1 published, none of them approved.*domainlm approve demo"):
        newest_approved(store, "demo")
    decisions = [json.loads(line) for line in (store.root / FILE).read_text().splitlines()]
    assert [(one["decision"], one["by"]) for one in decisions] == [
        ("approved", "A. Pharmacist"),
        ("rejected", "B. Chief"),
    ]
    assert (built.published.path / "manifest.json").read_bytes() == sealed


def test_weights_can_be_asked_for_that_somebody_approved(store: Store, built: Built) -> None:
    runtime = Runtime(store=store.root.parent, data=built.runtime.data)
    wanted = continuation(built.recipe, approved_only=True).train.init_from
    assert wanted == "approved:demo"
    with pytest.raises(NotApproved, match="none of them approved"):
        find_model(wanted, built.recipe, runtime, asked_by="train.init_from")
    decide(store, published_model(store, "demo"), "approved", by="A", reason="good")
    found = find_model(wanted, built.recipe, runtime, asked_by="train.init_from")
    assert found.digest == built.published.part("model").digest


def test_a_model_that_tests_as_worse_is_not_approved_by_mistake(store: Store, tmp_path: Path) -> None:
    model = published_model(store, "demo")
    worse = tmp_path / "worse"
    worse.mkdir()
    told = json.loads((model.path / "report.json").read_text())
    told["verdict"] |= {"questions": "better", "text": "worse"}
    (worse / "report.json").write_text(json.dumps(told))
    bad = Sealed(worse, replace(model.manifest, key="f" * 64))
    with pytest.raises(NotApproved, match=r"held-out text worse\. .*--despite-verdict"):
        decide(store, bad, "approved", by="A", reason="in a hurry")
    assert not (store.root / FILE).exists()
    decide(store, bad, "rejected", by="A", reason="worse")
    approved = decide(store, bad, "approved", by="A", reason="a trial", despite_verdict=True)
    assert approved.verdict == "Against its untrained twin: questions better, held-out text worse."


def test_an_approval_is_of_these_bytes(store: Store) -> None:
    model = published_model(store, "demo")
    decide(store, model, "approved", by="A", reason="good")
    assert decision_on(store, Sealed(model.path, replace(model.manifest, digest="0" * 64))) is None


def test_who_approves_what_must_be_said(store: Store) -> None:
    with pytest.raises(NotApproved, match="needs a name"):
        decide(store, published_model(store, "demo"), "approved", by=" ", reason="good")
    with pytest.raises(NothingPublished, match="no published model 'publish-demo-0'; there are publish-demo-"):
        published_model(store, "demo", "publish-demo-0")
    assert "Missing option '--by'" in approve(store).stderr
