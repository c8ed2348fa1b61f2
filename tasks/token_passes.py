"""The two passes of `tokenize`, as its workers run them: encode a piece of the documents, gather a final shard.

Nothing here imports transformers, which brings torch: a worker would take longer to start than to encode its piece.
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

from domainlm.eval.parquet import read_batches
from domainlm.tasks.encoder import CannotServe, EncoderName, checked_slices, differing, load_encoder
from domainlm.tasks.token_columns import gather, hashes, joined, with_ends
from domainlm.trainer.shards import ShardColumns, ShardHeader, write_columns

log = logging.getLogger(__name__)

PIECES = 512  # of text; more are no faster, and each final shard has to look into every one
PIECE_BYTES = (8_000_000, 256_000_000)  # at least, so that a piece outlasts its start; at most, for memory
BATCH_DOCUMENTS = 256


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
            for batch in read_piece(self.pieces[rank]):
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


def read_piece(piece: Sequence[Rows]) -> Iterator[pa.RecordBatch]:
    """The documents of a piece, a few at a time."""
    columns = ["doc_id", "source", "license", "text"]
    for rows in piece:
        yield from read_batches(rows.path, columns, rows=BATCH_DOCUMENTS, row_groups=rows.groups)


def _rows(piece: Mapping[Path, Sequence[int]]) -> tuple[Rows, ...]:
    return tuple(Rows(path, tuple(groups)) for path, groups in piece.items())
