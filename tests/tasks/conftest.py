"""Small corpora that several stages are tested on, and one whole small build."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from domainlm.eval.benchmarks import Benchmark
from domainlm.eval.config import EvaluateConfig
from domainlm.tasks.acquire import AcquireConfig, acquire
from domainlm.tasks.annotate import annotate
from domainlm.tasks.decontaminate import DecontaminateConfig, DecontaminateStageConfig, decontaminate
from domainlm.tasks.deduplicate import DeduplicateConfig, deduplicate
from domainlm.tasks.documents import Document, content_sha256, write_rows
from domainlm.tasks.evaluate import EvaluateStageConfig, evaluate
from domainlm.tasks.filter import FilterConfig
from domainlm.tasks.filter import filter as filter_documents
from domainlm.tasks.manifest import Part, outside
from domainlm.tasks.mix import MixConfig, mix
from domainlm.tasks.rules import LengthRule, LicenseRule
from domainlm.tasks.runtime import Runtime
from domainlm.tasks.stage import Stage
from domainlm.tasks.store import Sealed, Store
from domainlm.tasks.tokenize import TokenizeConfig, tokenize
from domainlm.tasks.tokenize_held_out import TokenizeHeldOutConfig, tokenize_held_out
from domainlm.tasks.train import train
from domainlm.tasks.train_tokenizer import TokenizerConfig, train_tokenizer
from domainlm.trainer.config import ModelConfig, TrainConfig

MakeCorpus = Callable[..., Part]

DRUGS = ("velotrine", "amcoril", "sebutan", "dorvaxin", "ilemarol", "pranostat")
SIGNS = ("fever", "oedema", "a dry cough", "angina", "low sodium", "migraine")
SMALL_MODEL = ModelConfig(preset="llama-6m", layers=2, width=32, heads=2, kv_heads=2, mlp_width=64)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    return Runtime(store=tmp_path / "store")


def leaflet(n: int) -> str:
    """The n-th of many different short texts about invented drugs."""
    return (
        f"{DRUGS[n % 6].capitalize()} at {5 * (n % 17) + 5} mg a day was given to {20 + n} patients with "
        f"{SIGNS[n % 5]}. After {n % 12 + 1} weeks {SIGNS[(n + n // 5) % 6]} was seen in {n % 9} of them, study {n}."
    )


def document(source: str, number: int, text: str, license: str) -> Document:
    return Document(
        doc_id=f"{source}/{number}",
        text=text,
        source=source,
        license=license,
        license_evidence="test",
        uri=f"{source}.jsonl#{number}",
        retrieved_at=None,
        content_sha256=content_sha256(text),
        parent_id=None,
        native_metadata="{}",
    )


@pytest.fixture
def make_corpus(tmp_path: Path) -> MakeCorpus:
    """make_corpus(name, texts, files=1): documents of a corpus in so many Parquet files, as a stage's input."""

    def make(name: str, texts: Sequence[str], files: int = 1, license: str = "CC-BY-4.0") -> Part:
        root = tmp_path / f"corpus-{name}-{files}"
        paths = [root / "kept" / f"{number:05d}.parquet" for number in range(files)]
        for number, path in enumerate(paths):
            write_rows(path, Document, [document(name, n, texts[n], license) for n in range(number, len(texts), files)])
        return outside(root, paths, origin=f"decontaminate-{name}/kept")

    return make


@pytest.fixture
def tokenizer(store: Store, make_corpus: MakeCorpus, runtime: Runtime) -> Part:
    """A tokenizer of 400 entries."""
    corpus = make_corpus("leaflets-for-tokenizer", [leaflet(n) for n in range(200)])
    sealed = train_tokenizer.build(store, TokenizerConfig(vocab_size=400), {"corpus.leaflets": corpus}, runtime)
    return sealed.part("tokenizer")


@dataclass
class Build:
    """Every stage of a build but the last, as the flow calls and connects them."""

    store: Store
    runtime: Runtime
    stages: dict[str, Sealed]
    held_out: Part | None = None
    """Text that training is watched by; as in the flow it is no part of what is published."""

    def make(self, stage: Stage[Any], config: object, inputs: dict[str, Part], label: str = "") -> Sealed:
        name = f"{stage.name}.{label}" if label else stage.name
        self.stages[name] = stage.build(self.store, config, inputs, self.runtime, label=label)
        return self.stages[name]

    def train_inputs(self) -> dict[str, Part]:
        corpora = {f"corpus.{name.partition('.')[2]}": self.stages[name].part() for name in self.named("tokenize.")}
        tokenizer = self.stages["train_tokenizer"].part("tokenizer")
        watched_by = {"held_out": self.held_out.looked_at()} if self.held_out else {}
        return {"mixture": self.stages["mix"].part(), "tokenizer": tokenizer, **corpora, **watched_by}

    def named(self, prefix: str) -> list[str]:
        return [name for name in self.stages if name.startswith(prefix)]


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Two sources with duplicates, a short text, a broken line and a leak; a model of 48 steps; its scores."""
    root = tmp_path_factory.mktemp("build")
    runtime = Runtime(store=root / "store", checkpoint_every_s=0.05, held_out_every_tokens=2048)
    made = Build(Store(root / "store"), runtime, {})
    questions = write_questions(root / "drugs.jsonl")
    benchmark = {"benchmark.drugs": outside(root, [questions], origin="benchmark drugs")}
    entry = Benchmark(name="drugs", form="medqa", path="drugs.jsonl")
    files = write_sources(root / "raw")
    for name, file in files.items():
        source = AcquireConfig(name=name, format="jsonl", dead_letter_budget=0.1, origin=f"https://{name}.test")
        raw = outside(file.parent, [file], origin=f"source {name}")
        documents = made.make(acquire, source, {"files": raw}, label=name).part("kept")
        rules = FilterConfig(rules=(LicenseRule(), LengthRule(min_words=8)), pii=("email",))
        annotated = made.make(annotate, rules.annotate_config(), {"documents": documents}, label=name).part("annotated")
        made.make(filter_documents, rules, {"documents": documents, "annotations": annotated}, label=name)
    filtered = {name: made.stages[f"filter.{name}"].part("kept") for name in files}
    distinct = made.make(deduplicate, DeduplicateConfig(), filtered)
    for name in files:
        config = DecontaminateStageConfig(decontaminate=DecontaminateConfig(held_out_share=0.1), benchmarks=(entry,))
        inputs = {"documents": distinct.part(f"kept/{name}"), **benchmark}
        made.make(decontaminate, config, inputs, label=name)
    corpora = {name: made.stages[f"decontaminate.{name}"] for name in files}
    kept = {f"corpus.{name}": corpus.part("kept") for name, corpus in corpora.items()}
    tokenizer = made.make(train_tokenizer, TokenizerConfig(vocab_size=400), kept).part("tokenizer")
    for name, corpus in corpora.items():
        inputs = {"documents": corpus.part("kept"), "tokenizer": tokenizer}
        made.make(tokenize, TokenizeConfig(), inputs, label=name)
    shares = {"leaflets": 0.75, "plain": 0.25}
    budget = MixConfig(
        token_shares=shares, token_budget=48 * 256 + 100, sequence_tokens=32, batch_tokens=256, max_repetitions=4
    )
    tokens = {f"corpus.{name}": made.stages[f"tokenize.{name}"].part() for name in files}
    made.make(mix, budget, {"tokenizer": tokenizer, **tokens})
    held_out = {f"held_out.{name}": corpus.part("held_out") for name, corpus in corpora.items()}
    watched_by = TokenizeHeldOutConfig(max_bytes=500_000)
    inputs = {"tokenizer": tokenizer, **held_out}
    made.held_out = tokenize_held_out.build(made.store, watched_by, inputs, runtime).part()
    model = made.make(train, TrainConfig(model=SMALL_MODEL), made.train_inputs()).part("model")
    for label, weights in (("model", "trained"), ("base", "untrained")):
        config = EvaluateStageConfig(evaluate=EvaluateConfig(benchmarks=(entry,), context_tokens=32), weights=weights)
        made.make(evaluate, config, {"model": model, **benchmark, **held_out}, label=label)
    return made


def write_sources(folder: Path) -> dict[str, Path]:
    """Two JSONL files of documents: `leaflets` in CC-BY-4.0, `plain` in MIT."""
    folder.mkdir()
    leaflets = [leaflet(n) for n in range(260)]
    leaflets += [
        leaflet(3),
        leaflet(7).replace(" ", "  "),
        "Too short.",
        f"Write to a.person@example.org. {leaflet(300)}",
    ]
    leaflets += [f"{QUESTION} The answer was known at once, and everybody agreed on it that day."]
    plain = [
        f"On day {n} the weather was {SIGNS[n % 6]} and then some more of it, as {n + 3} people said."
        for n in range(140)
    ]
    files = {}
    for name, texts, license in (("leaflets", leaflets, "CC-BY-4.0"), ("plain", plain, "MIT")):
        rows = [json.dumps({"id": str(n), "text": text, "license": license}) for n, text in enumerate(texts)]
        files[name] = folder / f"{name}.jsonl"
        files[name].write_text("\n".join(rows) + ("\n{broken\n" if name == "leaflets" else "\n"))
    return files


QUESTION = (
    "A patient of forty years who takes velotrine for migraine every single day now comes with low sodium and a cough "
    "that does not go away; which drug is it?"
)


def write_questions(path: Path) -> Path:
    """24 questions in the form of MedQA, one of which a leaflet gives away."""
    rows = []
    for n in range(24):
        endings = {f"ending{k}": DRUGS[(n + k - n % 4) % 6] for k in range(4)}
        text = QUESTION if n == 0 else f"Which drug was given to {20 + n} patients with {SIGNS[n % 5]}?"
        rows.append(json.dumps({"id": f"q{n}", "sent1": text, "label": n % 4, **endings}))
    path.write_text("\n".join(rows) + "\n")
    return path
