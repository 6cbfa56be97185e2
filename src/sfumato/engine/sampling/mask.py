"""Inpainting with any model: the part of the latents outside the mask is put back at every evaluation."""

from __future__ import annotations

import math

from torch import Tensor

from sfumato.engine.sampling.step import Denoise, Guided


def keep_after(denoise: Denoise, latents: Tensor, keep: Tensor) -> Denoise:
    """Put `latents` into the estimates, as the samplers on sigmas do.

    Args:
        denoise: what to wrap.
        latents: the clean latents to keep [b or 1, c, h, w].
        keep: 1 where they are kept, 0 where new ones are painted, anything between for a soft edge [b or 1, 1 or c, h, w].
    """
    kept, new = latents * keep, 1 - keep

    def masked(x: Tensor, sigma: float, call: int) -> Guided:
        denoised, uncond = denoise(x, sigma, call)
        return Guided(denoised * new + kept, uncond * new + kept)

    return masked


def keep_before(denoise: Denoise, latents: Tensor, keep: Tensor) -> Denoise:
    """Put `latents` into what the network sees, as the samplers on timesteps do.

    They are put in without noise, at the scale of variance-preserving latents, and the predicted noise is applied to the
    latents as they were; this is how A1111's DDIM family inpaints. See `keep_after` for the arguments.
    """
    kept, new = latents * keep, 1 - keep

    def masked(x: Tensor, sigma: float, call: int) -> Guided:
        seen = x * new + kept * math.sqrt(1 + sigma * sigma)
        difference = x - seen
        denoised, uncond = denoise(seen, sigma, call)
        return Guided(denoised + difference, uncond + difference)

    return masked
