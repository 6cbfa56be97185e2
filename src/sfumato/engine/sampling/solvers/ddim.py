"""DDIM and its CFG++ form, in the variance-exploding scale, where alphas_cumprod = 1 / (1 + sigma^2)."""

from __future__ import annotations

import math
from collections.abc import Iterator

from torch import Tensor

from sfumato.engine.sampling.solvers.shared import steps_of
from sfumato.engine.sampling.step import Denoise, NoiseSampler, Step


def _split(sigma: float, sigma_next: float, eta: float) -> tuple[float, float]:
    """Level kept from the old noise and level of the fresh noise, equation 16 of Song et al. 2020."""
    alpha, alpha_next = 1 / (1 + sigma**2), 1 / (1 + sigma_next**2)
    fresh = eta * math.sqrt(max((1 - alpha_next) / (1 - alpha) * (1 - alpha / alpha_next), 0.0))
    kept = math.sqrt(max(1 - alpha_next - fresh**2, 0.0))
    return kept / math.sqrt(alpha_next), fresh / math.sqrt(alpha_next)


def ddim(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSampler, *, eta: float = 0.0) -> Iterator[Step]:
    """Denoising diffusion implicit models (Song et al. 2020); eta 1 is DDPM. See `solvers` for the arguments."""
    for i, (sigma, sigma_next) in steps_of(sigmas):
        denoised = denoise(x, sigma, i).denoised
        kept, fresh = _split(sigma, sigma_next, eta)
        x = denoised + (x - denoised) * (kept / sigma)
        if eta:
            x = x + noise(sigma, sigma_next) * fresh
        yield Step(i, x, denoised, sigma, sigma_next, i + 1)


def ddim_cfgpp(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSampler, *, eta: float = 0.0) -> Iterator[Step]:
    """DDIM that returns to the noise of the unconditional prediction, CFG++ (Chung et al. 2024). See `solvers`."""
    for i, (sigma, sigma_next) in steps_of(sigmas):
        denoised, uncond = denoise(x, sigma, i)
        kept, fresh = _split(sigma, sigma_next, eta)
        x = denoised + (x - uncond) * (kept / sigma)
        if eta:
            x = x + noise(sigma, sigma_next) * fresh
        yield Step(i, x, denoised, sigma, sigma_next, i + 1)
