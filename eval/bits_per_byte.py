"""Bits per byte of held-out text, and the compressors that a language model has to beat on the same text.

In: a directory of Parquet files with columns `doc_id` and `text`. Out: a `HeldOut`: bits of each document, and the
floors of zlib and lzma. Bits per byte compares models with different tokenizers; bits per token does not.

A document is read as [bos] + tokens, the bos given and not scored. One that is longer than the context is read in
windows; each but the first begins with a quarter of a context that was scored before, so no token is judged blind.
"""

import hashlib
import lzma
import math
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import pyarrow.compute as pc
from transformers import PreTrainedModel

from domainlm.eval.intervals import percentiles, resampled_ratios
from domainlm.eval.likelihood import Window, score_windows
from domainlm.eval.models import Encoder
from domainlm.eval.parquet import read_batches
from domainlm.eval.samples import DECIMALS, DocumentSample
from domainlm.eval.scores import Score, rounded
from domainlm.trainer.held_out_text import OVERLAP
from domainlm.trainer.held_out_text import windows as cut

DOCUMENTS_AT_ONCE = 64  # sorted by length together, so that padding is small and memory stays flat

Progress = Callable[[int, int], None]  # documents done, documents in all


@dataclass(frozen=True)
class Document:
    """One held-out text."""

    doc_id: str
    text: str


@dataclass(frozen=True)
class HeldOut:
    """What was measured on one source; `protocol` is the digest of the documents' ids and texts."""

    source: str
    protocol: str
    documents: tuple[DocumentSample, ...]
    unknown_tokens: int
    zlib_bytes: int
    lzma_bytes: int


def measure(
    model: PreTrainedModel,
    encoder: Encoder,
    source: str,
    directory: Path,
    *,
    max_bytes: int,
    context_tokens: int,
    batch_size: int,
    progress: Progress,
) -> HeldOut:
    """Bits of each chosen document of a source, streamed from disk."""
    chosen = frozenset(draw(source, directory, max_bytes))
    digest, deflate, xz = hashlib.sha256(), zlib.compressobj(9), lzma.LZMACompressor()
    samples: list[DocumentSample] = []
    zlib_bytes, lzma_bytes, unknown_tokens = 0, 0, 0
    for documents in _read(directory, chosen):
        tokens = encoder.encode([document.text for document in documents])
        unknown_tokens += sum(row.count(encoder.unknown_id) for row in tokens if encoder.unknown_id is not None)
        rows = [[encoder.prefix_id, *row] for row in tokens]
        samples += _samples(documents, tokens, _nats(model, rows, context_tokens, batch_size))
        for document in documents:
            digest.update(hashlib.sha256(f"{document.doc_id}\n{document.text}".encode()).digest())
            zlib_bytes += len(deflate.compress(document.text.encode()))
            lzma_bytes += len(xz.compress(document.text.encode()))
        progress(len(samples), len(chosen))
    zlib_bytes, lzma_bytes = zlib_bytes + len(deflate.flush()), lzma_bytes + len(xz.flush())
    return HeldOut(source, digest.hexdigest(), tuple(samples), unknown_tokens, zlib_bytes, lzma_bytes)


def score_held_out(held_out: HeldOut, *, vocab_size: int, context_tokens: int, seed: int) -> list[Score]:
    """Bits per byte with a bootstrap interval over documents, and the compression floors."""
    bits, sizes = [s.bits for s in held_out.documents], [float(s.bytes) for s in held_out.documents]
    num_documents, num_bytes = len(bits), sum(sizes)
    name = f"held_out/{held_out.source}"
    note = f"windows of {context_tokens} tokens, {context_tokens // OVERLAP} of them seen before"
    if held_out.unknown_tokens:
        note += f"; {held_out.unknown_tokens} tokens are unknown to the tokenizer, which flatters the model"
    uniform = math.log2(vocab_size) * sum(s.tokens for s in held_out.documents) / num_bytes
    interval = percentiles(resampled_ratios(bits, sizes, seed))
    value = sum(bits) / num_bytes
    floors = (("zlib", held_out.zlib_bytes, "zlib -9"), ("lzma", held_out.lzma_bytes, "xz -6"))
    return [
        rounded(name, "bits_per_byte", value, interval, num_documents, chance=uniform, note=note),
        *(
            rounded(name, f"{floor}_bits_per_byte", 8 * size / num_bytes, None, num_documents, note=f"{how}, same text")
            for floor, size, how in floors
        ),
    ]


def windows(tokens: Sequence[int], context_tokens: int) -> Iterator[Window]:
    """Cut a document, its bos first, as the trainer does: every later token is scored exactly once."""
    for window in cut(len(tokens), context_tokens):
        yield Window(tuple(tokens[window.start : window.end]), window.num_scored)


def draw(source: str, directory: Path, max_bytes: int) -> tuple[str, ...]:
    """Ids of the documents to measure, by sha256 until the text is enough: a draw that no order of files can sway."""
    files = sorted(directory.glob("*.parquet"))
    if not files:
        raise FileNotFoundError(f"held-out source {source}: no Parquet file in {directory}. Correct `held_out`.")
    sizes = [size for file in files for size in _sizes(file)]
    if not sizes:
        raise ValueError(f"held-out source {source}: {directory} holds no document. Hold more text out.")
    if len(dict(sizes)) < len(sizes):
        raise ValueError(f"held-out source {source}: {len(sizes) - len(dict(sizes))} doc_ids repeat in {directory}.")
    sizes.sort(key=lambda item: hashlib.sha256(item[0].encode()).digest())
    before = [0, *accumulate(size for _, size in sizes)]
    return tuple(doc_id for (doc_id, _), start in zip(sizes, before, strict=False) if start < max_bytes)


def _sizes(file: Path) -> Iterator[tuple[str, int]]:
    """Id and bytes of each document."""
    for batch in read_batches(file, ["doc_id", "text"]):
        yield from zip(batch["doc_id"].to_pylist(), pc.binary_length(batch["text"]).to_pylist(), strict=True)


def _read(directory: Path, chosen: frozenset[str]) -> Iterator[list[Document]]:
    """The chosen documents in the order of the files, some at a time."""
    waiting: list[Document] = []
    for file in sorted(directory.glob("*.parquet")):
        for batch in read_batches(file, ["doc_id", "text"], rows=DOCUMENTS_AT_ONCE):
            waiting += [Document(**row) for row in batch.to_pylist() if row["doc_id"] in chosen]
            while len(waiting) >= DOCUMENTS_AT_ONCE:
                yield waiting[:DOCUMENTS_AT_ONCE]
                waiting = waiting[DOCUMENTS_AT_ONCE:]
    if waiting:
        yield waiting


def _nats(model: PreTrainedModel, rows: Sequence[Sequence[int]], context_tokens: int, batch_size: int) -> list[float]:
    """Log-likelihood of each row after its first token; windows of equal length go together."""
    cut = [(n, window) for n, row in enumerate(rows) if len(row) > 1 for window in windows(row, context_tokens)]
    cut.sort(key=lambda item: (-len(item[1].tokens), item[0]))
    sums = [0.0] * len(rows)
    for start in range(0, len(cut), batch_size):
        batch = cut[start : start + batch_size]
        for (n, _), score in zip(batch, score_windows(model, [window for _, window in batch]), strict=True):
            sums[n] += score
    return sums


def _samples(
    documents: Sequence[Document], tokens: Sequence[Sequence[int]], nats: Sequence[float]
) -> Iterator[DocumentSample]:
    for document, row, score in zip(documents, tokens, nats, strict=True):
        if not math.isfinite(score):
            raise ValueError(
                f"held-out document {document.doc_id}: its log-likelihood is {score}. The model's weights or "
                "activations are not finite. Look at the training loss."
            )
        bits = round(-score / math.log(2), DECIMALS)
        yield DocumentSample(document.doc_id, bits, len(document.text.encode()), len(row))
