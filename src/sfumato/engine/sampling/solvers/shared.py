"""Small pieces that several solvers are made of."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

from torch import Tensor


def levels_of(sigmas: Tensor) -> list[float]:
    """The noise levels as numbers."""
    return [float(sigma) for sigma in sigmas.tolist()]


def steps_of(sigmas: Tensor) -> Iterator[tuple[int, tuple[float, float]]]:
    """(index, (level, next level)) of every step."""
    return enumerate(pairwise(levels_of(sigmas)))


def euler_to(x: Tensor, denoised: Tensor, sigma: float, sigma_next: float) -> Tensor:
    """A straight line from `x` at `sigma` through the estimate to `sigma_next`."""
    return x + (x - denoised) * ((sigma_next - sigma) / sigma)


def ancestral(sigma: float, sigma_next: float, eta: float) -> tuple[float, float]:
    """Split a step into a deterministic one and fresh noise.

    Args:
        sigma: level to come from.
        sigma_next: level to arrive at.
        eta: share of fresh noise: 0 for none, 1 for as much as a DDPM step adds.

    Returns:
        The level to step down to, and the standard deviation of the noise to add there.
    """
    if not eta:
        return sigma_next, 0.0
    up = min(sigma_next, eta * math.sqrt(sigma_next**2 * (sigma**2 - sigma_next**2) / sigma**2))
    return math.sqrt(max(sigma_next**2 - up**2, 0.0)), up
