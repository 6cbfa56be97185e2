"""The words that solvers, guidance and noise share: what goes into a step and what comes out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

from torch import Tensor


class Guided(NamedTuple):
    """What a denoiser says about one batch of latents [b, c, h, w].

    Attributes:
        denoised: the estimate of the clean latents under all guidance; what solvers step along.
        uncond: the estimate under the negative prompt alone, for CFG++; the same tensor as `denoised` where there is none.
    """

    denoised: Tensor
    uncond: Tensor


class Denoise(Protocol):
    """Estimates clean latents from noisy ones. Guidance, masks and plug-ins are functions from `Denoise` to `Denoise`."""

    def __call__(self, x: Tensor, sigma: float, call: int) -> Guided:
        """One evaluation.

        Args:
            x: noisy latents [b, c, h, w] in the variance-exploding scale: clean + sigma * noise.
            sigma: their noise level, the same for the whole batch.
            call: how many evaluations this run has made before; prompt schedules count in it.
        """
        ...


class NoiseSampler(Protocol):
    """Where a solver's fresh noise comes from."""

    def __call__(self, sigma: float, sigma_next: float) -> Tensor:
        """Noise of unit variance [b, c, h, w] for the way from `sigma` to `sigma_next`.

        A source that only counts its draws ignores the levels; a Brownian one needs them.
        """
        ...


@dataclass(frozen=True, slots=True)
class Step:
    """What a solver yields after each step. Its tensors are never written to afterwards, so they may be kept without a copy.

    Attributes:
        index: from 0.
        x: the latents after the step [b, c, h, w].
        denoised: the estimate of the clean latents that the step used; what a preview shows.
        sigma: the noise level before the step.
        sigma_next: the noise level of `x`.
        calls: evaluations of the denoiser made so far.
    """

    index: int
    x: Tensor
    denoised: Tensor
    sigma: float
    sigma_next: float
    calls: int
