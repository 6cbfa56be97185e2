"""Signed distance functions of the shapes: negative inside, positive outside.

Each takes local coordinates x (to the right) and y (downwards) of any shape, in units of half the shape's size, and gives
the distance to the outline in the same unit, exact near the outline, which is all that anti-aliasing needs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from sfumato.registry import Registry

Sdf = Callable[[Tensor, Tensor], Tensor]
"""x, y -> signed distance."""

shapes: Registry[Sdf] = Registry("shape")
"""Every shape by its English name."""


def _shape(name: str) -> Callable[[Sdf], Sdf]:
    return lambda function: shapes.add(name, function)


def _box(x: Tensor, y: Tensor, width: float, height: float) -> Tensor:
    """Half sides `width` and `height`."""
    return torch.maximum(x.abs() - width, y.abs() - height)


def _disc(x: Tensor, y: Tensor, radius: float) -> Tensor:
    return torch.hypot(x, y) - radius


def _fold(x: Tensor, y: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Polar coordinates folded into half of one of `count` equal sectors, the first of which points up."""
    sector = 2.0 * math.pi / count
    angle = torch.atan2(x, -y)
    return torch.hypot(x, y), (torch.remainder(angle + sector / 2.0, sector) - sector / 2.0).abs()


def _polygon(x: Tensor, y: Tensor, count: int, radius: float) -> Tensor:
    """Regular polygon with a corner on top."""
    distance, angle = _fold(x, y, count)
    return distance * torch.cos(math.pi / count - angle) - radius * math.cos(math.pi / count)


@_shape("circle")
def circle(x: Tensor, y: Tensor) -> Tensor:
    """A disc."""
    return _disc(x, y, 0.92)


@_shape("square")
def square(x: Tensor, y: Tensor) -> Tensor:
    """A square on its side, its corners slightly rounded."""
    return _box(x, y, 0.82, 0.82)


@_shape("triangle")
def triangle(x: Tensor, y: Tensor) -> Tensor:
    """Equilateral, pointing up."""
    return _polygon(x, y - 0.24, 3, 1.12)


@_shape("star")
def star(x: Tensor, y: Tensor) -> Tensor:
    """Five points."""
    distance, angle = _fold(x, y - 0.06, 5)
    outer, inner, half = 1.05, 0.48, math.pi / 5.0
    ex, ey = inner * math.cos(half) - outer, inner * math.sin(half)
    length = math.hypot(ex, ey)
    return (ey * (distance * torch.cos(angle) - outer) - ex * distance * torch.sin(angle)) / length


@_shape("heart")
def heart(x: Tensor, y: Tensor) -> Tensor:
    """A square on its corner with a half disc on each upper side."""
    side = 0.545
    x, y = x.abs(), y - 0.09
    u, v = (x + y) * math.sqrt(0.5), (y - x) * math.sqrt(0.5)
    lobe = _disc(x - side * math.sqrt(0.5), y + side * math.sqrt(0.5), side)
    return torch.minimum(_box(u, v, side, side), lobe)


@_shape("ring")
def ring(x: Tensor, y: Tensor) -> Tensor:
    """A disc with a round hole."""
    return (torch.hypot(x, y) - 0.69).abs() - 0.24


@_shape("cross")
def cross(x: Tensor, y: Tensor) -> Tensor:
    """An upright plus."""
    return torch.minimum(_box(x, y, 0.92, 0.3), _box(x, y, 0.3, 0.92))


@_shape("hexagon")
def hexagon(x: Tensor, y: Tensor) -> Tensor:
    """Six sides, flat on top and at the bottom."""
    return _polygon(y, x, 6, 0.97)


@_shape("arrow")
def arrow(x: Tensor, y: Tensor) -> Tensor:
    """Pointing to the right."""
    shaft = _box(x + 0.42, y, 0.52, 0.25)
    slope = math.sqrt(0.5)
    head = torch.maximum((x + y.abs()) * slope - 0.95 * slope, 0.05 - x)
    return torch.minimum(shaft, head)


@_shape("crescent")
def crescent(x: Tensor, y: Tensor) -> Tensor:
    """A moon that is open to the right."""
    return torch.maximum(_disc(x - 0.12, y, 0.94), 0.78 - torch.hypot(x - 0.5, y))


@_shape("diamond")
def diamond(x: Tensor, y: Tensor) -> Tensor:
    """Taller than wide, standing on a corner."""
    wide, tall = 0.68, 0.98
    return (x.abs() * tall + y.abs() * wide - wide * tall) / math.hypot(wide, tall)


@_shape("oval")
def oval(x: Tensor, y: Tensor) -> Tensor:
    """An ellipse, wider than tall."""
    wide, tall = 0.96, 0.6
    scaled = torch.hypot(x / wide, y / tall)
    return scaled * (scaled - 1.0) / torch.hypot(x / wide**2, y / tall**2).clamp(min=1e-4)


@_shape("drop")
def drop(x: Tensor, y: Tensor) -> Tensor:
    """A drop of water: a disc with a tip on top."""
    radius, low, tip = 0.6, 0.36, -0.98
    sine = radius / (low - tip)
    cosine = math.sqrt(1.0 - sine**2)
    cone = torch.maximum(x.abs() * cosine - (y - tip) * sine, y - (low - radius * sine))
    return torch.minimum(_disc(x, y - low, radius), cone)


@_shape("semicircle")
def semicircle(x: Tensor, y: Tensor) -> Tensor:
    """The upper half of a disc."""
    return torch.maximum(_disc(x, y - 0.46, 0.94), y - 0.46)


@cache
def extent(name: str) -> tuple[float, float]:
    """Top and bottom of a shape in its local coordinates."""
    line = torch.linspace(-1.2, 1.2, 481)
    y, x = torch.meshgrid(line, line, indexing="ij")
    rows = line[(shapes[name](x, y) < 0.0).any(dim=1)]
    return float(rows[0]), float(rows[-1])
