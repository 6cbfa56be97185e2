"""Random fields that depend on a seed per picture only, the same on every device and in any batch."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

_MASK = 0xFFFFFFFF


def seeds_of(values: list[int], device: torch.device | str = "cpu") -> Tensor:
    """One 32-bit seed per picture as a tensor [n]."""
    return torch.tensor([value & _MASK for value in values], dtype=torch.int64, device=device)


def white(seeds: Tensor, height: int, width: int, salt: int = 0) -> Tensor:
    """Independent uniform numbers in 0..1, [n, height, width] (integer hash with two xor-multiply rounds)."""
    place = torch.arange(height * width, device=seeds.device, dtype=torch.int64)
    mixed = (seeds[:, None] * 0x9E3779B1 + place * 0x85EBCA77 + (salt + 1) * 0xC2B2AE3D) & _MASK
    mixed = ((mixed ^ (mixed >> 15)) * 0x2C1B3C6D) & _MASK
    mixed = ((mixed ^ (mixed >> 12)) * 0x297A2D39) & _MASK
    mixed = mixed ^ (mixed >> 15)
    return (mixed.to(torch.float32) * 2.0**-32).view(-1, height, width)


def gaussian(seeds: Tensor, height: int, width: int, salt: int = 0) -> Tensor:
    """About standard normal numbers [n, height, width]: the scaled sum of three uniform ones."""
    total = white(seeds, height, width, salt) + white(seeds, height, width, salt + 1) + white(seeds, height, width, salt + 2)
    return (total - 1.5) * 2.0


def smooth(seeds: Tensor, cells: tuple[int, int], height: int, width: int, salt: int = 0) -> Tensor:
    """Value noise in 0..1, [n, height, width]: random numbers on a lattice of `cells` (rows, columns), interpolated."""
    rows, columns = cells
    lattice = white(seeds, rows + 1, columns + 1, salt)[:, None]
    return F.interpolate(lattice, size=(height, width), mode="bicubic", align_corners=True)[:, 0]


def ridge(seeds: Tensor, cells: int, width: int, salt: int = 0) -> Tensor:
    """A smooth random curve with values in about 0..1, [n, width]."""
    coarse = smooth(seeds, (1, cells), 2, width, salt)[:, 0]
    fine = smooth(seeds, (1, cells * 3), 2, width, salt + 50)[:, 0]
    return coarse * 0.8 + fine * 0.2


def peaks(seeds: Tensor, cells: int, width: int, salt: int = 0) -> Tensor:
    """A random zigzag with values in 0..1, [n, width]."""
    lattice = white(seeds, 1, cells + 1, salt)
    alternating = torch.arange(cells + 1, device=seeds.device) % 2
    heights = lattice * 0.45 + alternating * 0.55
    return F.interpolate(heights, size=width, mode="linear", align_corners=True)[:, 0]
