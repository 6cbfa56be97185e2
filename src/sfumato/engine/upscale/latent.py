"""Latent upscale modes: enlarging the latents themselves between the two passes of a hires fix."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from sfumato.registry import Registry


@dataclass(frozen=True, slots=True)
class LatentUpscaler:
    """An interpolation of `torch.nn.functional.interpolate`, with or without antialiasing."""

    mode: str
    antialias: bool = False

    def __call__(self, latents: Tensor, height: int, width: int) -> Tensor:
        """Latents [b, c, h, w] at `height` x `width` cells."""
        return F.interpolate(latents, size=(height, width), mode=self.mode, antialias=self.antialias)


LATENT_UPSCALERS: Registry[LatentUpscaler] = Registry("latent upscaler")
LATENT_UPSCALERS.add("Latent", LatentUpscaler("bilinear"))
LATENT_UPSCALERS.add("Latent (antialiased)", LatentUpscaler("bilinear", antialias=True))
LATENT_UPSCALERS.add("Latent (bicubic)", LatentUpscaler("bicubic"))
LATENT_UPSCALERS.add("Latent (bicubic antialiased)", LatentUpscaler("bicubic", antialias=True))
LATENT_UPSCALERS.add("Latent (nearest)", LatentUpscaler("nearest"))
LATENT_UPSCALERS.add("Latent (nearest-exact)", LatentUpscaler("nearest-exact"))
