"""DPM-Solver++ for the diffusion SDE: the noise samplers are Brownian paths, so that steps of any size see the same noise."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

from torch import Tensor

from sfumato.engine.sampling.solvers.dpmpp import toward
from sfumato.engine.sampling.solvers.shared import ancestral, steps_of
from sfumato.engine.sampling.step import Denoise, NoiseSampler, Step


def dpmpp_sde(
    denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSampler, *, eta: float = 1.0, s_noise: float = 1.0
) -> Iterator[Step]:
    """Single-step, two evaluations a step (Katherine Crowson). See `solvers` for the arguments."""
    calls = 0
    for i, (sigma, sigma_next) in steps_of(sigmas):
        denoised = denoise(x, sigma, calls).denoised
        calls += 1
        if sigma_next == 0:
            x = denoised
        else:
            middle = math.sqrt(sigma * sigma_next)
            down, up = ancestral(sigma, middle, eta)
            between = toward(x, denoised, down / sigma)
            if up > 0:
                between = between + noise(sigma, middle) * (up * s_noise)
            estimate = denoise(between, middle, calls).denoised
            calls += 1
            down, up = ancestral(sigma, sigma_next, eta)
            x = toward(x, estimate, down / sigma)
            if up > 0:
                x = x + noise(sigma, sigma_next) * (up * s_noise)
        yield Step(i, x, denoised, sigma, sigma_next, calls)


def _decay(x: Tensor, denoised: Tensor, h: float, eta: float) -> Tensor:
    """The exact step of length `h` in log sigma for a constant estimate, with part of the noise taken away by `eta`."""
    kept = math.exp(-h * (1 + eta))
    return x * kept + denoised * (1 - kept)


def _spread(sigma_next: float, h: float, eta: float) -> float:
    """Standard deviation of the fresh noise of a step."""
    return sigma_next * math.sqrt(-math.expm1(-2 * h * eta))


def dpmpp_2m_sde(
    denoise: Denoise,
    x: Tensor,
    sigmas: Tensor,
    noise: NoiseSampler,
    *,
    eta: float = 1.0,
    s_noise: float = 1.0,
    solver_type: Literal["midpoint", "heun"] = "midpoint",
) -> Iterator[Step]:
    """Multistep second order. `solver_type` is how the last estimate's difference is weighed. See `solvers`."""
    older: Tensor | None = None
    h_last = 0.0
    for i, (sigma, sigma_next) in steps_of(sigmas):
        denoised = denoise(x, sigma, i).denoised
        if sigma_next == 0:
            x = denoised
        else:
            h = math.log(sigma / sigma_next)
            x = _decay(x, denoised, h, eta)
            if older is not None:
                h_eta = h * (1 + eta)
                gain = -math.expm1(-h_eta)
                weight = 0.5 * gain if solver_type == "midpoint" else 1 - gain / h_eta
                x = x + (denoised - older) * (weight * h / h_last)
            if eta:
                x = x + noise(sigma, sigma_next) * (_spread(sigma_next, h, eta) * s_noise)
            h_last = h
        older = denoised
        yield Step(i, x, denoised, sigma, sigma_next, i + 1)


def dpmpp_3m_sde(
    denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSampler, *, eta: float = 1.0, s_noise: float = 1.0
) -> Iterator[Step]:
    """Multistep third order (Katherine Crowson). See `solvers` for the arguments."""
    past: list[tuple[Tensor, float]] = []
    for i, (sigma, sigma_next) in steps_of(sigmas):
        denoised = denoise(x, sigma, i).denoised
        if sigma_next == 0:
            x = denoised
        else:
            h = math.log(sigma / sigma_next)
            h_eta = h * (1 + eta)
            x = _decay(x, denoised, h, eta)
            phi_2 = math.expm1(-h_eta) / h_eta + 1
            if len(past) == 2:
                (denoised_1, h_1), (denoised_2, h_2) = past
                near, far = (denoised - denoised_1) * (h / h_1), (denoised_1 - denoised_2) * (h / h_2)
                bend = (near - far) * (h / (h_1 + h_2))
                x = x + (near + bend * (h_1 / h)) * phi_2 - bend * (phi_2 / h_eta - 0.5)
            elif past:
                x = x + (denoised - past[0][0]) * (phi_2 * h / past[0][1])
            if eta:
                x = x + noise(sigma, sigma_next) * (_spread(sigma_next, h, eta) * s_noise)
            past = [(denoised, h), *past[:1]]
        yield Step(i, x, denoised, sigma, sigma_next, i + 1)
