"""Linear multistep methods: they reuse the slopes of earlier steps, one evaluation a step."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

import numpy as np
from torch import Tensor

from sfumato.engine.sampling.solvers.shared import levels_of, steps_of
from sfumato.engine.sampling.step import Denoise, NoiseSampler, Step

# Gauss-Legendre nodes and weights on -1..1: with four of them, polynomials up to degree 7 are integrated exactly.
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(4)

_ADAMS_BASHFORTH = ((3 / 2, -1 / 2), (23 / 12, -16 / 12, 5 / 12), (55 / 24, -59 / 24, 37 / 24, -9 / 24))


def _coefficients(levels: Sequence[float], i: int, order: int) -> list[float]:
    """Integrals of the Lagrange polynomials through the last `order` levels over the step from level `i`, newest first."""
    start, end = levels[i], levels[i + 1]
    at = 0.5 * (end - start) * _NODES + 0.5 * (end + start)
    past = [levels[i - k] for k in range(order)]
    result = []
    for j, node in enumerate(past):
        values = np.ones_like(at)
        for other in past[:j] + past[j + 1 :]:
            values = values * ((at - other) / (node - other))
        result.append(float(0.5 * (end - start) * (values * _WEIGHTS).sum()))
    return result


def lms(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSampler, *, order: int = 4) -> Iterator[Step]:
    """Linear multistep of fourth order on uneven steps (Katherine Crowson). See `solvers` for the arguments."""
    levels = levels_of(sigmas)
    slopes: deque[Tensor] = deque(maxlen=order)
    for i, (sigma, sigma_next) in steps_of(sigmas):
        denoised = denoise(x, sigma, i).denoised
        slopes.appendleft((x - denoised) * (1 / sigma))
        for coefficient, slope in zip(_coefficients(levels, i, len(slopes)), slopes, strict=True):
            x = x + slope * coefficient
        yield Step(i, x, denoised, sigma, sigma_next, i + 1)


def plms(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSampler) -> Iterator[Step]:
    """Pseudo linear multistep (Liu et al. 2022): Adams-Bashforth as for even steps, begun by a Heun step. See `solvers`."""
    past: deque[Tensor] = deque(maxlen=3)
    calls = 0
    for i, (sigma, sigma_next) in steps_of(sigmas):
        denoised = denoise(x, sigma, calls).denoised
        newest = (x - denoised) * (1 / sigma)
        calls += 1
        if past:
            weights = _ADAMS_BASHFORTH[len(past) - 1]
            slope = newest * weights[0]
            for weight, older in zip(weights[1:], past, strict=True):
                slope = slope + older * weight
        else:
            end = x + newest * (sigma_next - sigma)
            slope = newest * 0.5 + (end - denoise(end, sigma_next, calls).denoised) * (0.5 / sigma_next)
            calls += 1
        past.appendleft(newest)
        x = x + slope * (sigma_next - sigma)
        yield Step(i, x, denoised, sigma, sigma_next, calls)
