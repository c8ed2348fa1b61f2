import dataclasses
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from domainlm.trainer.shards import Shard, ShardHeader, TokenDocument, file_sha256, verify, write_shard
from domainlm.trainer.stream import CorpusStream

from .conftest import HEADER, World, make_documents


def test_a_shard_gives_back_its_documents_without_a_copy(tmp_path: Path) -> None:
    documents = make_documents("a", 20, seed=1)
    info = write_shard(tmp_path / "00000.arrow", documents, HEADER)
    shard = Shard.open(tmp_path / "00000.arrow")
    assert shard.header == HEADER
    assert (info.documents, info.tokens) == (20, len(shard.tokens)) == (shard.num_documents, shard.offsets[-1])
    assert not shard.tokens.flags.owndata
    assert shard.tokens.dtype == np.uint16
    for row, document in enumerate(documents):
        found = shard.document(row)
        assert (found.doc_id, found.source, found.license) == (document.doc_id, document.source, document.license)
        assert found.tokens.tolist() == document.tokens.tolist()


def test_any_reader_of_arrow_can_open_it(tmp_path: Path) -> None:
    documents = make_documents("a", 3, seed=1)
    write_shard(tmp_path / "00000.arrow", documents, HEADER)
    with pa.memory_map(str(tmp_path / "00000.arrow")) as file:
        table = pa.ipc.open_file(file).read_all()
    assert table.column_names == ["doc_id", "source", "license", "tokens"]
    assert table["tokens"].to_pylist() == [document.tokens.tolist() for document in documents]


def test_the_same_documents_give_the_same_bytes(tmp_path: Path) -> None:
    digests = {write_shard(tmp_path / f"{i}.arrow", make_documents("a", 9, seed=1), HEADER).sha256 for i in range(2)}
    assert len(digests) == 1


def test_a_large_vocabulary_takes_four_bytes(tmp_path: Path) -> None:
    header = dataclasses.replace(HEADER, vocab_size=70_000)
    tokens = np.array([0, 69_999, 1], dtype=np.uint32)
    write_shard(tmp_path / "00000.arrow", [TokenDocument("a", "a", "MIT", tokens)], header)
    assert Shard.open(tmp_path / "00000.arrow").tokens.tolist() == [0, 69_999, 1]


@pytest.mark.parametrize(
    ("tokens", "says"),
    [([0, 5], "begin with bos 0 and end with eos 1"), ([5, 1], "begin with bos"), ([0, 64, 1], "holds token 64")],
)
def test_a_document_that_breaks_the_schema_is_refused(tmp_path: Path, tokens: list[int], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        write_shard(tmp_path / "0.arrow", [TokenDocument("a", "a", "MIT", np.array(tokens, np.uint16))], HEADER)


def test_a_flipped_bit_is_found(world: World, tmp_path: Path) -> None:
    info = world.mixture.corpora[0].shards[0]
    data = bytearray((world.directories["pubmed"] / info.file).read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "shards").mkdir()
    (tmp_path / info.file).write_bytes(data)
    with pytest.raises(ValueError, match="is not the one that was mixed"):
        verify(tmp_path, info)
    verify(world.directories["pubmed"], info)
    assert file_sha256(world.directories["pubmed"] / info.file) == info.sha256


def test_another_file_is_no_shard(tmp_path: Path) -> None:
    (tmp_path / "text.arrow").write_text("hello")
    with pytest.raises(ValueError, match="not a readable Arrow IPC file"):
        Shard.open(tmp_path / "text.arrow")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        Shard.open(tmp_path / "none.arrow")
    with pa.OSFile(str(tmp_path / "other.arrow"), "wb") as sink, pa.ipc.new_file(sink, pa.schema([("x", pa.int8())])):
        pass
    with pytest.raises(ValueError, match="no `domainlm` metadata"):
        Shard.open(tmp_path / "other.arrow")


def test_a_stream_is_the_shards_end_to_end(world: World) -> None:
    corpus = world.mixture.corpora[1]
    stream = CorpusStream(corpus, world.directories["general"])
    everything = np.concatenate([shard.tokens for shard in stream.shards])
    assert stream.read(0, corpus.tokens).tolist() == everything.tolist()
    starts = np.flatnonzero(everything == HEADER.bos_id)
    assert stream.starts.tolist() == stream.document_starts(0, corpus.tokens).tolist() == starts.tolist()
    inside = starts[(starts >= 100) & (starts < 400)] - 100
    assert stream.document_starts(100, 300).tolist() == inside.tolist()
    pieces = list(stream.pieces(100, 300))
    assert sum(piece.tokens for piece in pieces) == 300
    assert [piece.start for piece in pieces[1:]] == (inside[inside > 0] + 100).tolist()


def test_a_header_knows_the_width_of_its_tokens() -> None:
    widths = [ShardHeader(size, "d", 0, 1).token_dtype.itemsize for size in (65_536, 65_537)]
    assert widths == [2, 4]
