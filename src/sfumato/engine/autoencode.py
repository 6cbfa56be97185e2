"""Between pictures and latents: the autoencoder with its scale, its checks and its retries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sfumato.engine.models.strips import decode_in_strips, encode_in_strips
from sfumato.engine.models.taesd import TinyDecoder, TinyEncoder
from sfumato.engine.models.vae import AutoencoderKL
from sfumato.errors import NotANumber

STRIPS_ABOVE = 1024 * 1024
"""Pixels from which pictures always go through the autoencoder in strips: a rule of the picture's size alone, so that the
same request gives the same bits on machines with more memory and with less."""


def to_pixels(images: Sequence[Image.Image], *, device: torch.device | str = "cpu") -> Tensor:
    """RGB pictures of one size as a tensor [b, 3, h, w] in -1..1, float32, channels-last."""
    rows = [torch.from_numpy(np.array(image.convert("RGB"))) for image in images]
    pixels = torch.stack(rows).to(device).permute(0, 3, 1, 2)
    return pixels.float().div_(127.5).sub_(1.0)


def to_images(pixels: Tensor) -> list[Image.Image]:
    """A tensor [b, 3, h, w] in -1..1 as RGB pictures; values beyond are clamped, then rounded to the nearest of 256 levels."""
    levels = pixels.float().add(1.0).mul_(127.5).round_().clamp_(0, 255).to("cpu", torch.uint8)
    return [Image.fromarray(row.permute(1, 2, 0).contiguous().numpy()) for row in levels]


def _rows(batch: Tensor) -> list[Tensor]:
    """The pictures of a batch [b, c, h, w], each as a batch of its own."""
    return [batch[row : row + 1] for row in range(batch.shape[0])]


@torch.inference_mode()
def decode(vae: AutoencoderKL, latents: Tensor, *, strips: bool = False) -> Tensor:
    """Pixels [b, 3, f*h, f*w], about -1..1, of latents [b, c, h, w] at the scale of the UNet; one picture at a time.

    A half-precision autoencoder that overflows is run once more in float32.

    Args:
        vae: see `AutoencoderKL`.
        latents: on its device.
        strips: save memory whatever the size is; what is larger than `STRIPS_ABOVE` always goes in strips.

    Raises:
        NotANumber: the result is not finite even then.
    """
    pixels = latents.shape[2] * latents.shape[3] * vae.config.downsampling**2
    run = decode_in_strips if strips or pixels > STRIPS_ABOVE else AutoencoderKL.decode
    return torch.cat([_decode_one(vae, row, run) for row in _rows(latents)])


def _decode_one(vae: AutoencoderKL, latents: Tensor, run: Callable[[AutoencoderKL, Tensor], Tensor]) -> Tensor:
    unscaled = vae.from_latents(latents)
    pixels = run(vae, unscaled.to(vae.dtype))
    if not torch.isfinite(pixels).all() and vae.dtype != torch.float32:
        dtype = vae.dtype
        try:
            pixels = run(vae.float(), unscaled.float())
        finally:
            vae.to(dtype)
    if not torch.isfinite(pixels).all():
        raise NotANumber(
            "The VAE gave pixels that are not numbers.",
            advice="Its weights may be damaged: choose another VAE. Or the latents are too large: lower the CFG scale.",
        )
    return pixels.float()


@torch.inference_mode()
def encode(vae: AutoencoderKL, pixels: Tensor, *, scaled: bool = True, strips: bool = False) -> Tensor:
    """Latents [b, c, h/f, w/f] of pixels [b, 3, h, w] in -1..1: the posterior mean, always the same for a picture.

    Args:
        vae: see `AutoencoderKL`.
        pixels: float32.
        scaled: at the scale of the UNet; instruct-pix2pix models want their picture unscaled.
        strips: as for `decode`.

    Raises:
        NotANumber: the result is not finite.
    """
    run = encode_in_strips if strips or pixels.shape[2] * pixels.shape[3] > STRIPS_ABOVE else AutoencoderKL.encode
    means = [run(vae, row.to(vae.dtype)).mean.float() for row in _rows(pixels)]
    latents = torch.cat(means)
    if not torch.isfinite(latents).all():
        raise NotANumber(
            "The VAE gave latents that are not numbers.",
            advice="Its weights may be damaged: choose another VAE.",
        )
    return vae.to_latents(latents) if scaled else latents


@dataclass(frozen=True, eq=False)
class Codec:
    """What turns pictures into latents and back for one model, as the request chose: the autoencoder or its small stand-ins.

    Attributes:
        vae: of the model.
        encoder, decoder: TAESD's, where they are to be used.
        strips: the autoencoder works in strips whatever the size; pictures above `STRIPS_ABOVE` always do.
    """

    vae: AutoencoderKL
    encoder: TinyEncoder | None = None
    decoder: TinyDecoder | None = None
    strips: bool = False

    @torch.inference_mode()
    def encode(self, images: Sequence[Image.Image]) -> Tensor:
        """Latents [b, c, h/f, w/f], at the scale of the UNet, of pictures of one size."""
        weight = self.vae.quant_conv.weight
        pixels = to_pixels(images, device=weight.device)
        if self.encoder is None:
            return encode(self.vae, pixels, strips=self.strips)
        return torch.cat([self.encoder(row.to(weight.dtype)).float() for row in _rows(pixels)])

    @torch.inference_mode()
    def decode(self, latents: Tensor) -> list[Image.Image]:
        """The pictures of latents [b, c, h, w] at the scale of the UNet."""
        if self.decoder is None:
            return to_images(decode(self.vae, latents, strips=self.strips))
        dtype = self.vae.dtype
        return [image for row in _rows(latents) for image in to_images(self.decoder(row.to(dtype)))]
