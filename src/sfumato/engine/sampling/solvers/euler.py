"""Euler, Heun and midpoint steps, deterministic, with churn, and ancestral."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from sfumato.engine.sampling.solvers.shared import ancestral, euler_to, steps_of
from sfumato.engine.sampling.step import Denoise, NoiseSampler, Step


@dataclass(frozen=True, slots=True)
class Churn:
    """Noise that is added before a step and removed by it, algorithm 2 of Karras et al. 2022.

    Attributes:
        amount: S_churn, spread over the steps; 0 for none.
        low, high: levels between which it happens (S_tmin, S_tmax).
        s_noise: factor of the noise.
        steps: of the run.
    """

    amount: float
    low: float
    high: float
    s_noise: float
    steps: int

    def __call__(self, x: Tensor, sigma: float, noise: NoiseSampler) -> tuple[Tensor, float]:
        """Latents and level after churning. Noise is drawn at every step of a run with churn, used or not."""
        if self.amount <= 0:
            return x, sigma
        fresh = noise(sigma, sigma)
        if not self.low <= sigma <= self.high:
            return x, sigma
        raised = sigma * (1 + min(self.amount / self.steps, math.sqrt(2) - 1))
        return x + fresh * (math.sqrt(raised**2 - sigma**2) * self.s_noise), raised


def euler(
    denoise: Denoise,
    x: Tensor,
    sigmas: Tensor,
    noise: NoiseSampler,
    *,
    s_churn: float = 0.0,
    s_tmin: float = 0.0,
    s_tmax: float = math.inf,
    s_noise: float = 1.0,
) -> Iterator[Step]:
    """First order: algorithm 2 of Karras et al. 2022 without its correction. See `solvers` for the arguments."""
    churn = Churn(s_churn, s_tmin, s_tmax, s_noise, len(sigmas) - 1)
    for i, (sigma, sigma_next) in steps_of(sigmas):
        x, raised = churn(x, sigma, noise)
        denoised = denoise(x, raised, i).denoised
        x = euler_to(x, denoised, raised, sigma_next)
        yield Step(i, x, denoised, sigma, sigma_next, i + 1)


def euler_ancestral(
    denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSampler, *, eta: float = 1.0, s_noise: float = 1.0
) -> Iterator[Step]:
    """First order, with fresh noise after every step. See `solvers` for the arguments."""
    for i, (sigma, sigma_next) in steps_of(sigmas):
        denoised = denoise(x, sigma, i).denoised
        down, up = ancestral(sigma, sigma_next, eta)
        x = euler_to(x, denoised, sigma, down)
        if up > 0:
            x = x + noise(sigma, sigma_next) * (up * s_noise)
        yield Step(i, x, denoised, sigma, sigma_next, i + 1)


def heun(
    denoise: Denoise,
    x: Tensor,
    sigmas: Tensor,
    noise: NoiseSampler,
    *,
    s_churn: float = 0.0,
    s_tmin: float = 0.0,
    s_tmax: float = math.inf,
    s_noise: float = 1.0,
) -> Iterator[Step]:
    """Second order: algorithm 2 of Karras et al. 2022. See `solvers` for the arguments."""
    churn = Churn(s_churn, s_tmin, s_tmax, s_noise, len(sigmas) - 1)
    calls = 0
    for i, (sigma, sigma_next) in steps_of(sigmas):
        x, raised = churn(x, sigma, noise)
        denoised = denoise(x, raised, calls).denoised
        x = heun_to(denoise, x, denoised, raised, sigma_next, calls + 1)
        calls += 1 if sigma_next == 0 else 2
        yield Step(i, x, denoised, sigma, sigma_next, calls)


def heun_to(denoise: Denoise, x: Tensor, denoised: Tensor, sigma: float, sigma_next: float, call: int) -> Tensor:
    """A Heun step to `sigma_next`, given the estimate at `sigma`; a straight line, without a further call, if that is 0."""
    end = euler_to(x, denoised, sigma, sigma_next)
    if sigma_next == 0:
        return end
    slope = (x - denoised) * (0.5 / sigma) + (end - denoise(end, sigma_next, call).denoised) * (0.5 / sigma_next)
    return x + slope * (sigma_next - sigma)


def dpm2(
    denoise: Denoise,
    x: Tensor,
    sigmas: Tensor,
    noise: NoiseSampler,
    *,
    s_churn: float = 0.0,
    s_tmin: float = 0.0,
    s_tmax: float = math.inf,
    s_noise: float = 1.0,
) -> Iterator[Step]:
    """Second order with the geometric mean as midpoint, after DPM-Solver-2 (Lu et al. 2022). See `solvers`."""
    churn = Churn(s_churn, s_tmin, s_tmax, s_noise, len(sigmas) - 1)
    calls = 0
    for i, (sigma, sigma_next) in steps_of(sigmas):
        x, raised = churn(x, sigma, noise)
        denoised = denoise(x, raised, calls).denoised
        x = _midpoint_to(denoise, x, denoised, raised, sigma_next, calls + 1)
        calls += 1 if sigma_next == 0 else 2
        yield Step(i, x, denoised, sigma, sigma_next, calls)


def dpm2_ancestral(
    denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSampler, *, eta: float = 1.0, s_noise: float = 1.0
) -> Iterator[Step]:
    """Second order with the geometric mean as midpoint, and fresh noise after every step. See `solvers`."""
    calls = 0
    for i, (sigma, sigma_next) in steps_of(sigmas):
        denoised = denoise(x, sigma, calls).denoised
        down, up = ancestral(sigma, sigma_next, eta)
        x = _midpoint_to(denoise, x, denoised, sigma, down, calls + 1)
        calls += 1 if down == 0 else 2
        if up > 0:
            x = x + noise(sigma, sigma_next) * (up * s_noise)
        yield Step(i, x, denoised, sigma, sigma_next, calls)


def _midpoint_to(denoise: Denoise, x: Tensor, denoised: Tensor, sigma: float, sigma_next: float, call: int) -> Tensor:
    if sigma_next == 0:
        return euler_to(x, denoised, sigma, 0.0)
    middle = math.sqrt(sigma * sigma_next)
    between = euler_to(x, denoised, sigma, middle)
    return x + (between - denoise(between, middle, call).denoised) * ((sigma_next - sigma) / middle)
