"""An extended vocabulary: new tokens that each stand for several of the tokenizer that given weights came with.

`extension.json` lies beside the extended `tokenizer.json`, and is read where training continues from those weights:

    {"base_sha256": "of the base's tokenizer.json", "base_entries": 50280, "pieces": [[2309, 815], ...]}

Token number `base_entries + i` spells what the base's tokens `pieces[i]` spell. Its row of the embedding and of an
untied head begins as the mean of theirs, as in Fast Vocabulary Transfer (Gee et al. 2022). FOCUS and WECHSEL need
vectors of the new tokens from elsewhere, and are for vocabularies without such pieces.

Shape legend: V vocabulary, D model width.
"""

from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

from . import strict

if TYPE_CHECKING:
    from torch import Tensor

FILE = "extension.json"


@dataclass(frozen=True)
class Extension:
    """What the tokens of an extended vocabulary are made of."""

    base_sha256: str
    base_entries: int
    pieces: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        wrong = [ids for ids in self.pieces if len(ids) < 2 or not 0 <= min(ids) <= max(ids) < self.base_entries]
        if wrong:
            raise ValueError(
                f"a new token is made of {wrong[0]}, but two or more tokens below {self.base_entries:,} are needed; "
                f"extend the tokenizer again."
            )

    @property
    def num_entries(self) -> int:
        """Entries of the extended vocabulary."""
        return self.base_entries + len(self.pieces)


def load_extension(tokenizer: Path) -> Extension | None:
    """The extension of a tokenizer's directory; None for a tokenizer that is nobody's extension."""
    return strict.load(Extension, tokenizer / FILE) if (tokenizer / FILE).is_file() else None


def extended(table: "Tensor", extension: Extension, num_rows: int) -> "Tensor":
    """An embedding or head [V, D] with the rows of the new tokens, in fp32 [num_rows, D].

    Rows that the base holds beyond its tokenizer's entries, to round its vocabulary up, are the first to be taken.
    """
    import torch  # here, for whoever plans a run reads extensions without it
    from torch.nn.functional import embedding_bag

    flat = torch.tensor([token for ids in extension.pieces for token in ids])
    starts = torch.tensor([0, *accumulate(len(ids) for ids in extension.pieces)][:-1])
    rows = torch.zeros(num_rows, table.shape[1])
    rows[: len(table)] = table
    rows[extension.base_entries : extension.num_entries] = embedding_bag(flat, table.float(), starts, mode="mean")
    return rows
