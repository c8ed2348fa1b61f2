"""The fast encoder gives the ids of `tokenizers`, or `tokenizers` takes over, and the books say so."""

import gzip
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from domainlm.tasks.encoder import CHECK_BYTES, PROBES, checked_slices, choose_encoder, differing, load_encoder
from domainlm.tasks.manifest import Part, outside
from domainlm.tasks.runtime import Runtime
from domainlm.tasks.store import Store
from domainlm.tasks.token_passes import EncodePiece, cut_pieces
from domainlm.tasks.tokenize import TokenizeConfig, encode_pieces, read_header, tokenize

TEXTS = [f"Case {n}: fever, then {n * 37} mg of amcoril; naïve β-blocker. <|end|> e\u0301 " * 9 for n in range(60)]


@pytest.fixture
def changed_tokenizer(tokenizer: Part, tmp_path: Path) -> Callable[[Callable[[dict], None]], Part]:
    """changed_tokenizer(change): our tokenizer with its tokenizer.json changed in place."""

    def make(change: Callable[[dict], None]) -> Part:
        directory = tmp_path / "changed"
        directory.mkdir()
        for path in tokenizer.paths():
            (directory / path.name).write_bytes(path.read_bytes())
        settings = json.loads((directory / "tokenizer.json").read_bytes())
        change(settings)
        (directory / "tokenizer.json").write_text(json.dumps(settings))
        return outside(directory, sorted(directory.iterdir()), origin="changed")

    return make


def test_both_encoders_give_the_same_ids(tokenizer: Part) -> None:
    directory = tokenizer.root / "tokenizer"
    assert choose_encoder(directory) == "fastokens"
    texts = [*TEXTS, *PROBES, "".join(TEXTS)]
    fast, reference = load_encoder("fastokens", directory)(texts), load_encoder("tokenizers", directory)(texts)
    np.testing.assert_array_equal(fast.ids, reference.ids)
    np.testing.assert_array_equal(fast.offsets, reference.offsets)


def test_a_difference_is_seen_in_whichever_text_it_is(tokenizer: Part) -> None:
    encoded = load_encoder("tokenizers", tokenizer.root / "tokenizer")(["fever", "a dry cough", ""])
    ids = encoded.ids.copy()
    ids[encoded.offsets[1]] += 1
    assert differing(encoded, encoded) == 0
    assert differing(replace(encoded, ids=ids), encoded) == 1


def test_a_slice_of_each_half_megabyte_is_compared_however_the_texts_are_batched() -> None:
    texts = ["x" * 300_000] * 10
    lengths = np.full(10, 300_000)
    whole = checked_slices(texts, lengths, 0)
    halves = checked_slices(texts[:4], lengths[:4], 0) + checked_slices(texts[4:], lengths[4:], 1_200_000)
    assert len(whole) == len(halves) == 3_000_000 // CHECK_BYTES
    assert {len(text) for text in whole} == {2_000}


def test_what_fastokens_cannot_read_tokenizers_encodes_and_the_books_say_so(
    store: Store, runtime: Runtime, make_corpus: Callable[..., Part], changed_tokenizer: Callable[..., Part]
) -> None:
    part = changed_tokenizer(lambda settings: settings.update(normalizer={"type": "NFKC"}))
    inputs = {"documents": make_corpus("cases", TEXTS), "tokenizer": part}
    counts = tokenize.build(store, TokenizeConfig(), inputs, runtime).manifest.counts
    assert counts["encoded_by.tokenizers"] == 60
    assert (counts["slices_compared"], "encoded_by.fastokens" in counts) == (0, False)


def test_a_corpus_that_fastokens_encodes_is_compared_and_the_books_say_so(
    store: Store, runtime: Runtime, make_corpus: Callable[..., Part], tokenizer: Part
) -> None:
    inputs = {"documents": make_corpus("cases", TEXTS), "tokenizer": tokenizer}
    counts = tokenize.build(store, TokenizeConfig(), inputs, runtime).manifest.counts
    assert (counts["encoded_by.fastokens"], counts["slices_compared"], counts["slices_differing"]) == (60, 1, 0)


def test_where_the_encoders_differ_tokenizers_encodes_everything(
    tmp_path: Path,
    runtime: Runtime,
    make_corpus: Callable[..., Part],
    tokenizer: Part,
    changed_tokenizer: Callable[..., Part],
) -> None:
    """BPE dropout makes them differ: it leaves merges out at random, in each encoder in its own way."""
    header = read_header(tokenizer.root / "tokenizer")
    directory = changed_tokenizer(lambda settings: settings["model"].update(dropout=0.5)).root
    assert choose_encoder(directory) == "tokenizers"
    pieces = cut_pieces(make_corpus("cases", TEXTS).paths())
    encode = EncodePiece(pieces, directory, "fastokens", header, 0, tmp_path / "out" / "fastokens")
    last, counts = encode_pieces(encode, tmp_path / "out", runtime)
    assert (last.encoder, last.out.name) == ("tokenizers", "tokenizers")
    assert (counts["documents"], counts["slices_differing"]) == (60, 1)
    assert [path.name for path in sorted(last.out.iterdir())] == ["00000.arrow", "00000.npy"]


def test_a_tokenizer_whose_ids_are_random_is_refused(changed_tokenizer: Callable[..., Part]) -> None:
    with pytest.raises(ValueError, match="BPE dropout"):
        read_header(changed_tokenizer(lambda settings: settings["model"].update(dropout=0.1)).root)


@pytest.mark.parametrize("model", ["unigram", "word level"])
def test_other_models_than_bpe_are_left_to_tokenizers(tmp_path: Path, model: str) -> None:
    made = Tokenizer(
        models.Unigram([("a", -1.0), ("b", -2.0)]) if model == "unigram" else models.WordLevel({"a": 0}, unk_token="a")
    )
    made.normalizer, made.pre_tokenizer = normalizers.NFC(), pre_tokenizers.Whitespace()
    made.save(str(tmp_path / "tokenizer.json"))
    assert choose_encoder(tmp_path) == "tokenizers"


def test_the_pieces_hold_every_row_group_once_and_follow_from_the_files(make_corpus: Callable[..., Part]) -> None:
    """30 MB of text in row groups of 12 and 3 MB; a piece is at least 8."""
    generator = np.random.default_rng(0)
    texts = [generator.bytes(6_000).hex() for _ in range(2_500)]
    files = make_corpus("large", texts, files=2).paths()
    pieces = cut_pieces(files)
    groups = [(rows.path, group) for piece in pieces for rows in piece for group in rows.groups]
    assert groups == [(files[0], 0), (files[0], 1), (files[1], 0), (files[1], 1)]
    assert [len(piece) for piece in pieces] == [1, 2, 1]


@pytest.mark.real
def test_both_encoders_give_the_same_ids_on_real_text_of_every_source(realdata: Path) -> None:
    directory = realdata / "tokenizers/olmo-dolma-v1_5"
    assert choose_encoder(directory) == "fastokens"
    fast, reference = load_encoder("fastokens", directory), load_encoder("tokenizers", directory)
    for path in sorted(realdata.rglob("*.jsonl.gz")):
        with gzip.open(path) as lines:
            texts = [json.loads(line)["text"] for line in lines][::25]
        assert differing(fast(texts), reference(texts)) == 0, path
