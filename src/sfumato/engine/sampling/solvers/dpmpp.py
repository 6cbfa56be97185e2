"""DPM-Solver++ (Lu et al. 2022): steps in log sigma on the estimate of the clean latents."""

from __future__ import annotations

import math
from collections.abc import Iterator

from torch import Tensor

from sfumato.engine.sampling.solvers.shared import ancestral, euler_to, steps_of
from sfumato.engine.sampling.step import Denoise, NoiseSampler, Step


def toward(x: Tensor, denoised: Tensor, ratio: float) -> Tensor:
    """The exact step for a constant estimate: the noise shrinks by `ratio` = next level / level."""
    return x * ratio + denoised * (1 - ratio)


def dpmpp_2s_ancestral(
    denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSampler, *, eta: float = 1.0, s_noise: float = 1.0
) -> Iterator[Step]:
    """Single-step second order with fresh noise after every step. See `solvers` for the arguments."""
    calls = 0
    for i, (sigma, sigma_next) in steps_of(sigmas):
        denoised = denoise(x, sigma, calls).denoised
        down, up = ancestral(sigma, sigma_next, eta)
        calls += 1
        if down == 0:
            x = euler_to(x, denoised, sigma, 0.0)
        else:
            middle = math.sqrt(sigma * down)
            between = toward(x, denoised, middle / sigma)
            x = toward(x, denoise(between, middle, calls).denoised, down / sigma)
            calls += 1
        if up > 0:
            x = x + noise(sigma, sigma_next) * (up * s_noise)
        yield Step(i, x, denoised, sigma, sigma_next, calls)


def dpmpp_2m(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSampler) -> Iterator[Step]:
    """Multistep second order. See `solvers` for the arguments."""
    older: Tensor | None = None
    h_last = 0.0
    for i, (sigma, sigma_next) in steps_of(sigmas):
        denoised = denoise(x, sigma, i).denoised
        estimate, h = denoised, math.inf
        if sigma_next > 0:
            h = math.log(sigma / sigma_next)
            if older is not None:
                weight = h / (2 * h_last)
                estimate = denoised * (1 + weight) - older * weight
        x = toward(x, estimate, sigma_next / sigma)
        older, h_last = denoised, h
        yield Step(i, x, denoised, sigma, sigma_next, i + 1)
