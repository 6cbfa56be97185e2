"""Restart sampling: go back up to a noisier level once or twice and come down again."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

from torch import Tensor

from sfumato.engine.sampling.solvers.euler import heun_to
from sfumato.engine.sampling.solvers.shared import levels_of
from sfumato.engine.sampling.step import Denoise, NoiseSampler, Step

_LOW, _HIGH, _RHO = 0.1, 2.0, 7.0


def _karras(n: int, sigma_min: float, sigma_max: float) -> list[float]:
    """`n` > 1 levels even in the seventh root; the ends are exact, since `restart` compares them."""
    high, low = sigma_max ** (1 / _RHO), sigma_min ** (1 / _RHO)
    inner = [(high + (low - high) * i / (n - 1)) ** _RHO for i in range(1, n - 1)]
    return [sigma_max, *inner, sigma_min]


def restart_path(sigmas: Tensor) -> list[tuple[float, float]]:
    """The steps of a run as pairs of levels.

    From 20 steps on, 9 of them are spent on coming down once more from sigma 2 to 0.1; from 36 on a quarter of them twice.
    The other steps are laid out anew as a Karras schedule over the range of `sigmas`.
    """
    levels = levels_of(sigmas)
    steps = len(levels) - 1
    again, times = (steps // 4, 2) if steps >= 36 else (9, 1) if steps >= 20 else (0, 0)
    if not times:
        return list(pairwise(levels))
    levels = [*_karras(steps - again * times, levels[-2], levels[0]), 0.0]
    low = min(range(len(levels)), key=lambda i: abs(levels[i] - _LOW))
    high = min(range(len(levels)), key=lambda i: abs(levels[i] - _HIGH))
    path = []
    for i, step in enumerate(pairwise(levels), start=1):
        path.append(step)
        if i == low and high < low:
            path += list(pairwise(_karras(again + 1, levels[low], levels[high]))) * times
    return path


def restart(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSampler, *, s_noise: float = 1.0) -> Iterator[Step]:
    """Heun steps along `restart_path`, with fresh noise at every way up (Xu et al. 2023). See `solvers`."""
    calls, last = 0, math.inf
    for i, (sigma, sigma_next) in enumerate(restart_path(sigmas)):
        if sigma > last:
            x = x + noise(last, sigma) * (math.sqrt(sigma**2 - last**2) * s_noise)
        denoised = denoise(x, sigma, calls).denoised
        x = heun_to(denoise, x, denoised, sigma, sigma_next, calls + 1)
        calls += 1 if sigma_next == 0 else 2
        last = sigma_next
        yield Step(i, x, denoised, sigma, sigma_next, calls)
