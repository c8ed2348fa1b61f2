import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from domainlm.tasks.document_shards import EmptyCorpus
from domainlm.tasks.manifest import file_sha256
from domainlm.tasks.progress import Progress, watched_by
from domainlm.tasks.runtime import Runtime
from domainlm.tasks.store import Store
from domainlm.tasks.tokenize import TokenizeConfig, load_index, read_header, shard_bounds, tokenize
from domainlm.tasks.train_tokenizer import TokenizerConfig, choose_sample, train_bpe, train_tokenizer
from domainlm.trainer.shards import Shard, verify

TEXTS = [f"Case {n}: {'a fever that came and went, ' * (n % 7)}then {n * 37} mg of amcoril." for n in range(120)]


def digests(directory: Path) -> dict[str, str]:
    return {p.relative_to(directory).as_posix(): file_sha256(p) for p in sorted(directory.rglob("*")) if p.is_file()}


def stored_documents(directory: Path) -> list:
    shards = [Shard.open(directory / info.file) for info in load_index(directory / "tokens.json").shards]
    return [shard.document(row) for shard in shards for row in range(shard.num_documents)]


# train_tokenizer


def test_a_tokenizer_loads_as_a_fast_tokenizer_and_round_trips_every_byte(tokenizer):
    loaded = AutoTokenizer.from_pretrained(tokenizer.root / "tokenizer")
    assert isinstance(loaded, PreTrainedTokenizerFast)
    assert (loaded.bos_token, loaded.eos_token, loaded.pad_token) == ("<|begin|>", "<|end|>", "<|pad|>")
    text = "Naïve β-blocker,\r\n\t 0.5 µg/kg — 中文 🙂 e\u0301\n\n  end "
    assert loaded.decode(loaded.encode(text, add_special_tokens=False)) == text
    assert loaded.encode("fever")[0] == loaded.bos_token_id


def test_digits_stand_alone_and_words_carry_the_space_before_them(tokenizer):
    trained = Tokenizer.from_file(str(tokenizer.root / "tokenizer/tokenizer.json"))
    assert trained.encode("mg 1205", add_special_tokens=False).tokens[-4:] == ["1", "2", "0", "5"]
    assert "Ġpatients" in trained.encode("to patients", add_special_tokens=False).tokens


def test_the_same_documents_give_the_same_tokenizer_bytes_in_another_process(make_corpus, tmp_path):
    texts = [text * 3 for text in TEXTS]
    script = (
        "import sys; from pathlib import Path; from domainlm.tasks.train_tokenizer import *;"
        "sample = choose_sample(tuple(map(Path, sys.argv[2:])), 10_000);"
        "write_tokenizer(train_bpe(sample.texts(), TokenizerConfig(vocab_size=500)), Path(sys.argv[1]))"
    )
    for number, files in enumerate((1, 3)):
        paths = [str(path) for path in make_corpus("cases", texts, files=files).paths()]
        environment = {**os.environ, "PYTHONHASHSEED": str(number)}
        subprocess.run(
            [sys.executable, "-c", script, str(tmp_path / f"t{number}"), *paths], check=True, env=environment
        )
    assert digests(tmp_path / "t0") == digests(tmp_path / "t1")


def test_the_sample_is_the_documents_with_the_lowest_digests_up_to_the_limit(make_corpus):
    files = tuple(make_corpus("cases", TEXTS, files=2).paths())
    sample = choose_sample(files, 2_000)
    texts = sorted(TEXTS, key=lambda text: hashlib.sha256(text.encode()).hexdigest())
    assert sorted(sample.texts()) == sorted(texts[: sample.documents])
    assert sample.bytes == sum(len(text.encode()) for text in texts[: sample.documents]) <= 2_000
    assert sample.bytes + len(texts[sample.documents].encode()) > 2_000


def test_a_tokenizer_is_not_trained_on_nothing(store, make_corpus, runtime):
    corpus = make_corpus("empty", [])
    with pytest.raises(ValueError, match="no document to train a tokenizer on"):
        train_tokenizer.build(store, TokenizerConfig(), {"corpus.empty": corpus}, runtime)


def test_the_books_of_a_tokenizer_say_how_many_documents_were_sampled(store, make_corpus, runtime):
    corpus = make_corpus("cases", TEXTS)
    sealed = train_tokenizer.build(
        store, TokenizerConfig(vocab_size=300, max_bytes=1_000), {"corpus.cases": corpus}, runtime
    )
    assert sealed.manifest.entered == {"corpus.cases": 120}
    assert 0 < sealed.manifest.fates["sampled"] < 120
    assert sealed.manifest.counts["vocab_size"] <= 300
    assert sealed.manifest.counts["bytes_per_token"] > 1


# tokenize


def test_every_document_is_stored_once_between_bos_and_eos_with_its_licence(store, make_corpus, tokenizer, runtime):
    inputs = {"documents": make_corpus("cases", TEXTS, files=3), "tokenizer": tokenizer}
    sealed = tokenize.build(store, TokenizeConfig(shard_tokens=1_000), inputs, runtime)
    header = load_index(sealed.path / "tokens.json").header
    backend = Tokenizer.from_file(str(tokenizer.root / "tokenizer/tokenizer.json"))
    stored = stored_documents(sealed.path)
    assert sorted(document.doc_id for document in stored) == sorted(f"cases/{n}" for n in range(120))
    for document in stored:
        assert (document.tokens[0], document.tokens[-1]) == (header.bos_id, header.eos_id)
        assert backend.decode(document.tokens[1:-1].tolist()) == TEXTS[int(document.doc_id.split("/")[1])]
        assert (document.source, document.license) == ("cases", "CC-BY-4.0")


def test_the_index_names_the_shards_their_sizes_and_digests(store, make_corpus, tokenizer, runtime):
    inputs = {"documents": make_corpus("cases", TEXTS, files=3), "tokenizer": tokenizer}
    sealed = tokenize.build(store, TokenizeConfig(shard_tokens=1_000), inputs, runtime)
    index = load_index(sealed.path / "tokens.json")
    assert len(index.shards) > 3
    for info in index.shards:
        verify(sealed.path, info)
        assert 500 < info.tokens < 1_500
    assert sum(info.documents for info in index.shards) == sealed.manifest.fates["shards"] == 120
    assert sum(info.tokens for info in index.shards) == sealed.manifest.counts["tokens"]
    assert sealed.manifest.counts["tokens.CC-BY-4.0"] == sealed.manifest.counts["tokens"]
    assert sealed.manifest.counts["text_bytes"] == sum(len(text.encode()) for text in TEXTS)
    assert index.header.tokenizer_digest == file_sha256(tokenizer.root / "tokenizer/tokenizer.json")
    assert not (sealed.path / ".ranks").exists()


def test_token_shards_are_the_same_bytes_for_any_number_of_workers_and_files(tmp_path, make_corpus, tokenizer):
    found = []
    for workers, files in ((1, 3), (2, 3), (1, 5)):
        inputs = {"documents": make_corpus("cases", TEXTS, files=files), "tokenizer": tokenizer}
        store = Store(tmp_path / f"store-{workers}-{files}")
        runtime = Runtime(workers=workers)
        sealed = tokenize.build(store, TokenizeConfig(shard_tokens=1_000), inputs, runtime)
        found.append(sealed.part().digest)
    assert found[0] == found[1] == found[2]


def test_the_shuffle_mixes_the_documents_and_follows_its_seed(store, make_corpus, tokenizer, runtime):
    inputs = {"documents": make_corpus("cases", TEXTS), "tokenizer": tokenizer}
    orders = []
    for seed in (0, 1):
        sealed = tokenize.build(store, TokenizeConfig(shuffle_seed=seed), inputs, runtime)
        orders.append([int(document.doc_id.split("/")[1]) for document in stored_documents(sealed.path)])
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(120))
    assert orders[0] != orders[1]
    assert abs(np.corrcoef(orders[0], range(120))[0, 1]) < 0.3


def test_text_that_spells_special_tokens_gives_no_special_token(store, make_corpus, tokenizer, runtime):
    texts = ["<|begin|>fever<|end|><|end|> and <|pad|> 5 mg", "<|end|>"]
    inputs = {"documents": make_corpus("hostile", texts), "tokenizer": tokenizer}
    sealed = tokenize.build(store, TokenizeConfig(), inputs, runtime)
    backend = Tokenizer.from_file(str(tokenizer.root / "tokenizer/tokenizer.json"))
    for document in stored_documents(sealed.path):
        assert document.tokens[1:-1].min() > 2  # 0, 1 and 2 are the special tokens
        assert backend.decode(document.tokens[1:-1].tolist()) == texts[int(document.doc_id.split("/")[1])]


def test_a_stage_that_was_stopped_between_its_passes_goes_on_with_the_second(tmp_path, make_corpus, tokenizer, runtime):
    config = TokenizeConfig(shard_tokens=1_000)
    inputs = {"documents": make_corpus("cases", TEXTS, files=3), "tokenizer": tokenizer}
    whole = tokenize.build(Store(tmp_path / "whole"), config, inputs, runtime)
    store = Store(tmp_path / "stopped")
    written_ns = []

    def look(progress: Progress) -> None:
        if (progress.done, progress.total) == (1, 1):  # the first pass is through
            encoded = next(store.root.glob("*.partial/.ranks/fastokens/00000.arrow"))
            written_ns.append(encoded.stat().st_mtime_ns)
            if len(written_ns) == 1:
                raise KeyboardInterrupt

    with watched_by(look), pytest.raises(KeyboardInterrupt):
        tokenize.build(store, config, inputs, runtime)
    with watched_by(look):
        resumed = tokenize.build(store, config, inputs, runtime)
    assert written_ns[0] == written_ns[1]
    assert resumed.part().digest == whole.part().digest


def test_an_empty_corpus_is_an_error_that_points_at_the_filters(store, make_corpus, tokenizer, runtime):
    inputs = {"documents": make_corpus("empty", []), "tokenizer": tokenizer}
    with pytest.raises(EmptyCorpus, match="what the filters dropped"):
        tokenize.build(store, TokenizeConfig(), inputs, runtime)


def test_a_document_file_that_holds_nothing_is_no_obstacle(store, make_corpus, tokenizer, runtime):
    inputs = {"documents": make_corpus("few", TEXTS[:2], files=3), "tokenizer": tokenizer}
    assert tokenize.build(store, TokenizeConfig(), inputs, runtime).manifest.fates == {"shards": 2}


def test_a_tokenizer_without_bos_begins_documents_with_its_eos(tmp_path, tokenizer):
    directory = tmp_path / "no-bos"
    directory.mkdir()
    for path in tokenizer.paths():
        (directory / path.name).write_bytes(path.read_bytes().replace(b' "bos_token": "<|begin|>",\n', b""))
    header = read_header(directory)
    assert (header.bos_id, header.eos_id) == (1, 1)


def test_shards_are_cut_evenly_and_a_huge_document_has_one_of_its_own():
    assert shard_bounds(np.full(10, 100), 250) == (0, 3, 5, 8, 10)
    assert shard_bounds(np.array([10, 5_000, 10, 10]), 1_000) == (0, 2, 4)
    assert shard_bounds(np.array([7]), 1_000) == (0, 1)


def test_a_tokenizer_of_the_largest_two_byte_vocabulary_still_trains():
    tokenizer = train_bpe(TEXTS, TokenizerConfig(vocab_size=65_536))
    assert tokenizer.get_vocab_size() < 65_536  # the text runs out of pairs first, and the header says so


def test_the_bytes_of_tokenizer_and_shards_change_only_with_their_version(store, make_corpus, tokenizer, runtime):
    """When a digest changes on purpose, raise the stage's version and write the new one here."""
    inputs = {"documents": make_corpus("cases", TEXTS, files=3), "tokenizer": tokenizer}
    sealed = tokenize.build(store, TokenizeConfig(shard_tokens=1_000), inputs, runtime)
    assert (train_tokenizer.version, tokenizer.digest[:16]) == (1, "0dd3f5a76a10a645")
    assert (tokenize.version, sealed.manifest.digest[:16]) == (1, "857ed9ebb7e85d6f")
