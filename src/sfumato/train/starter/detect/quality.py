"""Numbers that describe a picture as a whole: sharpness, and what gives a style away."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from sfumato.train.starter.filters import edges, luma, mosaic


def sharpness(pictures: Tensor) -> Tensor:
    """Variance of the Laplacian of the brightness of [n, 3, h, w] -> [n]; a blurred picture has little."""
    grey = luma(pictures)
    padded = F.pad(grey, (1, 1, 1, 1), mode="replicate")
    around = padded[..., :-2, 1:-1] + padded[..., 2:, 1:-1] + padded[..., 1:-1, :-2] + padded[..., 1:-1, 2:]
    return (around - 4.0 * grey).flatten(1).var(dim=1)


@dataclass(frozen=True, slots=True)
class StyleStatistics:
    """What tells styles apart, each [n].

    Attributes:
        saturation: mean difference of the strongest and the weakest channel; 0 for greyscale.
        brightness: mean brightness; low for neon.
        edge_share: share of pixels at edges.
        paper: share of nearly white pixels; high for line art.
        blocks: mean change within a lattice of 32 x 32 blocks; almost 0 for pixel art.
    """

    saturation: Tensor
    brightness: Tensor
    edge_share: Tensor
    paper: Tensor
    blocks: Tensor


def style_statistics(pictures: Tensor) -> StyleStatistics:
    """Measure pictures [n, 3, h, w] in 0..1."""
    grey = luma(pictures)[:, 0]
    return StyleStatistics(
        saturation=(pictures.amax(dim=1) - pictures.amin(dim=1)).mean(dim=(1, 2)),
        brightness=grey.mean(dim=(1, 2)),
        edge_share=edges(pictures, 1)[:, 0].mean(dim=(1, 2)),
        paper=(pictures.amin(dim=1) > 0.94).float().mean(dim=(1, 2)),
        blocks=(pictures - mosaic(pictures, 32, 32)).abs().mean(dim=(1, 2, 3)),
    )
