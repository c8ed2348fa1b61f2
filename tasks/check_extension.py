"""Checks of an extended tokenizer against the one it came from, on real text.

What holds for every text by construction (`new_tokens.py`) is checked on all text at hand, with the files as they were
written: another implementation of the same file might do otherwise.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from domainlm.tasks.encoder import Encoder, load_encoder
from domainlm.trainer.extension import Extension, load_extension

PLEASE = "Leave `extend_tokenizer` out, and please report it."


@dataclass(frozen=True)
class Extended:
    """A new tokenizer beside the one it came from."""

    extension: Extension
    base: Encoder
    new: Encoder


@dataclass(frozen=True)
class Measured:
    """Tokens of some texts before and after, and how often each new token is among those after."""

    before: int
    after: int
    counts: npt.NDArray[np.int64]


def open_extended(base: Path, target: Path) -> Extended:
    """Both tokenizers, to compare them."""
    extension = load_extension(target)
    assert extension is not None  # it was written just now
    return Extended(extension, load_encoder("tokenizers", base), load_encoder("tokenizers", target))


def check_ids(base: Path, target: Path, words: list[str]) -> None:
    """Old entries have their old ids, and transformers encodes with the new ones; else ValueError."""
    from transformers import AutoTokenizer  # brings torch: a plan should not wait for it

    before, after = (Tokenizer.from_file(str(path / "tokenizer.json")) for path in (base, target))
    vocabulary, opened = after.get_vocab(), AutoTokenizer.from_pretrained(target, local_files_only=True)
    moved = [text for text, number in before.get_vocab().items() if vocabulary.get(text) != number]
    moved += [
        text
        for text in words
        if opened.encode(text, add_special_tokens=False) != after.encode(text, add_special_tokens=False).ids
    ]
    if moved:
        raise ValueError(
            f"the extended tokenizer of {base} has another id for {moved[0]!r}: this directory has a form that is not "
            "understood. Leave `extend_tokenizer` out, and please report it."
        )


def measure(extended: Extended, texts: Iterable[str], what: str) -> Measured:
    """Tokens before and after.

    Raises:
        ValueError: a text's new tokens, replaced by their pieces, are not its old ones.
    """
    extension = extended.extension
    lengths = np.ones(extension.num_entries, np.int64)
    lengths[extension.base_entries :] = [len(pieces) for pieces in extension.pieces]
    flat = np.fromiter((t for pieces in extension.pieces for t in pieces), np.int64)
    table, starts = np.concatenate([np.arange(extension.base_entries), flat]), np.cumsum(lengths) - lengths
    before, after, counts = 0, 0, np.zeros(extension.num_entries, np.int64)
    for text in texts:
        old, new = (encode([text]).ids.astype(np.int64) for encode in (extended.base, extended.new))
        sizes = lengths[new]
        places = np.repeat(starts[new] - (np.cumsum(sizes) - sizes), sizes) + np.arange(sizes.sum())
        if not np.array_equal(table[places], old):
            raise ValueError(
                f"the extended tokenizer cuts a text of {what} otherwise than its base does ({text[:60]!r}...): "
                f"this tokenizer.json has a form that is not understood. {PLEASE}"
            )
        before, after = before + len(old), after + len(new)
        counts += np.bincount(new, minlength=extension.num_entries)
    return Measured(before, after, counts[extension.base_entries :])


def check_counts(measured: Measured, min_count: int) -> int:
    """The count of the rarest new token in the sample; raises ValueError if it is below the least."""
    least = int(measured.counts.min())
    if least < min_count:
        raise ValueError(
            f"a new token is in the sample {least:,} times, and {min_count:,} are needed: words were counted otherwise "
            f"than this tokenizer cuts them. {PLEASE}"
        )
    return least
