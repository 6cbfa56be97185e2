"""Software Philox 4x32-10 (Salmon et al. 2011): the normal numbers that an NVIDIA card draws, on every machine."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (0x9E3779B9, 0xBB67AE85)
_MASK = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)
_BLOCK = 8192
"""Elements made at a time, so that the working arrays stay in the processor's cache."""


def words(counter: NDArray[np.uint64], seed: int) -> NDArray[np.uint64]:
    """Ten rounds of the generator.

    Args:
        counter: [4, n], one counter of four 32-bit words per column; overwritten.
        seed: the 64-bit key, low word first.

    Returns:
        `counter`, now [4, n] random 32-bit words.
    """
    a, b, c, d = counter
    first, second = np.empty_like(a), np.empty_like(a)
    low, high = seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF
    for _ in range(10):
        np.multiply(a, _MULTIPLIERS[0], out=first)
        np.multiply(c, _MULTIPLIERS[1], out=second)
        for word, product, other, key in ((a, second, b, low), (c, first, d, high)):
            np.right_shift(product, _SHIFT, out=word)
            np.bitwise_xor(word, other, out=word)
            np.bitwise_xor(word, np.uint64(key), out=word)
            np.bitwise_and(product, _MASK, out=other)
        low, high = (low + _WEYL[0]) & 0xFFFFFFFF, (high + _WEYL[1]) & 0xFFFFFFFF
    return counter


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
        result = np.empty(n, np.float32)
        for start in range(0, n, _BLOCK):
            block = result[start : start + _BLOCK]
            counter = np.zeros((4, len(block)), np.uint64)
            counter[0] = self.draws & 0xFFFFFFFF
            counter[2] = np.arange(start, start + len(block))
            u, v = words(counter, self.seed)[:2] * 2.0**-32 + 2.0**-33
            block[:] = np.sqrt(-2.0 * np.log(u)) * np.sin(2 * math.pi * v)
        self.draws += 1
        return result.reshape(shape)
