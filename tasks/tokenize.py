"""Tokenize a corpus into shards: every document as [bos] + tokens of its text + [eos], in a deterministic shuffle.

In:  documents   Parquet files of documents
     tokenizer   files of a Hugging Face tokenizer directory
Out: shards/00000.arrow ...   token shards (`domainlm.trainer.shards`) of about `shard_tokens` tokens each
     tokens.json              what the shards are: `TokenizedCorpus`
Counts: tokens (also by licence, `tokens.<licence>`), text_bytes, bytes_per_token.

Pass 1 encodes each document file into an unshuffled shard; pass 2 gathers the documents into the final shards by memory
map, in the order of a keyed hash of their ids. So the order is that of the documents and not of their files, a rank
holds one shard in memory, and the driver 16 bytes a document.
"""

import dataclasses
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field
from tokenizers import Tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from domainlm.tasks.document_shards import EmptyCorpus, run_shards
from domainlm.tasks.engine import MARKS, clear_marks
from domainlm.tasks.manifest import Books
from domainlm.tasks.runtime import Runtime
from domainlm.tasks.stage import Inputs, stage
from domainlm.trainer import strict
from domainlm.trainer.mixture import ShardInfo
from domainlm.trainer.shards import MAX_SHARD_TOKENS, Shard, ShardHeader, TokenDocument, file_sha256, write_shard

BATCH_DOCUMENTS = 256
INDEX = "tokens.json"


class TokenizeConfig(BaseModel):
    """How documents become token shards."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="Tokenize")

    shard_tokens: int = Field(
        100_000_000,
        ge=1_000,
        le=MAX_SHARD_TOKENS // 2,
        title="Shard size",
        description="About so many tokens in each token shard; a rank holds one shard in memory.",
    )
    shuffle_seed: int = Field(0, ge=0, title="Shuffle seed", description="Key of the shuffle of the documents.")


@dataclass(frozen=True)
class TokenizedCorpus:
    """What a directory of token shards holds; `tokens.json` is this."""

    header: ShardHeader
    shards: tuple[ShardInfo, ...]


@dataclass(frozen=True)
class EncodeShard:
    """Pass 1: one document file into one unshuffled token shard; an empty file leaves none."""

    files: tuple[Path, ...]
    tokenizer: Path
    header: ShardHeader
    out: Path

    def __call__(self, rank: int) -> Mapping[str, int]:
        """Encode file number `rank`."""
        tokenizer = load_encoder(self.tokenizer)
        documents: list[TokenDocument] = []
        text_bytes = 0
        with _one_thread(), pq.ParquetFile(self.files[rank]) as file:
            for batch in file.iter_batches(BATCH_DOCUMENTS, columns=["doc_id", "source", "license", "text"]):
                documents += encode_batch(batch, tokenizer, self.header)
                text_bytes += pc.sum(pc.binary_length(batch["text"])).as_py()
        if documents:
            self.out.mkdir(parents=True, exist_ok=True)
            write_shard(self.out / f"{rank:05d}.arrow", documents, self.header)
        return {"documents": len(documents), "text_bytes": text_bytes}


@dataclass(frozen=True)
class GatherShard:
    """Pass 2: documents `bounds[rank]..bounds[rank + 1]` of the shuffle into one final shard."""

    encoded: tuple[Path, ...]
    plan: Path
    bounds: tuple[int, ...]
    header: ShardHeader
    out: Path
    infos: Path

    def __call__(self, rank: int) -> Mapping[str, int]:
        """Gather final shard number `rank`."""
        places = np.load(self.plan, mmap_mode="r")[self.bounds[rank] : self.bounds[rank + 1]]
        shards = [Shard.open(path) for path in self.encoded]
        documents = [shards[file].document(row) for file, row in places.tolist()]
        for directory in (self.out, self.infos):
            directory.mkdir(parents=True, exist_ok=True)
        info = write_shard(self.out / f"{rank:05d}.arrow", documents, self.header)
        (self.infos / f"{rank:05d}.json").write_text(json.dumps(dataclasses.asdict(info)))
        by_license = Counter[str]()
        for document in documents:
            by_license[f"tokens.{document.license}"] += len(document.tokens)
        return {"shards": info.documents, "tokens": info.tokens, **by_license}


@stage(version=1, disk_factor=4.0, resumes=True)
def tokenize(config: TokenizeConfig, inputs: Inputs, out: Path, runtime: Runtime) -> Books:
    """Encode by document file, then gather by final shard."""
    scratch = out / MARKS
    files = tuple(inputs["documents"].paths())
    directory = tokenizer_directory(inputs)
    header = read_header(directory)
    encode = EncodeShard(files, directory, header, scratch / "encoded")
    counts = run_shards(encode, len(files), out, runtime, name="encode")
    if not counts.get("documents"):
        raise EmptyCorpus("no document to tokenize: this corpus is empty. Look at what the filters dropped.")
    encoded = tuple(sorted((scratch / "encoded").glob("*.arrow")))
    places, lengths = shuffle(encoded, config.shuffle_seed)
    np.save(scratch / "plan.npy", places)
    bounds = shard_bounds(lengths, config.shard_tokens)
    gather = GatherShard(encoded, scratch / "plan.npy", bounds, header, out / "shards", scratch / "infos")
    gathered = run_shards(gather, len(bounds) - 1, out, runtime, name="gather")
    infos = (strict.load(ShardInfo, path) for path in sorted((scratch / "infos").glob("*.json")))
    save_index(TokenizedCorpus(header, tuple(infos)), out / INDEX)
    clear_marks(out)
    return Books(
        entered={"documents": counts["documents"]},
        fates={"shards": gathered["shards"]},
        counts={
            "tokens": gathered["tokens"],
            "text_bytes": counts["text_bytes"],
            "bytes_per_token": round(counts["text_bytes"] / gathered["tokens"], 4),
            **{name: count for name, count in gathered.items() if name.startswith("tokens.")},
        },
    )


def encode_batch(batch: pa.RecordBatch, tokenizer: Tokenizer, header: ShardHeader) -> Iterator[TokenDocument]:
    """[bos] + tokens + [eos] of each document. Text that spells a special token is encoded as the text it is."""
    names = (batch[name].to_pylist() for name in ("doc_id", "source", "license"))
    encodings = tokenizer.encode_batch_fast(batch["text"].to_pylist(), add_special_tokens=False)
    for doc_id, source, license_, encoding in zip(*names, encodings, strict=True):
        ids = np.array([header.bos_id, *encoding.ids, header.eos_id], np.uint32)
        tokens = ids.astype(np.uint16) if header.token_dtype == np.uint16 else ids
        yield TokenDocument(doc_id, source, license_, tokens)


def shuffle(encoded: tuple[Path, ...], seed: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Places (file, row) and lengths of all documents, in the order of a hash of their ids keyed by `seed`."""
    key = seed.to_bytes(16, "little")
    hashes, places, lengths = [], [], []
    for number, path in enumerate(encoded):
        shard = Shard.open(path)
        ids = (blake2b(doc_id.encode(), digest_size=8, key=key).digest() for doc_id in shard.doc_ids.to_pylist())
        hashes.append(np.frombuffer(b"".join(ids), ">u8"))
        places.append(np.stack([np.full(shard.num_documents, number), np.arange(shard.num_documents)], axis=1))
        lengths.append(np.diff(shard.offsets).astype(np.int64))
    order = np.argsort(np.concatenate(hashes), kind="stable")
    return np.concatenate(places)[order].astype(np.int32), np.concatenate(lengths)[order]


def shard_bounds(lengths: npt.NDArray[np.int64], shard_tokens: int) -> tuple[int, ...]:
    """Where to cut the shuffled documents into shards of even size, `shard_tokens` or a little less or more."""
    ends = lengths.cumsum()
    num_shards = max(1, round(int(ends[-1]) / shard_tokens))
    targets = ends[-1] * np.arange(1, num_shards) // num_shards
    cuts = np.searchsorted(ends, targets, side="left") + 1
    return (0, *(int(cut) for cut in np.unique(cuts) if cut < len(lengths)), len(lengths))


def tokenizer_directory(inputs: Inputs) -> Path:
    """The directory that the files of the input `tokenizer` lie in."""
    for path in inputs["tokenizer"].paths():
        if path.name == "tokenizer.json":
            return path.parent
    raise FileNotFoundError(
        f"{inputs['tokenizer'].origin} has no tokenizer.json but {', '.join(inputs['tokenizer'].files)}; "
        "give a Hugging Face directory with a fast tokenizer."
    )


def read_header(directory: Path) -> ShardHeader:
    """What the tokens of a tokenizer mean. Without a bos token its eos token also begins a document, as in GPT-2."""
    tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise ValueError(f"{directory} has a {type(tokenizer).__name__}; a fast tokenizer (tokenizer.json) is needed.")
    eos_id = tokenizer.eos_token_id
    if eos_id is None:
        raise ValueError(f"{directory} names no eos_token, and every document ends with one; add it to its config.")
    return ShardHeader(
        vocab_size=max(tokenizer.get_vocab().values()) + 1,
        tokenizer_digest=file_sha256(directory / "tokenizer.json"),
        bos_id=eos_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id,
        eos_id=eos_id,
    )


def load_encoder(directory: Path) -> Tokenizer:
    """The tokenizer, for text in which special tokens have no meaning."""
    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    tokenizer.encode_special_tokens = True
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def save_index(corpus: TokenizedCorpus, path: Path) -> None:
    """Write `tokens.json`."""
    path.write_text(json.dumps(dataclasses.asdict(corpus), indent=1, sort_keys=True) + "\n")


def load_index(path: Path) -> TokenizedCorpus:
    """Read `tokens.json`."""
    return strict.load(TokenizedCorpus, path)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Keep `tokenizers` from starting a thread a core in each of our workers, which are as many as wanted."""
    name = "TOKENIZERS_PARALLELISM"
    before = os.environ.get(name)
    os.environ[name] = "false"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
