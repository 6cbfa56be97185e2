"""Software Philox 4x32-10 (Salmon et al. 2011): the normal numbers that an NVIDIA card draws, on every machine."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (0x9E3779B9, 0xBB67AE85)
_MASK = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)


def words(counter: NDArray[np.uint32], seed: int) -> NDArray[np.uint32]:
    """Ten rounds of the generator.

    Args:
        counter: [4, n], one counter per column.
        seed: the 64-bit key, low word first.

    Returns:
        [4, n] random words.
    """
    a, b, c, d = (row.astype(np.uint64) for row in counter)
    low, high = seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF
    for _ in range(10):
        first, second = a * _MULTIPLIERS[0], c * _MULTIPLIERS[1]
        a, b, c, d = (
            (second >> _SHIFT) ^ b ^ np.uint64(low),
            second & _MASK,
            (first >> _SHIFT) ^ d ^ np.uint64(high),
            first & _MASK,
        )
        low, high = (low + _WEYL[0]) & 0xFFFFFFFF, (high + _WEYL[1]) & 0xFFFFFFFF
    return np.stack([a, b, c, d]).astype(np.uint32)


class Philox:
    """A generator of normal numbers.

    Args:
        seed: any integer; its low 64 bits count.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed & 0xFFFFFFFFFFFFFFFF
        self.draws = 0

    def randn(self, *shape: int) -> NDArray[np.float32]:
        """The next draw: standard normal numbers, float32, of any shape.

        Each element takes two words and keeps the sine branch of Box and Muller's transform, as CUDA's kernel does for
        tensors small enough that every thread makes one element.
        """
        n = math.prod(shape)
        counter = np.zeros((4, n), np.uint32)
        counter[0] = self.draws & 0xFFFFFFFF
        counter[2] = np.arange(n, dtype=np.uint32)
        self.draws += 1
        u, v = words(counter, self.seed)[:2].astype(np.float64) * 2.0**-32 + 2.0**-33
        normal: NDArray[np.float64] = np.sqrt(-2.0 * np.log(u)) * np.sin(2 * math.pi * v)
        return normal.astype(np.float32).reshape(shape)
