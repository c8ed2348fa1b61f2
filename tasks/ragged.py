"""Arrays on disk between two passes of a stage: one a shard, or one a document, of any length each.

00000.npy           one array of a shard
00000.values.npy    all arrays of a shard, one after the other
00000.lengths.npy   how long each is
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.uint64]


def save_array(path: Path, array: NDArray[np.generic]) -> None:
    """Write one array; its folder is made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array, allow_pickle=False)


def save_ragged(path: Path, arrays: Sequence[Array]) -> None:
    """Write the arrays of one shard; `path` has no ending."""
    save_array(path.with_suffix(".lengths.npy"), np.array([len(array) for array in arrays], dtype=np.int64))
    save_array(path.with_suffix(".values.npy"), np.concatenate([np.empty(0, np.uint64), *arrays]))


def load_ragged(path: Path) -> list[Array]:
    """The arrays of one shard, as views of the file."""
    ends = np.cumsum(np.load(path.with_suffix(".lengths.npy")))
    values = np.load(path.with_suffix(".values.npy"), mmap_mode="r")
    return np.split(values, ends[:-1]) if len(ends) else []


def join_arrays(parts: Sequence[Path], path: Path) -> Array:
    """The arrays of several files, one after the other, as one file; returned as a view of it that takes no memory."""
    loaded = [np.load(part, mmap_mode="r") for part in parts]
    total = sum(len(array) for array in loaded)
    if not total:
        return np.empty(0, dtype=loaded[0].dtype if loaded else np.uint64)
    joined = np.lib.format.open_memmap(path, mode="w+", dtype=loaded[0].dtype, shape=(total,))
    begin = 0
    for array in loaded:
        joined[begin : begin + len(array)] = array
        begin += len(array)
    joined.flush()
    return np.asarray(joined)
