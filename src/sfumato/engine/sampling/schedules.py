"""Schedules: how the noise levels of a run are spaced. Twelve of them, by the labels and names of A1111."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from sfumato.engine.sampling import beta
from sfumato.engine.sampling.levels import NoiseLevels
from sfumato.registry import Registry

_STEPS_SD = (14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029)
_STEPS_SDXL = (14.615, 6.315, 3.771, 2.181, 1.342, 0.862, 0.555, 0.380, 0.234, 0.113, 0.029)


@dataclass(frozen=True, slots=True)
class Span:
    """What a schedule is spread over.

    Attributes:
        levels: the model's noise levels.
        sigma_min, sigma_max: the range asked for; schedules made of the model's own levels ignore it.
        rho: exponent of the Karras schedules.
        alpha, beta: parameters of the Beta schedule.
        sdxl: the model is of the SDXL family; Align Your Steps has another table for it.
    """

    levels: NoiseLevels
    sigma_min: float
    sigma_max: float
    rho: float = 0.0
    alpha: float = 0.6
    beta: float = 0.6
    sdxl: bool = False


Spread: TypeAlias = Callable[[int, Span], list[float]]
"""A schedule's function: number of steps (>= 1) and span to descending sigmas."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """A named way to space noise levels.

    Attributes:
        label: display name.
        name: name in lower case, as the API writes it.
        spread: the function, or None for "the sampler's own".
        rho: default exponent, or None where it has none.
        model_levels: it needs the model's table of levels, not only the range.
        summary: what it does.
    """

    label: str
    name: str
    spread: Spread | None
    summary: str
    rho: float | None = None
    model_levels: bool = False


def _linspace(start: float, end: float, n: int) -> list[float]:
    """`n` evenly spaced values from `start` to `end`; only `start` for n = 1."""
    return [start + (end - start) * i / max(n - 1, 1) for i in range(n)]


def uniform(n: int, span: Span) -> list[float]:
    """Even timesteps over all of the model's range (k-diffusion's default), then 0."""
    levels = span.levels
    first, last = levels.sigma_to_t(levels.sigma_max), levels.sigma_to_t(levels.sigma_min)
    return [*(levels.t_to_sigma(t) for t in _linspace(first, last, n)), 0.0]


def karras(n: int, span: Span) -> list[float]:
    """Even in sigma^(1/rho), then 0; equation 5 of Karras et al. 2022."""
    ramp = _linspace(span.sigma_max ** (1 / span.rho), span.sigma_min ** (1 / span.rho), n)
    return [*(value**span.rho for value in ramp), 0.0]


def exponential(n: int, span: Span) -> list[float]:
    """Even in log sigma, then 0."""
    return [*map(math.exp, _linspace(math.log(span.sigma_max), math.log(span.sigma_min), n)), 0.0]


def polyexponential(n: int, span: Span) -> list[float]:
    """A power of an even ramp in log sigma, then 0."""
    low, high = math.log(span.sigma_min), math.log(span.sigma_max)
    return [*(math.exp(low + (high - low) * value**span.rho) for value in _linspace(1, 0, n)), 0.0]


def sgm_uniform(n: int, span: Span) -> list[float]:
    """Even timesteps without the last one, then 0; the spacing of Stability's generative-models."""
    start, end = map(span.levels.sigma_to_t, (span.sigma_max, span.sigma_min))
    return [*(span.levels.t_to_sigma(t) for t in _linspace(start, end, n + 1)[:-1]), 0.0]


def kl_optimal(n: int, span: Span) -> list[float]:
    """Even in the arc tangent of sigma; n + 1 levels down to the lowest, no 0 (Sabour et al. 2024, appendix)."""
    return [math.tan(angle) for angle in _linspace(math.atan(span.sigma_max), math.atan(span.sigma_min), n + 1)]


def align_your_steps(n: int, span: Span) -> list[float]:
    """The optimised levels of Sabour et al. 2024, interpolated in log sigma, then 0."""
    logs = np.log(_STEPS_SDXL if span.sdxl else _STEPS_SD)
    # Read from the low end, so that a single step is the lowest level.
    at = np.array(_linspace(0, 1, n))
    return [*np.exp(np.interp(at, np.linspace(0, 1, len(logs)), logs[::-1]))[::-1].tolist(), 0.0]


def simple(n: int, span: Span) -> list[float]:
    """Every (levels / n)-th of the model's levels from the top, then 0."""
    sigmas, stride = span.levels.sigmas, len(span.levels) / n
    return [*(float(sigmas[-(1 + int(i * stride))]) for i in range(n)), 0.0]


def normal(n: int, span: Span) -> list[float]:
    """Even timesteps between the ends of the range, then 0."""
    start, end = map(span.levels.sigma_to_t, (span.sigma_max, span.sigma_min))
    return [*(span.levels.t_to_sigma(t) for t in _linspace(start, end, n)), 0.0]


def ddim(n: int, span: Span) -> list[float]:
    """Every (levels // n)-th of the model's levels from the second, then 0; may have one level more than asked for."""
    stride = max(len(span.levels) // n, 1)
    return [*span.levels.sigmas[1::stride][::-1].tolist(), 0.0]


def beta_quantiles(n: int, span: Span) -> list[float]:
    """Quantiles of a Beta distribution between lowest and highest sigma, then 0 (Lee et al. 2024)."""
    width = span.sigma_max - span.sigma_min
    return [*(span.sigma_min + width * beta.quantile(p, span.alpha, span.beta) for p in _linspace(1, 0, n)), 0.0]


schedules: Registry[Schedule] = Registry("schedule")
"""All schedules by label; names and aliases are found too."""

for _schedule, *_aliases in (
    (Schedule("Automatic", "automatic", None, "the sampler's own schedule"),),
    (Schedule("Uniform", "uniform", uniform, "even timesteps", model_levels=True),),
    (Schedule("Karras", "karras", karras, "even in the rho-th root of sigma", rho=7.0),),
    (Schedule("Exponential", "exponential", exponential, "even in log sigma"),),
    (Schedule("Polyexponential", "polyexponential", polyexponential, "a power of an even ramp in log sigma", rho=1.0),),
    (Schedule("SGM Uniform", "sgm_uniform", sgm_uniform, "even timesteps without the last", model_levels=True), "SGMUniform"),
    (Schedule("KL Optimal", "kl_optimal", kl_optimal, "even in the arc tangent of sigma"),),
    (Schedule("Align Your Steps", "align_your_steps", align_your_steps, "levels optimised for SD 1.5 or SDXL"),),
    (Schedule("Simple", "simple", simple, "every k-th level of the model", model_levels=True),),
    (Schedule("Normal", "normal", normal, "even timesteps, both ends included", model_levels=True),),
    (Schedule("DDIM", "ddim", ddim, "every k-th level of the model from the second", model_levels=True),),
    (Schedule("Beta", "beta", beta_quantiles, "quantiles of a Beta distribution", model_levels=True),),
):
    schedules.add(_schedule.label, _schedule, _schedule.name, *_aliases)
