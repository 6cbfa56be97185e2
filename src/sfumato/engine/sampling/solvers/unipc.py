"""UniPC (Zhao et al. 2023): a multistep predictor-corrector whose corrector costs no evaluation."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np
from torch import Tensor

from sfumato.engine.sampling.solvers.shared import levels_of
from sfumato.engine.sampling.step import Denoise, NoiseSampler, Step

Variant = Literal["bh1", "bh2", "vary_coeff"]


class _Weights(NamedTuple):
    """Weights of the earlier differences in predictor and corrector, and of the newest difference in the corrector."""

    predictor: list[float]
    corrector: list[float]
    newest: float


def _bh_weights(ratios: Sequence[float], hh: float, variant: Variant) -> _Weights:
    """Weights with B(h) = h ("bh1") or e^h - 1 ("bh2"), algorithms 5 to 8 of the paper."""
    order = len(ratios) + 1
    points = np.array([*ratios, 1.0])
    b_h = hh if variant == "bh1" else math.expm1(hh)
    phi, factorial, target = math.expm1(hh) / hh - 1, 1.0, []
    for k in range(1, order + 1):
        target.append(phi * factorial / b_h)
        factorial *= k + 1
        phi = phi / hh - 1 / factorial
    matrix, b = np.vander(points, order, increasing=True).T, np.array(target)
    if order == 1:
        return _Weights([], [], 0.5 * b_h)
    # The paper's simplification: the predictor of second order is the same for every B(h).
    predictor = np.array([0.5]) if order == 2 else np.linalg.solve(matrix[:-1, :-1], b[:-1])
    *corrector, newest = (np.linalg.solve(matrix, b) * b_h).tolist()
    return _Weights((predictor * b_h).tolist(), corrector, newest)


def _varying_weights(ratios: Sequence[float], hh: float) -> _Weights:
    """Weights that solve for each order anew ("vary_coeff"), appendix of the paper.

    The corrector is that of the authors' program, which leaves out the last row of the system and so is of first order
    only. It is kept for the pictures that were made with it; "bh1" and "bh2" have the order they promise.
    """
    order = len(ratios) + 1
    points = np.array([*ratios, 1.0])
    matrix = np.stack([points**k / math.factorial(k + 1) for k in range(order)], axis=1)
    phi, factorial, phis = math.expm1(hh), 1, []
    for k in range(1, order + 2):
        phis.append(phi)
        phi = phi / hh - 1 / factorial
        factorial *= k + 1
    inverse = np.linalg.inv(matrix)
    inner = np.array(phis[1:order])
    predictor = inner @ np.linalg.inv(matrix[:-1, :-1]) if order > 1 else np.zeros(0)
    newest = phis[order] * float(inverse[max(order - 2, 0), -1])
    return _Weights(predictor.tolist(), (inner @ inverse[: order - 1, :-1]).tolist(), newest)


def _add(base: Tensor, weights: Sequence[float], differences: Sequence[Tensor]) -> Tensor:
    for weight, difference in zip(weights, differences, strict=True):
        base = base - difference * weight
    return base


def unipc(
    denoise: Denoise,
    x: Tensor,
    sigmas: Tensor,
    noise: NoiseSampler,
    *,
    order: int = 3,
    variant: Variant = "bh1",
    lower_order_final: bool = True,
) -> Iterator[Step]:
    """Predict, evaluate, correct; the last step is a prediction only. See `solvers` for the common arguments.

    Args:
        denoise: see `solvers`.
        x: see `solvers`.
        sigmas: see `solvers`; no 0.
        noise: not used.
        order: from 1; cut to the number of steps.
        variant: see the paper.
        lower_order_final: the last steps use lower orders.
    """
    levels = levels_of(sigmas)
    steps = len(levels) - 1
    order = min(order, steps)
    past = [denoise(x, levels[0], 0).denoised]
    for i in range(1, steps + 1):
        now = i if i < order else min(order, steps + 1 - i) if lower_order_final else order
        sigma, sigma_next = levels[i - 1], levels[i]
        h = math.log(sigma / sigma_next)
        # Earlier points in units of this step, seen from its start; newest first.
        ratios = [-math.log(levels[i - 1 - k] / sigma) / h for k in range(1, now)]
        weights = _varying_weights(ratios, -h) if variant == "vary_coeff" else _bh_weights(ratios, -h, variant)
        base = x * (sigma_next / sigma) - past[0] * math.expm1(-h)
        differences = [(past[k] - past[0]) * (1 / ratio) for k, ratio in enumerate(ratios, start=1)]
        x, denoised = _add(base, weights.predictor, differences), past[0]
        if i < steps:
            newest = denoise(x, sigma_next, i).denoised
            x = _add(base, [*weights.corrector, weights.newest], [*differences, newest - past[0]])
            past = [newest, *past[: order - 1]]
        yield Step(i - 1, x, denoised, sigma, sigma_next, min(i + 1, steps))
