"""Train a tokenizer: byte-level BPE on a sample of the corpora, as a Hugging Face tokenizer directory.

In:  corpus.<source>   documents (Parquet), any number of corpora
Out: tokenizer/tokenizer.json, tokenizer_config.json, special_tokens_map.json

The sample is the documents with the lowest content digests, up to `max_bytes` of text: it depends on the documents
and not on their order or on their files. Two passes read it: one for digests and lengths (16 bytes a document are
kept), one that streams the chosen texts to the trainer.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from domainlm.eval.parquet import read_batches
from domainlm.tasks import progress
from domainlm.tasks.manifest import Books
from domainlm.tasks.runtime import Runtime
from domainlm.tasks.stage import Inputs, stage

BEGIN, END, PAD = "<|begin|>", "<|end|>", "<|pad|>"
NUM_BYTES = 256

# Words with the mark before them, digits one by one, runs of marks, and white space.
# Digits stand alone: "125 mg" and "25 mg" then share their digits, a dose is never a rare token, and the 1,100 numbers
# of up to three digits would be a quarter of a vocabulary of 4,096.
WORDS = r"[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"

MEASURED_BYTES = 2_000_000  # bytes per token is the same to 1 % beyond this


class TokenizerConfig(BaseModel):
    """A tokenizer of one's own: byte-level BPE."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="Tokenizer")

    vocab_size: int = Field(
        4096,
        ge=NUM_BYTES + 3,
        le=2**20,
        title="Vocabulary",
        description="Entries, with 256 bytes and 3 special tokens; 65,536 at most for tokens of two bytes.",
    )
    max_bytes: int = Field(
        50_000_000, ge=1, title="Sample", description="Bytes of text to train on, from all corpora together."
    )
    min_frequency: int = Field(
        2, ge=1, title="Least frequency", description="How often a pair must occur in the sample to become a token."
    )


@dataclass(frozen=True)
class Sample:
    """The documents of `files` whose content digest is at most `last` (16 hex digits)."""

    files: tuple[Path, ...]
    last: bytes
    documents: int
    bytes: int

    def texts(self) -> Iterator[str]:
        """Their texts, one row group in memory at a time."""
        for path in self.files:
            for batch in read_batches(path, ["content_sha256", "text"]):
                chosen = pc.less_equal(pc.utf8_slice_codeunits(batch["content_sha256"], 0, 16), self.last.decode())
                yield from batch["text"].filter(chosen).to_pylist()


@stage(version=1, disk_factor=0.0)
def train_tokenizer(config: TokenizerConfig, inputs: Inputs, out: Path, runtime: Runtime) -> Books:
    """Sample, train, write, measure."""
    files = tuple(path for name in sorted(inputs) for path in inputs[name].paths())
    sample = choose_sample(files, config.max_bytes)
    tokenizer = train_bpe(reported(sample), config)
    write_tokenizer(tokenizer, out / "tokenizer")
    entered = {name: sum(pq.read_metadata(path).num_rows for path in part.paths()) for name, part in inputs.items()}
    return Books(
        entered=entered,
        fates={"sampled": sample.documents, "not_sampled": sum(entered.values()) - sample.documents},
        counts={
            "vocab_size": tokenizer.get_vocab_size(),
            "sample_bytes": sample.bytes,
            "bytes_per_token": round(bytes_per_token(tokenizer, choose_sample(files, MEASURED_BYTES)), 4),
        },
    )


def choose_sample(files: tuple[Path, ...], max_bytes: int) -> Sample:
    """The documents with the lowest digests whose texts come to at most `max_bytes`, and one at least."""
    columns = [_digests_and_lengths(path) for path in files]
    digests = np.concatenate([digest for digest, _ in columns]) if columns else np.array([], "S16")
    if not len(digests):
        raise ValueError(
            "no document to train a tokenizer on: every corpus is empty. Look at what the filters dropped."
        )
    order = np.argsort(digests, kind="stable")
    lengths = np.concatenate([length for _, length in columns])[order].cumsum()
    count = max(1, int(np.searchsorted(lengths, max_bytes, side="right")))
    last = digests[order[count - 1]]
    count = int(np.searchsorted(digests[order], last, side="right"))  # twins by content are in or out together
    return Sample(files, bytes(last), count, int(lengths[count - 1]))


def train_bpe(texts: Iterable[str], config: TokenizerConfig) -> Tokenizer:
    """A byte-level BPE tokenizer that begins a text with `<|begin|>` unless told otherwise, as documents begin."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=config.vocab_size,
        min_frequency=config.min_frequency,
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in (BEGIN, END, PAD)],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    begin = (BEGIN, tokenizer.token_to_id(BEGIN))
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BEGIN} $A", pair=f"{BEGIN} $A $B", special_tokens=[begin]
    )
    return tokenizer


def write_tokenizer(tokenizer: Tokenizer, directory: Path) -> None:
    """Write it so that `PreTrainedTokenizerFast.from_pretrained` and `AutoTokenizer.from_pretrained` load it."""
    directory.mkdir(parents=True)
    tokenizer.save(str(directory / "tokenizer.json"))
    special = {"bos_token": BEGIN, "eos_token": END, "pad_token": PAD}
    _write_json(directory / "special_tokens_map.json", special)
    _write_json(
        directory / "tokenizer_config.json",
        {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False, **special},
    )


def bytes_per_token(tokenizer: Tokenizer, sample: Sample) -> float:
    """UTF-8 bytes of the sample for each token of its texts."""
    return sample.bytes / sum(len(tokenizer.encode(text, add_special_tokens=False).ids) for text in sample.texts())


def _digests_and_lengths(
    path: Path,
) -> tuple["np.ndarray[tuple[int], np.dtype[np.bytes_]]", "np.ndarray[tuple[int], np.dtype[np.int64]]"]:
    digests, lengths = [np.array([], "S16")], [np.array([], np.int64)]
    for batch in read_batches(path, ["content_sha256", "text"]):
        digests.append(np.array(pc.utf8_slice_codeunits(batch["content_sha256"], 0, 16).to_pylist(), "S16"))
        lengths.append(pc.binary_length(batch["text"]).to_numpy().astype(np.int64))
    return np.concatenate(digests), np.concatenate(lengths)


def reported(sample: Sample) -> Iterator[str]:
    """The texts of a sample, with the progress told on the way."""
    done = 0
    for text in sample.texts():
        done += len(text.encode())
        progress.report(done, sample.bytes, "bytes")
        yield text


def _write_json(path: Path, value: Mapping[str, object]) -> None:
    path.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n")
