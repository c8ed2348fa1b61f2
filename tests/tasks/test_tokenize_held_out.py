"""Held-out text as token shards: the documents that evaluation measures, in the order of its draw, with their bytes."""

import hashlib

import pytest
from transformers import AutoTokenizer

from domainlm.tasks.tokenize import tokenizer_directory
from domainlm.tasks.tokenize_held_out import TokenizeHeldOutConfig, tokenize_held_out
from domainlm.trainer import strict
from domainlm.trainer.held_out_text import HeldOutText
from domainlm.trainer.shards import Shard

from .conftest import leaflet

TEXTS = [leaflet(n) for n in range(40)] + ["", "Ödem — 5 µg"]


@pytest.fixture
def built(store, make_corpus, tokenizer, runtime):
    def build(max_bytes: int, files: int = 1):
        inputs = {"held_out.leaflets": make_corpus("leaflets", TEXTS, files), "tokenizer": tokenizer}
        return tokenize_held_out.build(store, TokenizeHeldOutConfig(max_bytes=max_bytes), inputs, runtime)

    return build


def read(sealed):
    text = strict.load(HeldOutText, sealed.path / "held_out.json")
    return text.sources[0], Shard.open(sealed.path / text.sources[0].shard.file)


def test_documents_are_in_the_order_of_the_draw_with_the_bytes_and_tokens_of_their_text(built, tokenizer):
    source, shard = read(built(1_000_000))
    ids = sorted((f"leaflets/{n}" for n in range(len(TEXTS))), key=lambda i: hashlib.sha256(i.encode()).digest())
    assert shard.doc_ids.to_pylist() == ids
    texts = [TEXTS[int(doc_id.partition("/")[2])] for doc_id in ids]
    assert list(source.text_bytes) == [len(text.encode()) for text in texts]
    encoder = AutoTokenizer.from_pretrained(tokenizer_directory({"tokenizer": tokenizer}))
    for row, text in enumerate(texts):
        tokens = shard.document(row).tokens.tolist()
        assert tokens[1:-1] == encoder(text, add_special_tokens=False)["input_ids"]


def test_no_more_is_taken_than_evaluation_measures_and_the_rest_is_accounted_for(built):
    sealed = built(1000)
    source, shard = read(sealed)
    assert sum(source.text_bytes[:-1]) < 1000 <= sum(source.text_bytes)
    assert sealed.manifest.fates == {"shards": shard.num_documents, "not_sampled": len(TEXTS) - shard.num_documents}


def test_how_the_documents_lie_in_files_changes_no_byte(built):
    assert built(2000).manifest.digest == built(2000, files=3).manifest.digest
