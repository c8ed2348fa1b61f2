"""Bits per byte against values known by definition."""

import hashlib
import lzma
import math
import random
import zlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedModel

from domainlm.eval.bits_per_byte import HeldOut, measure, score_held_out, windows
from domainlm.eval.models import load_encoder, load_model

from .conftest import VOCAB

TEXTS = {
    f"d{n}": " ".join(random.Random(n).choices(["the drug", "lowers", "naïve", "</s>"], k=1 + 9 * n)) for n in range(9)
}


def write(directory: Path, texts: dict[str, str], *, files: int = 1) -> Path:
    directory.mkdir(exist_ok=True)
    ids = list(texts)
    for n in range(files):
        part = ids[n::files]
        table = pa.table({"doc_id": part, "text": [texts[doc_id] for doc_id in part], "source": ["s"] * len(part)})
        pq.write_table(table, directory / f"{n:05d}.parquet")
    return directory


def run(
    model_dir: Path,
    directory: Path,
    *,
    model: PreTrainedModel | None = None,
    max_bytes: int = 10**6,
    context_tokens: int = 128,
    batch_size: int = 4,
) -> HeldOut:
    model = load_model(model_dir, weights="trained", seed=0, dtype="float32", device="cpu") if model is None else model
    return measure(
        model,
        load_encoder(model_dir, model),
        "s",
        directory,
        max_bytes=max_bytes,
        context_tokens=context_tokens,
        batch_size=batch_size,
        progress=lambda done, total: None,
    )


def test_a_uniform_model_needs_log2_of_its_vocabulary_for_each_token(model_dir: Path, tmp_path: Path) -> None:
    model = load_model(model_dir, weights="trained", seed=0, dtype="float32", device="cpu")
    with torch.no_grad():
        next(model.parameters()).zero_()
    held_out = run(model_dir, write(tmp_path / "p", TEXTS), model=model, context_tokens=32)
    for sample in held_out.documents:
        assert sample.bytes == len(TEXTS[sample.doc_id].encode())
        assert sample.bits == pytest.approx(math.log2(VOCAB) * sample.tokens, rel=1e-6, abs=1e-4)
    score = score_held_out(held_out, vocab_size=VOCAB, context_tokens=32, seed=0)[0]
    assert score.value == pytest.approx(score.chance, abs=1e-4)
    assert score.note == "windows of 32 tokens, 8 of them seen before"


def test_a_document_that_fits_is_scored_as_one_forward_pass_scores_it(model_dir: Path, tmp_path: Path) -> None:
    model = load_model(model_dir, weights="trained", seed=0, dtype="float32", device="cpu")
    text = "forty patients received the drug"
    tokens = torch.tensor([[0, *load_encoder(model_dir, model).encode([text])[0]]])
    with torch.no_grad():
        expected = float(model(tokens, labels=tokens).loss) * (tokens.shape[1] - 1) / math.log(2)
    sample = run(model_dir, write(tmp_path / "p", {"a": text})).documents[0]
    assert sample.bits == pytest.approx(expected, rel=1e-5)
    assert sample.tokens == tokens.shape[1] - 1


@given(num_tokens=st.integers(2, 300), context_tokens=st.integers(8, 64))
def test_windows_score_every_token_once_and_never_exceed_the_context(num_tokens: int, context_tokens: int) -> None:
    scored: list[int] = []
    for window in windows(range(num_tokens), context_tokens):
        assert 0 < window.num_scored < len(window.tokens) <= context_tokens + 1
        scored += window.tokens[len(window.tokens) - window.num_scored :]
        assert list(window.tokens) == list(range(window.tokens[0], window.tokens[0] + len(window.tokens)))
    assert scored == list(range(1, num_tokens))


def test_batch_size_and_number_of_files_change_no_document(model_dir: Path, tmp_path: Path) -> None:
    one = run(model_dir, write(tmp_path / "one", TEXTS), context_tokens=32, batch_size=1)
    three = run(model_dir, write(tmp_path / "three", TEXTS, files=3), context_tokens=32, batch_size=16)
    expected = {sample.doc_id: sample for sample in one.documents}
    assert {sample.doc_id for sample in three.documents} == set(TEXTS)
    for sample in three.documents:
        assert sample.bits == pytest.approx(expected[sample.doc_id].bits, abs=3e-4)
        assert (sample.bytes, sample.tokens) == (expected[sample.doc_id].bytes, expected[sample.doc_id].tokens)


def test_the_documents_drawn_do_not_depend_on_their_order(model_dir: Path, tmp_path: Path) -> None:
    forward = run(model_dir, write(tmp_path / "a", TEXTS), max_bytes=200)
    backward = run(model_dir, write(tmp_path / "b", dict(reversed(TEXTS.items())), files=2), max_bytes=200)
    assert {s.doc_id for s in forward.documents} == {s.doc_id for s in backward.documents}
    *first, last = sorted(forward.documents, key=lambda sample: hashlib.sha256(sample.doc_id.encode()).digest())
    assert sum(sample.bytes for sample in first) < 200 <= sum(sample.bytes for sample in [*first, last])


def test_the_floors_are_those_of_the_compressors_on_the_same_text(model_dir: Path, tmp_path: Path) -> None:
    held_out = run(model_dir, write(tmp_path / "p", TEXTS))
    text = "".join(TEXTS[sample.doc_id] for sample in held_out.documents).encode()
    scores = {s.metric: s for s in score_held_out(held_out, vocab_size=VOCAB, context_tokens=128, seed=0)}
    assert scores["zlib_bits_per_byte"].value == pytest.approx(8 * len(zlib.compress(text, 9)) / len(text), abs=1e-4)
    assert scores["lzma_bits_per_byte"].value == pytest.approx(8 * len(lzma.compress(text)) / len(text), abs=1e-4)
    value = scores["bits_per_byte"]
    assert value.low is not None
    assert value.high is not None
    assert value.low < value.value < value.high


def test_a_model_of_nan_and_a_folder_without_documents_are_refused(model_dir: Path, tmp_path: Path) -> None:
    model = load_model(model_dir, weights="trained", seed=0, dtype="float32", device="cpu")
    with torch.no_grad():
        next(model.parameters()).fill_(float("nan"))
    with pytest.raises(ValueError, match="held-out document d0: its log-likelihood is nan"):
        run(model_dir, write(tmp_path / "p", {"d0": "the drug"}), model=model)
    with pytest.raises(FileNotFoundError, match="held-out source s: no Parquet file"):
        run(model_dir, tmp_path / "none")
    with pytest.raises(ValueError, match="holds no document"):
        run(model_dir, write(tmp_path / "empty", {}))
