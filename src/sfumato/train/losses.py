"""How far pictures are from each other: at every scale, and at their edges."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def pyramid_difference(a: Tensor, b: Tensor, levels: int = 3) -> Tensor:
    """Mean absolute difference of pictures [n, c, h, w] over the levels of a Laplacian pyramid (Burt and Adelson 1983).

    The difference is linear, so the pyramid is made of `a - b`. Each level counts the same: coarse errors, which are few
    numbers, weigh as much as fine ones.
    """
    rest = a - b
    total = rest.new_zeros(())
    for _ in range(levels):
        if min(rest.shape[-2:]) < 4:
            break
        coarse = F.avg_pool2d(rest, 2)
        total = total + (rest - F.interpolate(coarse, size=rest.shape[-2:], mode="nearest")).abs().mean()
        rest = coarse
    return total + rest.abs().mean()


def edge_difference(a: Tensor, b: Tensor) -> Tensor:
    """Mean absolute difference of the steps between neighbouring pixels, across and down."""
    rest = a - b
    return rest.diff(dim=-1).abs().mean() + rest.diff(dim=-2).abs().mean()


def divergence(mean: Tensor, logvar: Tensor) -> Tensor:
    """Kullback-Leibler divergence of normal distributions from the standard one, mean over all values."""
    return 0.5 * (mean.square() + logvar.exp() - 1.0 - logvar).mean()


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB of each pair of pictures [n, c, h, w] in 0..1, as [n]."""
    error = (a - b).square().flatten(1).mean(1)
    return -10.0 * torch.log10(error.clamp_min(1e-10))
