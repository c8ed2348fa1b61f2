"""Extend a tokenizer: the domain's most useful words as new tokens, for weights that training continues from.

In:  tokenizer           files of a Hugging Face directory with a byte-level BPE tokenizer (the first weights')
     corpus.<source>     documents that the new tokens are for, any number of sources
     held_out.<source>   documents held out of any source: the new tokenizer is measured and checked on them
Out: tokenizer/          tokenizer.json and its configs; extension.json, by which the trainer makes the first weights
     new_tokens.jsonl    a line a token: id, text, the old tokens it stands for, its count in the sample
Counts: new_tokens, least_count, and for the sample and each held-out corpus `tokens_before.*` and `tokens_after.*`.

Old tokens keep their ids. It is checked on every text read here that the new tokens, replaced by what they stand for,
are the old ones: so no text ever takes more tokens than before, and nothing is decoded otherwise.
"""

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field
from tokenizers import Tokenizer

from domainlm.eval.parquet import read_batches
from domainlm.tasks.check_extension import check_counts, check_ids, measure, open_extended
from domainlm.tasks.encoder import PROBES
from domainlm.tasks.manifest import Books
from domainlm.tasks.new_tokens import Pieces, choose_words, count_words, takes_words_whole, with_words
from domainlm.tasks.runtime import Runtime
from domainlm.tasks.stage import Inputs, stage
from domainlm.tasks.tokenize import tokenizer_directory
from domainlm.tasks.train_tokenizer import Sample, choose_sample, reported
from domainlm.trainer.extension import FILE, Extension
from domainlm.trainer.files import TOKENIZER_FILES
from domainlm.trainer.shards import file_sha256

CORPUS, HELD_OUT = "corpus.", "held_out."
VOCAB_MULTIPLE = 64  # matrix products of other sizes are slower on GPUs; rows to fill up would never be trained
OTHER_FORMS = ("vocab.json", "merges.txt", "tokenizer.model")  # of the old vocabulary


class ExtendTokenizerConfig(BaseModel):
    """New tokens for the tokenizer of the first weights."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="Extend the tokenizer")

    new_tokens: int = Field(
        ge=1,
        le=2**18,
        title="New tokens",
        description="So many at most; fewer where that makes the vocabulary a multiple of 64 entries.",
    )
    sources: tuple[str, ...] = Field(
        min_length=1, title="Sources", description="Names of the mixture's sources whose text the new tokens are for."
    )
    min_count: int = Field(
        100,
        ge=1,
        title="Least count",
        description="How often each new token occurs in that text at least.",
    )
    max_bytes: int = Field(
        50_000_000, ge=1, title="Sample", description="Bytes of text to learn from, from all its sources together."
    )


@stage(version=1, disk_factor=0.0)
def extend_tokenizer(config: ExtendTokenizerConfig, inputs: Inputs, out: Path, runtime: Runtime) -> Books:
    """Sample, learn, write, and check the written tokenizer on all that was read and on all that was held out."""
    directory = tokenizer_directory(inputs)
    parts = {name: inputs[name] for name in sorted(inputs) if name.startswith(CORPUS)}
    sample = choose_sample(tuple(path for part in parts.values() for path in part.paths()), config.max_bytes)
    base = read_byte_level_bpe(directory)
    words = find_words(base, sample, config)
    write_extended(directory, base, words, out / "tokenizer")
    extended = open_extended(directory, out / "tokenizer")
    rows = new_tokens(out / "tokenizer", extended.extension)
    check_ids(directory, out / "tokenizer", [str(row["text"]) for row in rows])
    spelled = [token["content"] for token in base.get("added_tokens") or []]  # text, and no special token
    measure(extended, [*PROBES, *spelled], "the probes")
    measured = measure(extended, sample.texts(), "the sample")
    least = check_counts(measured, config.min_count)
    lines = [
        json.dumps(row | {"count": n}, ensure_ascii=False)
        for row, n in zip(rows, measured.counts.tolist(), strict=True)
    ]
    (out / "new_tokens.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    held_out = {
        name.removeprefix(HELD_OUT): measure(extended, _texts(inputs[name].paths()), name)
        for name in sorted(inputs)
        if name.startswith(HELD_OUT)
    }
    entered = {name: sum(pq.read_metadata(path).num_rows for path in part.paths()) for name, part in parts.items()}
    counts = {"vocab_size": extended.extension.num_entries, "new_tokens": len(extended.extension.pieces)}
    counts |= {"sample_bytes": sample.bytes, "least_count": least}
    for name, one in {"sample": measured, **held_out}.items():
        counts |= {f"tokens_before.{name}": one.before, f"tokens_after.{name}": one.after}
    return Books(
        entered=entered,
        fates={"sampled": sample.documents, "not_sampled": sum(entered.values()) - sample.documents},
        counts=counts,
    )


def read_byte_level_bpe(directory: Path) -> dict[str, Any]:
    """The `tokenizer.json` of a directory, if words can be added to it; else ValueError."""
    raw: dict[str, Any] = json.loads((directory / "tokenizer.json").read_text(encoding="utf-8"))
    model, decoder = raw["model"], raw.get("decoder") or {}
    steps = [decoder, *decoder.get("decoders", [])]
    wrong = [name for name in ("dropout", "continuing_subword_prefix", "end_of_word_suffix") if model.get(name)]
    if model.get("type") != "BPE" or not any(step.get("type") == "ByteLevel" for step in steps) or wrong:
        raise ValueError(
            f"{directory} has a {model.get('type')} tokenizer with {', '.join(wrong) or 'no ByteLevel decoder'}; "
            "only byte-level BPE (as of Llama 3, Qwen, OLMo, SmolLM, GPT-2) is never worse when extended. "
            "Leave `extend_tokenizer` out, or continue from another model."
        )
    return raw


def find_words(base: Mapping[str, Any], sample: Sample, config: ExtendTokenizerConfig) -> list[Pieces]:
    """The words to add; raises ValueError if there are none, or if none can be added."""
    tokenizer = Tokenizer.from_str(json.dumps(base))
    if not takes_words_whole(base, tokenizer):
        raise ValueError(
            "the tokenizer has entries that its own merges do not lead to: taking words whole would cut those "
            "otherwise. Leave `extend_tokenizer` out, or continue from another model."
        )
    tokenizer.encode_special_tokens = True
    tokenizer.no_truncation()
    tokenizer.no_padding()
    words = choose_words(
        count_words(tokenizer, reported(sample)), num_tokens=config.new_tokens, min_count=config.min_count
    )
    if not words:
        raise ValueError(
            f"no word that is cut in two is in the {sample.bytes:,} bytes of {', '.join(config.sources)} "
            f"{config.min_count:,} times; lower extend_tokenizer.min_count, add text, or leave `extend_tokenizer` out."
        )
    surplus = (num_entries(base) + len(words)) % VOCAB_MULTIPLE
    return words[: len(words) - surplus] or words


def write_extended(directory: Path, base: Mapping[str, Any], words: list[Pieces], target: Path) -> None:
    """The extended tokenizer's directory: the base's files with a longer vocabulary, and `extension.json`."""
    target.mkdir(parents=True)
    for name in TOKENIZER_FILES:
        if (directory / name).is_file() and name not in OTHER_FORMS:
            shutil.copyfile(directory / name, target / name)
    extension = Extension(file_sha256(directory / "tokenizer.json"), num_entries(base), tuple(words))
    _write_json(target / "tokenizer.json", with_words(base, words, extension.base_entries))
    _write_json(target / FILE, asdict(extension))
    path = target / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    # The classes of model families build their tokenizer anew from vocabulary and merges: without `ignore_merges`.
    _write_json(path, {**config, "tokenizer_class": "PreTrainedTokenizerFast"})


def num_entries(base: Mapping[str, Any]) -> int:
    """One more than the largest id of a `tokenizer.json`."""
    added = (token["id"] for token in base.get("added_tokens") or [])
    return 1 + int(max([*base["model"]["vocab"].values(), *added]))


def new_tokens(directory: Path, extension: Extension) -> list[dict[str, object]]:
    """Id, text and pieces of every new token, for people."""
    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    rows = []
    for number, pieces in enumerate(extension.pieces, start=extension.base_entries):
        parts = [tokenizer.decode([one], skip_special_tokens=False) for one in pieces]
        rows.append({"id": number, "text": tokenizer.decode([number]), "pieces": parts})
    return rows


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def _texts(paths: Iterable[Path]) -> Iterator[str]:
    for path in paths:
        for batch in read_batches(path, ["text"]):
            yield from batch["text"].to_pylist()
