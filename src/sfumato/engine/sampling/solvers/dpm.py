"""DPM-Solver (Lu et al. 2022) in log sigma on the predicted noise: with a fixed budget of evaluations, and adaptive."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor

from sfumato.engine.sampling.solvers.shared import ancestral, levels_of
from sfumato.engine.sampling.step import Denoise, NoiseSampler, Step
from sfumato.errors import NotANumber


@dataclass
class _Move:
    """One step of order 1 to 3 from `x` at time `t` = -log sigma; slopes are shared between the orders."""

    denoise: Denoise
    x: Tensor
    t: float
    calls: int
    _slopes: dict[float, Tensor] = field(default_factory=dict)

    @property
    def denoised(self) -> Tensor:
        """The estimate at the start."""
        return self.x - self._slope(self.x, self.t, 0.0) * math.exp(-self.t)

    def _slope(self, x: Tensor, t: float, part: float) -> Tensor:
        """The predicted noise at `part` of the way; evaluated once."""
        if part not in self._slopes:
            sigma = math.exp(-t)
            self._slopes[part] = (x - self.denoise(x, sigma, self.calls).denoised) * (1 / sigma)
            self.calls += 1
        return self._slopes[part]

    def to(self, t_next: float, order: int, r1: float | None = None) -> Tensor:
        """The latents at `t_next`, by the solver of the given order with its first inner point at `r1` of the way."""
        t, h = self.t, t_next - self.t
        slope = self._slope(self.x, t, 0.0)
        first = self.x - slope * (math.exp(-t_next) * math.expm1(h))
        if order == 1:
            return first
        r1 = r1 or (1 / 2 if order == 2 else 1 / 3)
        inner = t + r1 * h
        slope_1 = self._slope(self.x - slope * (math.exp(-inner) * math.expm1(r1 * h)), inner, r1)
        if order == 2:
            return first - (slope_1 - slope) * (math.exp(-t_next) / (2 * r1) * math.expm1(h))
        r2 = 2 / 3
        outer = t + r2 * h
        bend = (slope_1 - slope) * (math.exp(-outer) * (r2 / r1) * (math.expm1(r2 * h) / (r2 * h) - 1))
        slope_2 = self._slope(self.x - slope * (math.exp(-outer) * math.expm1(r2 * h)) - bend, outer, r2)
        return first - (slope_2 - slope) * (math.exp(-t_next) / r2 * (math.expm1(h) / h - 1))


def _noisy_target(t: float, t_next: float, t_end: float, eta: float) -> tuple[float, float]:
    """Where to step to and how much noise to add there, so as to arrive at `t_next`."""
    if not eta:
        return t_next, 0.0
    down, _ = ancestral(math.exp(-t), math.exp(-t_next), eta)
    target = min(t_end, -math.log(down)) if down > 0 else t_end
    return target, math.sqrt(max(math.exp(-2 * t_next) - math.exp(-2 * target), 0.0))


def fast_orders(n: int) -> list[int]:
    """Orders of the steps that together cost `n` evaluations."""
    m = n // 3 + 1
    return [3] * (m - 2) + [2, 1] if n % 3 == 0 else [3] * (m - 1) + [n % 3]


def dpm_fast(
    denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSampler, *, n: int, eta: float = 0.0, s_noise: float = 1.0
) -> Iterator[Step]:
    """`n` evaluations in steps of third order, even in log sigma from the first to the last of `sigmas`. See `solvers`.

    `sigmas` needs no more than its two ends; the last may not be 0.
    """
    levels = levels_of(sigmas)
    start, end = -math.log(levels[0]), -math.log(levels[-1])
    orders = fast_orders(n)
    times = [start + (end - start) * i / len(orders) for i in range(len(orders) + 1)]
    calls = 0
    for i, (order, (t, t_next)) in enumerate(zip(orders, pairwise(times), strict=True)):
        target, up = _noisy_target(t, t_next, end, eta)
        move = _Move(denoise, x, t, calls)
        x = move.to(target, order)
        calls = move.calls
        sigma, sigma_next = math.exp(-t), math.exp(-t_next)
        if eta:
            x = x + noise(sigma, sigma_next) * (up * s_noise)
        yield Step(i, x, move.denoised, sigma, sigma_next, calls)


@dataclass
class _StepSize:
    """An integral step-size controller: the next step from the error of this one."""

    h: float
    order: float
    accept_safety: float = 0.81

    def accepts(self, error: float) -> bool:
        """Whether the step was good enough; changes the size of the next one either way."""
        factor = 1 + math.atan((1 / (error + 1e-8)) ** (1 / self.order) - 1)
        self.h *= factor
        return factor >= self.accept_safety


def dpm_adaptive(
    denoise: Denoise,
    x: Tensor,
    sigmas: Tensor,
    noise: NoiseSampler,
    *,
    eta: float = 0.0,
    s_noise: float = 1.0,
    rtol: float = 0.05,
    atol: float = 0.0078,
    h_init: float = 0.05,
) -> Iterator[Step]:
    """Steps of third order as long as the error against second order allows, from the first to the last of `sigmas`.

    `sigmas` needs no more than its two ends; the last may not be 0. Rejected steps are not yielded, their evaluations are
    counted. The error is taken over the whole batch, so a picture's steps depend on its company: sample pictures one by
    one (`Sampler.alone`). See `solvers` for the arguments.
    """
    levels = levels_of(sigmas)
    t, end = -math.log(levels[0]), -math.log(levels[-1])
    size = _StepSize(h_init, 1.5 if eta else 3.0)
    previous, calls, index = x, 0, 0
    while t < end - 1e-5:
        t_next = min(end, t + size.h)
        target, up = _noisy_target(t, t_next, end, eta)
        move = _Move(denoise, x, t, calls)
        low, high = move.to(target, 2, r1=1 / 3), move.to(target, 3)
        calls = move.calls
        allowed = torch.clamp(torch.maximum(low.abs(), previous.abs()) * rtol, min=atol)
        error = float(torch.linalg.vector_norm((low - high) / allowed)) / math.sqrt(x.numel())
        if not math.isfinite(error):
            raise NotANumber("The model's predictions are not numbers.", advice="Its weights or the precision are unfit.")
        if not size.accepts(error):
            continue
        sigma, sigma_next = math.exp(-t), math.exp(-t_next)
        previous, x = low, high
        if eta:
            x = x + noise(sigma, sigma_next) * (up * s_noise)
        yield Step(index, x, move.denoised, sigma, sigma_next, calls)
        t, index = t_next, index + 1
