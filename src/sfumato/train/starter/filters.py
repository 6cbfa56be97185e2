"""Filters that styles and defects are made of; pictures are [n, c, h, w] in 0..1."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

_LUMA = (0.299, 0.587, 0.114)


def luma(picture: Tensor) -> Tensor:
    """Brightness [n, 1, h, w] of a colour picture."""
    red, green, blue = picture[:, 0:1], picture[:, 1:2], picture[:, 2:3]
    return red * _LUMA[0] + green * _LUMA[1] + blue * _LUMA[2]


def blur(picture: Tensor, sigma: float) -> Tensor:
    """Gaussian blur with a standard deviation in pixels; the edge pixels continue outside."""
    reach = max(1, min(math.ceil(2.5 * sigma), picture.shape[-1] - 1, picture.shape[-2] - 1))
    steps = torch.arange(-reach, reach + 1, dtype=torch.float32, device=picture.device)
    weights = torch.exp(-0.5 * (steps / max(sigma, 1e-3)) ** 2)
    weights = (weights / weights.sum()).view(1, 1, 1, -1)
    flat = picture.flatten(0, 1)[:, None]
    flat = F.conv2d(F.pad(flat, (reach, reach, 0, 0), mode="replicate"), weights)
    flat = F.conv2d(F.pad(flat, (0, 0, reach, reach), mode="replicate"), weights.transpose(2, 3))
    return flat.view_as(picture)


def dilate(picture: Tensor, reach: int) -> Tensor:
    """The largest value within `reach` pixels, per channel."""
    kernel = 2 * reach + 1
    rows = F.max_pool2d(picture, (1, kernel), 1, (0, reach))
    return F.max_pool2d(rows, (kernel, 1), 1, (reach, 0))


def erode(picture: Tensor, reach: int) -> Tensor:
    """The smallest value within `reach` pixels, per channel."""
    return -dilate(-picture, reach)


def edges(picture: Tensor, reach: int) -> Tensor:
    """How much the colour changes within `reach` pixels, [n, 1, h, w] in 0..1, made steep."""
    change = (dilate(picture, reach) - erode(picture, reach)).amax(dim=1, keepdim=True)
    return ((change - 0.1) * 5.0).clamp_(0.0, 1.0)


def shift(picture: Tensor, right: int, down: int) -> Tensor:
    """Move a picture; what comes in from outside is 0."""
    height, width = picture.shape[-2:]
    return F.pad(picture, (max(right, 0), max(-right, 0), max(down, 0), max(-down, 0)))[
        ..., max(-down, 0) : max(-down, 0) + height, max(-right, 0) : max(-right, 0) + width
    ]


def sample(picture: Tensor, x: Tensor, y: Tensor, mode: str = "bilinear") -> Tensor:
    """Look up pixels at x, y [n, h, w], given as fractions of width and height."""
    where = torch.stack((x * 2.0 - 1.0, y * 2.0 - 1.0), dim=-1).expand(picture.shape[0], -1, -1, -1)
    return F.grid_sample(picture, where, mode=mode, padding_mode="border", align_corners=False)


def mosaic(picture: Tensor, rows: int, columns: int) -> Tensor:
    """Means over a lattice of blocks, shown as blocks of one colour."""
    small = F.interpolate(picture, size=(rows, columns), mode="area")
    return F.interpolate(small, size=picture.shape[-2:], mode="nearest-exact")


def discrete_cosines(size: int, device: torch.device) -> Tensor:
    """The orthonormal cosine transform of a row of `size` numbers, [size, size]."""
    place = torch.arange(size, dtype=torch.float32, device=device)
    table = torch.cos(math.pi / size * (place + 0.5) * place[:, None]) * math.sqrt(2.0 / size)
    return torch.cat((table[:1] * math.sqrt(0.5), table[1:]))
