"""The loader: tokens a second, and the jump to any step: `python -m bench.loader [--json] [--gigabytes 1]`.

One corpus of random documents (1 GB by default, in shards of 64 MiB) is written, and read in steps of 64 sequences of
2,048 tokens by one thread, in shuffled order, with position ids, document masks and digests. A jump is from nothing
open to the tensors of a step somewhere in the middle. 1 TB is done by arithmetic: a mixture of that size, of which a
jump is timed up to the shard, the first token and the length of each sequence; no shard has to be read to know them.

Against it, in the same run: Hugging Face `datasets` on the same tokens, already cut into rows of 2,048, memory-mapped,
as an `IterableDataset` with batches of 64 in numpy, and `skip` for the jump, which is how a stream is resumed there; a
collator of a few vectorised lines makes the same tensors of it (ids, targets, position ids that restart at each
document). It neither shuffles nor digests. `same_result`: both make the same tensors of the first windows, but for the
last target of each, which is not in its row. Files are in the page cache.
"""

import argparse
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import torch

from trainer.ledger import open_streams
from trainer.loader import MASKED, Loader
from trainer.mixture import CorpusTokens, Mixture, ShardInfo
from trainer.sampler import Location, Sampler, spans
from trainer.shards import ShardHeader, TokenDocument, write_shard

SEQUENCE, BATCH_SEQUENCES, VOCABULARY = 2048, 64, 32_768
BATCH = SEQUENCE * BATCH_SEQUENCES
HEADER = ShardHeader(VOCABULARY, "b" * 64, 0, 1)
SHARD_TOKENS = 2**25
TIMED_STEPS = 60
JUMPS = 15
TERABYTE = 10**12


def main() -> None:
    """Measure, and print a line for people or an object for programs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--gigabytes", type=float, default=1.0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    folder = Path(tempfile.mkdtemp(prefix="loader-"))
    try:
        result = measure(folder, int(arguments.gigabytes * 10**9))
    finally:
        shutil.rmtree(folder)
    print(f"{result['bytes']:,} bytes, ours and that of datasets {result['datasets']}:")
    print(f"  {result['tokens_per_second']:,.0f} and {result['their_tokens_per_second']:,.0f} tokens/s")
    print(f"  jump in {result['jump_seconds'] * 1e3:.1f} and {result['their_jump_seconds'] * 1e3:.1f} ms")
    print(f"  jump in 1 TB, by arithmetic: {result['terabyte_jump_seconds'] * 1e3:.2f} ms")
    if arguments.json:
        print(json.dumps(result))


def measure(folder: Path, num_bytes: int) -> dict[str, object]:
    """Write the corpus twice, once for each, and time both."""
    corpus = write_corpus(folder / "corpus", num_bytes)
    mixture = mixture_of(corpus)
    places = {"all": folder / "corpus"}
    rows = write_rows(folder / "rows.arrow", mixture, places)
    loader = open_loader(mixture, places)
    steps = np.random.default_rng(0).integers(mixture.num_steps, size=TIMED_STEPS + JUMPS).tolist()
    ours = BATCH / median_s([lambda step=step: loader.batch(step) for step in steps[:TIMED_STEPS]])
    jump_s = median_s([lambda step=step: open_loader(mixture, places).batch(step) for step in steps[TIMED_STEPS:]])
    stream = map(collate, open_rows(rows).iter(batch_size=BATCH_SEQUENCES))
    theirs = BATCH / median_s([lambda: next(stream) for _ in range(min(TIMED_STEPS, mixture.num_steps - 1))])
    their_jump_s = median_s([lambda step=step: jump(rows, step) for step in steps[-5:]])
    large = mixture_of(imagined_corpus(TERABYTE))
    return {
        "tokens_per_second": ours,
        "jump_seconds": jump_s,
        "terabyte_jump_seconds": median_s(
            [lambda step=step: locate(large, step) for step in range(0, large.num_steps, large.num_steps // JUMPS)]
        ),
        "their_tokens_per_second": theirs,
        "their_jump_seconds": their_jump_s,
        "bytes": num_bytes,
        "ours": ours,
        "theirs": theirs,
        "ratio": ours / theirs,
        "unit": "tokens/s, one thread",
        "same_result": same_tensors(rows, loader),
        "datasets": datasets.__version__,
    }


def write_corpus(directory: Path, num_bytes: int) -> CorpusTokens:
    """Shards of random documents, of the lengths that abstracts and articles have."""
    random = np.random.default_rng(1)
    (directory / "shards").mkdir(parents=True)
    infos: list[ShardInfo] = []
    left = num_bytes // 2
    while left > 2 * BATCH:
        size = min(SHARD_TOKENS, left)
        tokens = random.integers(2, VOCABULARY, size=size, dtype=np.uint16)
        cuts = np.cumsum(random.geometric(1 / 1200, size=size // 600) + 8)
        ends = [*cuts[cuts < size - 8].tolist(), size]
        documents, begin = [], 0
        for number, end in enumerate(ends):
            tokens[begin], tokens[end - 1] = 0, 1
            documents.append(TokenDocument(f"{len(infos)}/{number}", "all", "CC0-1.0", tokens[begin:end]))
            begin = end
        infos.append(write_shard(directory / f"shards/{len(infos):05d}.arrow", documents, HEADER))
        left -= size
    return corpus_of(infos)


def imagined_corpus(num_bytes: int) -> CorpusTokens:
    """As many shards as that, of which there is nothing but the sizes."""
    tokens = 2**31 - 1
    return corpus_of(
        [ShardInfo(f"shards/{n:05d}.arrow", tokens, tokens // 1200, "") for n in range(num_bytes // 2 // tokens)]
    )


def corpus_of(infos: list[ShardInfo]) -> CorpusTokens:
    """The corpus of some shards."""
    counts = sum(info.tokens for info in infos), sum(info.documents for info in infos)
    return CorpusTokens("all", 1_000_000, *counts, tuple(infos))


def mixture_of(corpus: CorpusTokens) -> Mixture:
    """One epoch of a corpus."""
    return Mixture(0, SEQUENCE, BATCH, corpus.tokens // BATCH * BATCH, HEADER.tokenizer_digest, VOCABULARY, (corpus,))


def open_loader(mixture: Mixture, places: dict[str, Path]) -> Loader:
    """From closed files to a loader."""
    return Loader(Sampler(mixture), open_streams(mixture, places), rank=0, num_ranks=1)


def locate(mixture: Mixture, step: int) -> int:
    """Shards, first tokens and lengths of all sequences of a step, from nothing; returns how many pieces they are."""
    places = Sampler(mixture).locate_step(step)
    return sum(len(spans(mixture.corpora[p.corpus], p.window * SEQUENCE, SEQUENCE + 1)) for p in places)


def write_rows(path: Path, mixture: Mixture, places: dict[str, Path]) -> Path:
    """The same tokens in the order of the corpus as rows of one sequence, in the format of `datasets`."""
    stream = open_streams(mixture, places)[0]
    schema = pa.schema([("input_ids", pa.list_(pa.uint16()))])
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
        for start in range(0, mixture.num_steps * BATCH, BATCH):
            values = pa.array(stream.read(start, BATCH).astype(np.uint16))
            offsets = pa.array(np.arange(0, BATCH + 1, SEQUENCE, dtype=np.int32))
            writer.write_batch(pa.record_batch([pa.ListArray.from_arrays(offsets, values)], schema=schema))
    return path


def open_rows(path: Path) -> "datasets.IterableDataset":
    """From a closed file to a stream."""
    return datasets.Dataset.from_file(str(path)).with_format("numpy").to_iterable_dataset()


def jump(path: Path, step: int) -> object:
    """The batch of a step, from nothing open."""
    return collate(next(iter(open_rows(path).skip(step * BATCH_SEQUENCES).iter(batch_size=BATCH_SEQUENCES))))


def collate(batch: dict[str, list[np.ndarray]]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Ids, position ids and targets of a batch of rows."""
    ids = np.stack(batch["input_ids"]).astype(np.int64)
    begins = ids == HEADER.bos_id
    origin = np.maximum.accumulate(np.where(begins, np.arange(SEQUENCE), 0), axis=1)
    targets = np.full_like(ids, MASKED)
    targets[:, :-1] = np.where(begins[:, 1:], MASKED, ids[:, 1:])
    return torch.from_numpy(ids), torch.from_numpy(np.arange(SEQUENCE) - origin), torch.from_numpy(targets)


def same_tensors(path: Path, loader: Loader) -> bool:
    """Whether both make the same of the first windows."""
    ids, positions, targets = collate(next(open_rows(path).iter(batch_size=BATCH_SEQUENCES)))
    ours = [loader.sequence(Location(0, 0, window)) for window in range(BATCH_SEQUENCES)]
    our_ids, our_positions, our_targets = (torch.cat(parts) for parts in zip(*ours, strict=True))
    same_targets = torch.equal(targets[:, :-1], our_targets[:, :-1])
    return torch.equal(ids, our_ids) and torch.equal(positions, our_positions) and same_targets


def median_s(calls: list[Callable[[], object]]) -> float:
    """Median seconds of a call."""
    took_s = []
    for call in calls:
        began_s = time.perf_counter()
        call()
        took_s.append(time.perf_counter() - began_s)
    return statistics.median(took_s)


if __name__ == "__main__":
    main()
