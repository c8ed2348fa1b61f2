"""Token shards: tokenised documents in Arrow IPC files, memory-mapped and read without a copy.

One file is one uncompressed record batch, one row a document, columns in this order:

    doc_id: string   source: string   license: string   tokens: list<uint16> (vocabulary <= 65,536) or list<uint32>

The values buffer of `tokens` is the token stream, its offsets are the document boundaries. The schema's metadata holds
`ShardHeader` as JSON under the key `domainlm`. A document is stored as [bos] + tokens of its text + [eos].
"""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from . import strict
from .mixture import ShardInfo

Tokens = npt.NDArray[np.uint16] | npt.NDArray[np.uint32]

METADATA_KEY = b"domainlm"
MAX_SHARD_TOKENS = 2**31 - 1  # offsets of an Arrow list are int32


@dataclass(frozen=True)
class ShardHeader:
    """What the tokens of a shard mean."""

    vocab_size: int
    tokenizer_digest: str
    bos_id: int
    eos_id: int

    @property
    def token_dtype(self) -> np.dtype[np.uint16] | np.dtype[np.uint32]:
        """Two bytes a token while the vocabulary allows it."""
        return np.dtype(np.uint16) if self.vocab_size <= 65_536 else np.dtype(np.uint32)


@dataclass(frozen=True)
class TokenDocument:
    """One tokenised document; `tokens` begin with bos and end with eos."""

    doc_id: str
    source: str
    license: str
    tokens: Tokens


@dataclass(frozen=True)
class ShardColumns:
    """Tokenised documents as columns: document i is `tokens[offsets[i]:offsets[i + 1]]`."""

    doc_ids: pa.StringArray
    sources: pa.StringArray
    licenses: pa.StringArray
    offsets: npt.NDArray[np.int64]
    tokens: Tokens


@dataclass(frozen=True)
class Shard:
    """An open, memory-mapped shard."""

    path: Path
    header: ShardHeader
    tokens: Tokens
    """The token stream of all documents, one after the other."""
    offsets: npt.NDArray[np.int32]
    """Document i is `tokens[offsets[i]:offsets[i + 1]]`."""
    doc_ids: pa.StringArray
    sources: pa.StringArray
    licenses: pa.StringArray

    @property
    def num_documents(self) -> int:
        """Rows of the file."""
        return len(self.doc_ids)

    @classmethod
    def open(cls, path: Path) -> "Shard":
        """Map `path` into memory.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is not a token shard; the message says what is wrong.
        """
        if not path.is_file():
            raise FileNotFoundError(f"token shard {path} does not exist; correct `corpora` in train.json.")
        try:
            reader = pa.ipc.open_file(pa.memory_map(str(path)))
            header = _read_header(path, reader.schema)
            _check_layout(path, reader.schema, reader.num_record_batches, header)
            batch = reader.get_batch(0)
        except pa.ArrowInvalid as error:
            raise ValueError(f"{path} is not a readable Arrow IPC file ({error}); run tokenize again.") from error
        column = batch.column("tokens")
        offsets = np.frombuffer(column.buffers()[1], dtype=np.int32)[column.offset : column.offset + len(column) + 1]
        tokens = column.values.to_numpy(zero_copy_only=True)
        names = (batch.column(name) for name in ("doc_id", "source", "license"))
        return cls(path, header, tokens, offsets, *names)

    def document(self, row: int) -> TokenDocument:
        """The document in `row`; its tokens are a view."""
        tokens = self.tokens[self.offsets[row] : self.offsets[row + 1]]
        return TokenDocument(self.doc_ids[row].as_py(), self.sources[row].as_py(), self.licenses[row].as_py(), tokens)


def write_shard(path: Path, documents: Sequence[TokenDocument], header: ShardHeader) -> ShardInfo:
    """Write `documents` to `path`, and return its size and digest; `file` is `shards/<name>`.

    Raises:
        ValueError: a document is not [bos] ... [eos], holds a token outside the vocabulary, or all are too many.
    """
    return write_columns(path, columns_of(documents, header), header)


def columns_of(documents: Sequence[TokenDocument], header: ShardHeader) -> ShardColumns:
    """The documents as the columns of a shard."""
    lengths = [len(document.tokens) for document in documents]
    return ShardColumns(
        doc_ids=pa.array([document.doc_id for document in documents], pa.string()),
        sources=pa.array([document.source for document in documents], pa.string()),
        licenses=pa.array([document.license for document in documents], pa.string()),
        offsets=np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]),
        tokens=np.concatenate([np.zeros(0, header.token_dtype), *(document.tokens for document in documents)]),
    )


def write_columns(path: Path, columns: ShardColumns, header: ShardHeader) -> ShardInfo:
    """As `write_shard`, from whole columns."""
    _check_columns(path, columns, header)
    arrays = [
        columns.doc_ids,
        columns.sources,
        columns.licenses,
        pa.ListArray.from_arrays(
            pa.array(columns.offsets.astype(np.int32)), pa.array(columns.tokens.astype(header.token_dtype, copy=False))
        ),
    ]
    schema = _schema(header)
    partial = path.with_suffix(".partial")
    with pa.OSFile(str(partial), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        writer.write_batch(pa.record_batch(arrays, schema=schema))
    partial.replace(path)
    return ShardInfo(f"shards/{path.name}", int(columns.offsets[-1]), len(columns.doc_ids), file_sha256(path))


def file_sha256(path: Path) -> str:
    """sha256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify(directory: Path, info: ShardInfo) -> None:
    """Check a shard's file against its digest.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: its bytes are others than those that were sealed.
    """
    path = directory / info.file
    if not path.is_file():
        raise FileNotFoundError(
            f"token shard {path} is missing, but the mixture needs it; build tokenize again, or correct "
            f"`corpora` in train.json."
        )
    found = file_sha256(path)
    if found != info.sha256:
        raise ValueError(
            f"token shard {path} is not the one that was mixed: sha256 {found[:16]}..., but the mixture says "
            f"{info.sha256[:16]}... ({path.stat().st_size:,} bytes). Delete its directory and build tokenize again."
        )


def _schema(header: ShardHeader) -> pa.Schema:
    fields = [pa.field(name, pa.string(), nullable=False) for name in ("doc_id", "source", "license")]
    item = pa.field("item", pa.from_numpy_dtype(header.token_dtype), nullable=True)
    fields.append(pa.field("tokens", pa.list_(item), nullable=False))
    text = json.dumps(dataclasses.asdict(header), sort_keys=True)
    return pa.schema(fields, metadata={METADATA_KEY: text.encode()})


def _read_header(path: Path, schema: pa.Schema) -> ShardHeader:
    text = (schema.metadata or {}).get(METADATA_KEY)
    if text is None:
        raise ValueError(f"{path} has no `domainlm` metadata, so it is not a token shard; give a tokenize directory.")
    return strict.parse(ShardHeader, json.loads(text), "domainlm")


def _check_layout(path: Path, schema: pa.Schema, num_batches: int, header: ShardHeader) -> None:
    wanted = _schema(header)
    if not schema.equals(wanted) or num_batches != 1:
        raise ValueError(
            f"{path} has {num_batches} record batches of ({', '.join(f'{f.name}: {f.type}' for f in schema)}), but a "
            f"token shard is one batch of ({', '.join(f'{f.name}: {f.type}' for f in wanted)}); run tokenize again."
        )


def _check_columns(path: Path, columns: ShardColumns, header: ShardHeader) -> None:
    if not len(columns.doc_ids):
        raise ValueError(f"no documents for {path}; a shard holds at least one.")
    if columns.offsets[-1] > MAX_SHARD_TOKENS:
        raise ValueError(
            f"{columns.offsets[-1]:,} tokens for {path}; a shard holds {MAX_SHARD_TOKENS:,} at most: split it."
        )
    begins, ends, tokens = columns.offsets[:-1], columns.offsets[1:], columns.tokens
    wrong = ends - begins < 2
    if not wrong.any():
        wrong = (tokens[begins] != header.bos_id) | (tokens[ends - 1] != header.eos_id)
    if wrong.any():
        row = int(wrong.argmax())
        raise ValueError(
            f"document {columns.doc_ids[row]} has tokens {tokens[begins[row] : ends[row]][:3]}..., but must begin with "
            f"bos {header.bos_id} and end with eos {header.eos_id}; add them when tokenising."
        )
    if int(tokens.max()) >= header.vocab_size:
        row = int(np.searchsorted(ends, int(tokens.argmax()), side="right"))
        raise ValueError(
            f"document {columns.doc_ids[row]} holds token {int(tokens.max())}, but the vocabulary has "
            f"{header.vocab_size:,} entries; tokenise with the tokenizer that the header names."
        )
