"""New tokens for given weights: never more tokens for any text, no row untrained, no old id moved."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from tokenizers import AddedToken, Tokenizer
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from domainlm.tasks.encoder import PROBES
from domainlm.tasks.extend_tokenizer import ExtendTokenizerConfig, extend_tokenizer
from domainlm.tasks.manifest import Part, outside
from domainlm.tasks.mix import MixConfig, mix, new_token_counts
from domainlm.tasks.runtime import Runtime
from domainlm.tasks.store import Sealed, Store
from domainlm.tasks.tokenize import TokenizeConfig, tokenize
from domainlm.tasks.train import make_job
from domainlm.tasks.train_tokenizer import TokenizerConfig, train_bpe, write_tokenizer
from domainlm.trainer.assemble import Parts, assemble
from domainlm.trainer.config import TrainConfig
from domainlm.trainer.extension import load_extension
from domainlm.trainer.ledger import open_streams
from domainlm.trainer.loop import Run
from domainlm.trainer.mixture import load_mixture
from domainlm.trainer.ranks import Ranks
from domainlm.trainer.sampler import Sampler

from .conftest import MakeCorpus, leaflet

GENERAL = [f"On day {n} the weather was mild, and then some more of it, as {n + 3} people said." for n in range(140)]
DOMAIN = [leaflet(n) for n in range(200)]
CONFIG = ExtendTokenizerConfig(new_tokens=40, sources=("leaflets",), min_count=30)


@dataclasses.dataclass(frozen=True)
class World:
    """A base that knows general text, and its extension by the words of leaflets."""

    store: Store
    runtime: Runtime
    make_corpus: MakeCorpus
    base: Part
    extended: Sealed

    @property
    def new(self) -> Tokenizer:
        return Tokenizer.from_file(str(self.extended.path / "tokenizer/tokenizer.json"))

    @property
    def old(self) -> Tokenizer:
        return Tokenizer.from_file(str(self.base.root / "tokenizer.json"))


def base_directory(directory: Path, texts: list[str], *, tie: bool = False, rows: int = 300) -> Part:
    """Weights of a small model with the tokenizer of `texts`; `rows` may be more than its entries."""
    write_tokenizer(train_bpe(texts, TokenizerConfig(vocab_size=300)), directory)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=rows, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=64, tie_word_embeddings=tie, bos_token_id=0, eos_token_id=1,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(directory)
    return outside(directory, sorted(directory.iterdir()), origin="weights base")


@pytest.fixture
def world(store: Store, runtime: Runtime, make_corpus: MakeCorpus, tmp_path: Path) -> World:
    base = base_directory(tmp_path / "base", GENERAL)
    inputs = {"tokenizer": base, "corpus.leaflets": make_corpus("leaflets", DOMAIN)}
    inputs["held_out.general"] = make_corpus("general", GENERAL[:9])
    return World(store, runtime, make_corpus, base, extend_tokenizer.build(store, CONFIG, inputs, runtime))


def expanded(world: World, ids: list[int]) -> list[int]:
    """New tokens replaced by what they stand for."""
    extension = load_extension(world.extended.path / "tokenizer")
    assert extension is not None
    return [
        t for i in ids for t in (extension.pieces[i - extension.base_entries] if i >= extension.base_entries else [i])
    ]


def test_domain_text_takes_fewer_tokens_and_the_books_say_how_many(world: World) -> None:
    counts = world.extended.manifest.counts
    assert counts["tokens_after.sample"] < 0.8 * counts["tokens_before.sample"]
    assert counts["tokens_after.general"] <= counts["tokens_before.general"]
    assert (
        sum(len(world.new.encode(text, add_special_tokens=False).ids) for text in DOMAIN)
        == counts["tokens_after.sample"]
    )
    assert world.extended.manifest.fates == {"sampled": 200, "not_sampled": 0}


def test_no_text_of_any_kind_takes_more_tokens_or_is_decoded_otherwise(world: World) -> None:
    """The new tokens, replaced by what they stand for, are the old ones."""
    old, new = world.old, world.new
    old.encode_special_tokens = new.encode_special_tokens = True
    words = st.sampled_from([word for text in DOMAIN for word in (*text.split(), " " + text.split()[0])])

    @settings(max_examples=300, deadline=None, database=None)
    @given(st.one_of(st.text(), st.lists(st.one_of(words, st.text(max_size=3))).map("".join), st.sampled_from(PROBES)))
    def holds(text: str) -> None:
        before, after = (one.encode(text, add_special_tokens=False).ids for one in (old, new))
        assert expanded(world, after) == before
        assert new.decode(after, skip_special_tokens=False) == old.decode(before, skip_special_tokens=False)

    holds()


def test_old_tokens_keep_their_ids_and_the_vocabulary_is_a_multiple_of_64(world: World) -> None:
    old, new = world.old.get_vocab(), world.new.get_vocab()
    assert {text: new[text] for text in old} == old
    added = sorted(set(new.values()) - set(old.values()))
    assert added == list(range(300, 320))  # 40 are wanted, and 20 make it 5 x 64
    opened = AutoTokenizer.from_pretrained(world.extended.path / "tokenizer")
    assert opened.bos_token_id == 0
    assert opened.encode(DOMAIN[3]) == world.new.encode(DOMAIN[3]).ids


def test_new_tokens_are_the_words_that_save_most_and_each_is_frequent(world: World) -> None:
    rows = [json.loads(line) for line in (world.extended.path / "new_tokens.jsonl").read_text().splitlines()]
    ids = np.concatenate([world.new.encode(text, add_special_tokens=False).ids for text in DOMAIN])
    assert [row["count"] for row in rows] == [int((ids == row["id"]).sum()) for row in rows]
    assert min(row["count"] for row in rows) == world.extended.manifest.counts["least_count"] >= 30
    saved = [row["count"] * (len(row["pieces"]) - 1) for row in rows]
    assert saved == sorted(saved, reverse=True)
    assert all(row["text"] == "".join(row["pieces"]) for row in rows)
    assert " patients" in {row["text"] for row in rows}


def tokens_of(world: World, tokenizer: Part, texts: list[str], budget: int) -> dict[str, Part]:
    """Inputs of a training on leaflets."""
    documents = {"documents": world.make_corpus("train", texts), "tokenizer": tokenizer}
    shards = tokenize.build(world.store, TokenizeConfig(), documents, world.runtime, label="train").part()
    config = MixConfig(
        token_shares={"train": 1}, token_budget=budget, sequence_tokens=32, batch_tokens=128, max_repetitions=9
    )
    mixture = mix.build(world.store, config, {"tokenizer": tokenizer, "corpus.train": shards}, world.runtime)
    return {"mixture": mixture.part(), "tokenizer": tokenizer, "corpus.train": shards, "init_from": world.base}


def parts_of(world: World, inputs: dict[str, Part], ranks: Ranks) -> tuple[Run, Parts]:
    """A run that has not begun."""
    config = TrainConfig(model=None, peak_lr=1e-2, precision="fp32", export_precision="fp32")
    out = world.store.root / "run"
    job = make_job(config, inputs, out, world.runtime.model_copy(update={"device": "cpu"}))
    parts = assemble(job, ranks)
    return Run(job, ranks, parts), parts


def test_every_new_row_begins_as_the_mean_of_its_pieces_and_has_had_a_gradient(world: World, ranks: Ranks) -> None:
    """Of an untied model: an embedding has a gradient where its token was read, and only there."""
    inputs = tokens_of(world, world.extended.part("tokenizer"), DOMAIN[:80], 4096)
    assert Sealed.load(inputs["mixture"].root).manifest.counts["least_new_token"] > 0
    extension = load_extension(world.extended.path / "tokenizer")
    assert extension is not None
    run, parts = parts_of(world, inputs, ranks)
    given_ = load_file(world.base.root / "model.safetensors")
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        means = torch.stack([given_[name][list(pieces)].mean(0) for pieces in extension.pieces])
        assert torch.equal(parts.optimizer.shards[name][:300], given_[name])
        torch.testing.assert_close(parts.optimizer.shards[name][300:].detach(), means, rtol=0, atol=1e-6)
    assert run.train() == 0
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        had_gradient = parts.optimizer.moments()["exp_avg_sq"][name].amax(1) > 0
        assert had_gradient[300:].all()
    assert not parts.optimizer.moments()["exp_avg_sq"]["model.embed_tokens.weight"].amax(1).all()
    exported = load_file(world.store.root / "run/model/model.safetensors")
    assert exported["lm_head.weight"].shape == (320, 16)
    assert not (world.store.root / "run/model/extension.json").exists()


@pytest.mark.parametrize("budget", [2048, 9216])
def test_the_mixture_counts_new_tokens_in_the_very_windows_of_its_budget(world: World, budget: int) -> None:
    """Less than one repetition, and between one and two."""
    inputs = tokens_of(world, world.extended.part("tokenizer"), DOMAIN, budget)
    mixture = load_mixture(inputs["mixture"].paths()[0])
    extension = load_extension(world.extended.path / "tokenizer")
    assert extension is not None
    directories = {"train": inputs["corpus.train"].root}
    stream, sampler = open_streams(mixture, directories)[0], Sampler(mixture)
    windows = [place.window for place in sampler.locate_range(0, mixture.num_sequences)]
    read = np.concatenate([stream.read(window * 32, 32) for window in windows])
    expected = np.bincount(read, minlength=320)[300:]
    assert new_token_counts(mixture, directories, extension).tolist() == expected.tolist()
    assert (len(set(windows)) < len(windows)) == (budget == 9216)


def test_a_budget_that_never_reads_a_new_token_is_refused(world: World) -> None:
    with pytest.raises(
        ValueError, match=r"the token budget never reads \d+ of the 20 new tokens .* Raise token_budget"
    ):
        tokens_of(world, world.extended.part("tokenizer"), DOMAIN[:80], 128)


def test_rows_that_round_a_vocabulary_up_are_used_first(world: World, ranks: Ranks, tmp_path: Path) -> None:
    padded = base_directory(tmp_path / "padded", GENERAL, tie=True, rows=384)
    inputs = {**tokens_of(world, world.extended.part("tokenizer"), DOMAIN[:80], 4096), "init_from": padded}
    _, parts = parts_of(world, inputs, ranks)
    table, before = parts.optimizer.shards["model.embed_tokens.weight"], load_file(padded.root / "model.safetensors")
    assert table.shape == (384, 16)
    assert torch.equal(table[320:], before["model.embed_tokens.weight"][320:])
    assert not torch.equal(table[300:320], before["model.embed_tokens.weight"][300:320])


def _other_words(raw: dict) -> None:
    raw["model"]["vocab"] |= {"t": raw["model"]["vocab"]["t"], "weathers": 300}


def _word_pieces(raw: dict) -> None:
    raw["decoder"] = {"type": "WordPiece", "prefix": "##", "cleanup": True}


@pytest.mark.parametrize(
    ("breaks", "config", "says"),
    [
        (_word_pieces, CONFIG, "no ByteLevel decoder"),
        (_other_words, CONFIG, "entries that its own merges do not lead to"),
        (lambda raw: None, CONFIG.model_copy(update={"min_count": 10_000}), "10,000 times; lower"),
    ],
)
def test_what_cannot_be_extended_is_refused(
    world: World, tmp_path: Path, breaks: Callable[[dict], None], config: ExtendTokenizerConfig, says: str
) -> None:
    raw = json.loads((world.base.root / "tokenizer.json").read_text())
    breaks(raw)
    (tmp_path / "broken").mkdir()
    path = tmp_path / "broken/tokenizer.json"
    path.write_text(json.dumps(raw))
    inputs = {"tokenizer": outside(path.parent, [path], origin="broken")}
    inputs["corpus.leaflets"] = world.make_corpus("leaflets", DOMAIN)
    with pytest.raises(ValueError, match=says):
        extend_tokenizer.build(world.store, config, inputs, world.runtime)


def test_added_tokens_that_are_no_entries_of_the_model_keep_their_ids(world: World, tmp_path: Path) -> None:
    """As of Llama 3: 256 special tokens that only `added_tokens` has, with ids after all others."""
    base = Tokenizer.from_file(str(world.base.root / "tokenizer.json"))
    base.add_special_tokens([AddedToken("<|turn|>", special=True), AddedToken("<|tool|>", special=True)])
    write_tokenizer(base, tmp_path / "chat")
    raw = json.loads((tmp_path / "chat/tokenizer.json").read_text())
    assert "<|turn|>" not in raw["model"]["vocab"]
    inputs = {"tokenizer": outside(tmp_path / "chat", sorted((tmp_path / "chat").iterdir()), origin="chat")}
    inputs["corpus.leaflets"] = world.make_corpus("leaflets", DOMAIN)
    sealed = extend_tokenizer.build(world.store, CONFIG, inputs, world.runtime)
    new = Tokenizer.from_file(str(sealed.path / "tokenizer/tokenizer.json"))
    assert (new.token_to_id("<|turn|>"), new.token_to_id("<|tool|>")) == (300, 301)
    assert new.encode("x<|tool|>", add_special_tokens=False).ids[-1] == 301
    assert new.get_vocab_size() == 320


def test_weights_with_another_tokenizer_than_the_extended_one_are_refused(
    world: World, ranks: Ranks, tmp_path: Path
) -> None:
    other = base_directory(tmp_path / "other", DOMAIN)
    inputs = tokens_of(world, world.extended.part("tokenizer"), DOMAIN[:80], 4096)
    with pytest.raises(ValueError, match="extends another one than"):
        parts_of(world, {**inputs, "init_from": other}, ranks)
    plain = outside(
        tmp_path / "plain",
        [_without_extension(world, tmp_path / "plain")],
        origin="an extended tokenizer, copied by hand",
    )
    with pytest.raises(ValueError, match=r"has 300 entries, but the mixture's tokens are of a vocabulary of 320"):
        parts_of(world, {**inputs, "tokenizer": plain}, ranks)


def _without_extension(world: World, directory: Path) -> Path:
    directory.mkdir()
    return Path(shutil.copy(world.extended.path / "tokenizer/tokenizer.json", directory))


def test_the_bytes_of_an_extended_tokenizer_are_those_of_its_version(world: World) -> None:
    assert (extend_tokenizer.version, world.extended.manifest.digest[:16]) == (1, "ca6a9e522936ec3c")
