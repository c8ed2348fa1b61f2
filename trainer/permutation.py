"""A keyed, invertible permutation of 0..size-1 that needs no memory: a Feistel network with cycle walking.

In: positions as an integer array. Out: positions, each exactly once; `inverse` undoes `forward`.
The network permutes the next power of four; a result outside the range is permuted again until it falls inside,
which takes fewer than four rounds on average (Black and Rogaway, "Ciphers with Arbitrary Finite Domains", 2002).
"""

import hashlib
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]
_Words = npt.NDArray[np.uint64]

NUM_ROUNDS = 6


class Permutation:
    """The permutation of 0..size-1 that belongs to `key`."""

    def __init__(self, size: int, key: str) -> None:
        if not 1 <= size < 2**62:
            raise ValueError(f"a permutation of {size} things was asked for; 1 to 2**62 are possible.")
        self.size = size
        self._half_bits = np.uint64(max(1, ((size - 1).bit_length() + 1) // 2))
        self._mask = np.uint64((1 << int(self._half_bits)) - 1)
        digest = b"".join(hashlib.sha256(f"{key}/{block}".encode()).digest() for block in range(2))
        self._keys = np.frombuffer(digest, dtype="<u8")[:NUM_ROUNDS].astype(np.uint64)

    def forward(self, positions: Integers) -> Integers:
        """Where each position goes."""
        return self._walk(positions, self._keys, swap=False)

    def inverse(self, positions: Integers) -> Integers:
        """Where each position came from."""
        return self._walk(positions, self._keys[::-1], swap=True)

    def _walk(self, positions: Integers, keys: _Words, *, swap: bool) -> Integers:
        if positions.size and (int(positions.min()) < 0 or int(positions.max()) >= self.size):
            raise ValueError(f"positions {positions.min()}..{positions.max()} are not all inside 0..{self.size - 1}.")
        words = self._rounds(positions.astype(np.uint64), keys, swap=swap)
        outside = words >= self.size
        while outside.any():
            words[outside] = self._rounds(words[outside], keys, swap=swap)
            outside = words >= self.size
        return words.astype(np.int64)

    def _rounds(self, words: _Words, keys: Iterable[np.uint64], *, swap: bool) -> _Words:
        left, right = words >> self._half_bits, words & self._mask
        if swap:
            left, right = right, left
        for key in keys:
            left, right = right, left ^ (_mix(right + key) & self._mask)
        if swap:
            left, right = right, left
        return (left << self._half_bits) | right


def _mix(words: _Words) -> _Words:
    """The finaliser of splitmix64 (Steele, Lea, Flood 2014): every input bit reaches every output bit."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))
