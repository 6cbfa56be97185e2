"""Pictures of unfinished latents for nothing: one linear map from latent channels to colours, without any network."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from sfumato.engine.models.vae import AutoencoderKL
from sfumato.registry import Registry

Colour = tuple[float, float, float]
"""Red, green and blue, 1.0 being the difference between mid-grey and white."""


@dataclass(frozen=True, slots=True)
class LatentToRGB:
    """Approximate colours as weighted sums of the latent channels.

    Attributes:
        factors: the colour that one unit of each latent channel adds.
        bias: the colour of an all-zero latent.
    """

    factors: tuple[Colour, ...]
    bias: Colour = (0.0, 0.0, 0.0)

    def __call__(self, latents: Tensor) -> Tensor:
        """Latents as the UNet sees them [b, c, h, w] -> pixels [b, 3, h, w] in -1..1, one per latent cell."""
        factors = latents.new_tensor(self.factors)
        colours = torch.einsum("bchw,cr->brhw", latents, factors) + latents.new_tensor(self.bias)[:, None, None]
        return colours.clamp_(-1.0, 1.0)


PREVIEWS: Registry[LatentToRGB] = Registry("preview")
"""Published approximations by model family, for autoencoders that are not at hand to fit one to."""

PREVIEWS.add(
    "sd1",
    # Found by keturn, "Decoding latents to RGB without upscaling", discuss.huggingface.co, 2022.
    LatentToRGB(((0.298, 0.207, 0.208), (0.187, 0.286, 0.173), (-0.158, 0.189, 0.264), (-0.184, -0.271, -0.473))),
    "sd2",
)
PREVIEWS.add(
    "sdxl",
    # T. A. Vass, "Explaining the SDXL latent space", huggingface.co/blog, 2023, there in 0..255.
    LatentToRGB(
        tuple((r / 127.5, g / 127.5, b / 127.5) for r, g, b in ((60, 60, 60), (-60, -5, 10), (25, 15, -5), (-70, -50, -35))),
        (150 / 127.5 - 1, 140 / 127.5 - 1, 130 / 127.5 - 1),
    ),
    "sdxl-refiner",
)


def fit_latent_to_rgb(latents: Tensor, pixels: Tensor) -> LatentToRGB:
    """The linear map with the least squared error.

    Args:
        latents: [b, c, h, w], as the UNet sees them.
        pixels: the pictures they stand for, [b, 3, f*h, f*w] in -1..1; reduced to one colour per cell by averaging.
    """
    height, width = latents.shape[-2:]
    small = F.adaptive_avg_pool2d(pixels.to(torch.float64), (height, width))
    known = latents.to(torch.float64).movedim(1, -1).flatten(0, -2)
    known = torch.cat([known, torch.ones_like(known[:, :1])], dim=1)
    solution = torch.linalg.lstsq(known, small.movedim(1, -1).flatten(0, -2)).solution
    rows: list[Colour] = [(float(r), float(g), float(b)) for r, g, b in solution]
    return LatentToRGB(tuple(rows[:-1]), rows[-1])


@torch.inference_mode()
def fit_to_autoencoder(vae: AutoencoderKL, *, pictures: int = 8, side: int = 64) -> LatentToRGB:
    """The linear map for one autoencoder, from what it makes of smooth pictures in all colours.

    Args:
        pictures: how many to encode; always the same ones.
        side: their width and height in pixels.
    """
    weight = next(vae.parameters())
    generator = torch.Generator().manual_seed(0)
    patches = torch.rand((pictures, 3, 4, 4), generator=generator) * 2 - 1
    charts = F.interpolate(patches, size=(side, side), mode="bilinear").to(weight)
    return fit_latent_to_rgb(vae.to_latents(vae.encode(charts).mean).cpu(), charts.cpu())
