"""Tokenize a corpus into shards: every document as [bos] + tokens of its text + [eos], in a deterministic shuffle.

In:  documents   Parquet files of documents
     tokenizer   files of a Hugging Face tokenizer directory
Out: shards/00000.arrow ...   token shards (`domainlm.trainer.shards`) of about `shard_tokens` tokens each
     tokens.json              what the shards are: `TokenizedCorpus`
Counts: tokens (also by licence, `tokens.<licence>`), text_bytes, bytes_per_token; which encoder made the ids
(`encoded_by.fastokens` or `encoded_by.tokenizers`, documents), how many slices of text were given to both
(`slices_compared`) and in how many they did not agree (`slices_differing`; `tokenizers` then encodes everything).

Pass 1 encodes pieces of text (8 to 256 MB) into unshuffled shards; pass 2 gathers the documents into the final shards
by memory map, in the order of a keyed hash of their ids. So the order is that of the documents and not of their files,
a rank holds one piece or one final shard in memory, and the driver 28 bytes a document.
"""

import dataclasses
import json
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from domainlm.tasks.document_shards import EmptyCorpus, run_shards
from domainlm.tasks.encoder import (
    CannotServe,
    EncoderName,
    checked_slices,
    choose_encoder,
    differing,
    load_encoder,
)
from domainlm.tasks.engine import MARKS, clear_marks
from domainlm.tasks.manifest import Books
from domainlm.tasks.runtime import Runtime
from domainlm.tasks.stage import Inputs, stage
from domainlm.tasks.token_columns import gather, hashes, joined, shard_bounds, shuffle, with_ends
from domainlm.trainer import strict
from domainlm.trainer.mixture import ShardInfo
from domainlm.trainer.shards import (
    MAX_SHARD_TOKENS,
    ShardColumns,
    ShardHeader,
    file_sha256,
    write_columns,
)

log = logging.getLogger(__name__)

PIECES = 512  # of text; more are no faster, and each final shard has to look into every one
PIECE_BYTES = (8_000_000, 256_000_000)  # at least, so that a piece outlasts its start; at most, for memory
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
class Rows:
    """Some row groups of one document file."""

    path: Path
    groups: tuple[int, ...]


@dataclass(frozen=True)
class EncodePiece:
    """Pass 1: one piece of the documents into one unshuffled token shard, with the key of each in the shuffle."""

    pieces: tuple[tuple[Rows, ...], ...]
    tokenizer: Path
    encoder: EncoderName
    header: ShardHeader
    shuffle_seed: int
    out: Path

    def __call__(self, rank: int) -> Mapping[str, int]:
        """Encode piece number `rank`; `failed` if the encoder could not."""
        encode, reference = load_encoder(self.encoder, self.tokenizer), load_encoder("tokenizers", self.tokenizer)
        counts = Counter[str](documents=0, text_bytes=0, slices_compared=0, slices_differing=0, failed=0)
        batches: list[ShardColumns] = []
        try:
            for batch in read_batches(self.pieces[rank]):
                texts, lengths = batch["text"].to_pylist(), pc.binary_length(batch["text"]).to_numpy().astype(np.int64)
                batches.append(with_ends(batch, encode(texts), self.header))
                if self.encoder != "tokenizers":
                    slices = checked_slices(texts, lengths, counts["text_bytes"])
                    counts["slices_compared"] += len(slices)
                    counts["slices_differing"] += differing(encode(slices), reference(slices))
                counts.update(documents=len(texts), text_bytes=int(lengths.sum()))
        except CannotServe as error:
            log.warning("%s", error)
            return {"failed": 1}
        self.out.mkdir(parents=True, exist_ok=True)
        columns = joined(batches)
        write_columns(self.out / f"{rank:05d}.arrow", columns, self.header)
        np.save(self.out / f"{rank:05d}.npy", hashes(columns.doc_ids, self.shuffle_seed))
        return counts


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
        columns = gather(self.encoded, places, self.header)
        for directory in (self.out, self.infos):
            directory.mkdir(parents=True, exist_ok=True)
        info = write_columns(self.out / f"{rank:05d}.arrow", columns, self.header)
        (self.infos / f"{rank:05d}.json").write_text(json.dumps(dataclasses.asdict(info)))
        lengths = pa.table({"license": columns.licenses, "tokens": np.diff(columns.offsets)})
        by_license = lengths.group_by("license").aggregate([("tokens", "sum")]).to_pylist()
        tokens = {f"tokens.{row['license']}": row["tokens_sum"] for row in by_license}
        return {"shards": info.documents, "tokens": info.tokens, **tokens}


@stage(version=1, disk_factor=4.0, resumes=True)
def tokenize(config: TokenizeConfig, inputs: Inputs, out: Path, runtime: Runtime) -> Books:
    """Encode by piece, then gather by final shard."""
    scratch = out / MARKS
    directory = tokenizer_directory(inputs)
    header = read_header(directory)
    pieces = cut_pieces(inputs["documents"].paths())
    if not pieces:
        raise EmptyCorpus("no document to tokenize: this corpus is empty. Look at what the filters dropped.")
    encoder = choose_encoder(directory)
    encode = EncodePiece(pieces, directory, encoder, header, config.shuffle_seed, scratch / encoder)
    counts = run_shards(encode, len(pieces), out, runtime, name=f"encode-{encoder}")
    if encoder != "tokenizers" and (counts.get("failed") or counts["slices_differing"]):
        log.warning("fastokens gave other ids than tokenizers, or none; tokenizers encodes this corpus.")
        differed, encoder = counts, "tokenizers"
        encode = dataclasses.replace(encode, encoder=encoder, out=scratch / encoder)
        counts = run_shards(encode, len(pieces), out, runtime, name=f"encode-{encoder}")
        counts |= {name: differed.get(name, 0) for name in ("slices_compared", "slices_differing")}
    encoded = tuple(sorted(encode.out.glob("*.arrow")))
    places = shuffle(encoded)
    np.save(scratch / "plan.npy", places)
    bounds = shard_bounds(places[:, 2], config.shard_tokens)
    last = GatherShard(encoded, scratch / "plan.npy", bounds, header, out / "shards", scratch / "infos")
    gathered = run_shards(last, len(bounds) - 1, out, runtime, name="gather")
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
            f"encoded_by.{encoder}": counts["documents"],
            **{name: counts[name] for name in ("slices_compared", "slices_differing")},
            **{name: count for name, count in gathered.items() if name.startswith("tokens.")},
        },
    )


def cut_pieces(files: Sequence[Path]) -> tuple[tuple[Rows, ...], ...]:
    """Row groups of the files in order, in pieces of even size; follows from the files alone."""
    groups = [
        (path, number, group.total_byte_size)
        for path, metadata in ((path, pq.read_metadata(path)) for path in files)
        for number, group in enumerate(map(metadata.row_group, range(metadata.num_row_groups)))
        if group.num_rows
    ]
    piece_bytes = min(max(PIECE_BYTES[0], sum(size for *_, size in groups) // PIECES), PIECE_BYTES[1])
    pieces: list[tuple[Rows, ...]] = []
    piece: dict[Path, list[int]] = {}
    piece_size = 0
    for path, number, size in groups:
        piece.setdefault(path, []).append(number)
        piece_size += size
        if piece_size >= piece_bytes:
            pieces.append(_rows(piece))
            piece, piece_size = {}, 0
    return (*pieces, _rows(piece)) if piece else tuple(pieces)


def read_batches(piece: Sequence[Rows]) -> Iterator[pa.RecordBatch]:
    """The documents of a piece, a few at a time."""
    for rows in piece:
        with pq.ParquetFile(rows.path) as file:
            columns = ["doc_id", "source", "license", "text"]
            yield from file.iter_batches(BATCH_DOCUMENTS, row_groups=rows.groups, columns=columns)


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


def save_index(corpus: TokenizedCorpus, path: Path) -> None:
    """Write `tokens.json`."""
    path.write_text(json.dumps(dataclasses.asdict(corpus), indent=1, sort_keys=True) + "\n")


def load_index(path: Path) -> TokenizedCorpus:
    """Read `tokens.json`."""
    return strict.load(TokenizedCorpus, path)


def _rows(piece: Mapping[Path, Sequence[int]]) -> tuple[Rows, ...]:
    return tuple(Rows(path, tuple(groups)) for path, groups in piece.items())
