"""Sampling of latent consistency models."""

from __future__ import annotations

import math
from collections.abc import Iterator

from torch import Tensor

from sfumato.engine.sampling.levels import NoiseLevels
from sfumato.engine.sampling.solvers.shared import steps_of
from sfumato.engine.sampling.step import Denoise, Guided, NoiseSampler, Step

_SIGMA_DATA = 0.5
_TIMESTEP_SCALING = 10.0


def lcm(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSampler) -> Iterator[Step]:
    """Jump to the estimate and return to the next level with fresh noise (Luo et al. 2023). See `solvers`."""
    for i, (sigma, sigma_next) in steps_of(sigmas):
        denoised = denoise(x, sigma, i).denoised
        x = denoised + noise(sigma, sigma_next) * sigma_next if sigma_next > 0 else denoised
        yield Step(i, x, denoised, sigma, sigma_next, i + 1)


def boundary(denoise: Denoise, levels: NoiseLevels) -> Denoise:
    """The denoiser with the boundary condition of consistency models: close to timestep 0 it gives back its input.

    Args:
        denoise: the plain estimate.
        levels: the mapping from sigma to timestep that the model was distilled with.
    """

    def bounded(x: Tensor, sigma: float, call: int) -> Guided:
        scaled = levels.sigma_to_t(sigma) * _TIMESTEP_SCALING
        skip = _SIGMA_DATA**2 / (scaled**2 + _SIGMA_DATA**2)
        out = scaled / math.sqrt(scaled**2 + _SIGMA_DATA**2)
        denoised, uncond = denoise(x, sigma, call)
        kept = x * skip
        return Guided(denoised * out + kept, uncond * out + kept)

    return bounded
