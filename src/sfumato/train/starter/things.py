"""Draw shapes: signed distance to coverage, and what a shape is filled with."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from sfumato.train.starter.grid import Grid, colours
from sfumato.train.starter.palette import COLOURS
from sfumato.train.starter.scene import Thing
from sfumato.train.starter.sdf import shapes

_STROKE = 0.2
"""Width of an outline in units of half the shape's size."""


def local(things: list[Thing], grid: Grid) -> tuple[Tensor, Tensor, Tensor]:
    """Coordinates in which each thing is upright and reaches from -1 to 1, each [n, h, w], and half sizes [n, 1, 1]."""
    half = grid.column([thing.size / 2.0 for thing in things])
    x = (grid.x - grid.column([thing.x * grid.across for thing in things])) / half
    y = (grid.y - grid.column([thing.y * grid.down for thing in things])) / half
    if any(thing.angle for thing in things):
        cosine = grid.column([math.cos(thing.angle) for thing in things])
        sine = grid.column([math.sin(thing.angle) for thing in things])
        x, y = x * cosine + y * sine, y * cosine - x * sine
    if any(thing.mirrored for thing in things):
        x = x * grid.column([-1.0 if thing.mirrored else 1.0 for thing in things])
    return x, y, half


def _striped(x: Tensor, y: Tensor, unit: Tensor) -> Tensor:
    wave = ((x + y) * (math.sqrt(0.5) / 0.5) - 0.25).remainder(1.0)
    return (0.5 - ((wave - 0.5).abs() - 0.25) * 0.5 / unit).clamp(0.0, 1.0)


def _dotted(x: Tensor, y: Tensor, unit: Tensor) -> Tensor:
    cell = 0.5
    u, v = (x / cell + 0.5).remainder(1.0) - 0.5, (y / cell + 0.5).remainder(1.0) - 0.5
    return (0.5 - (torch.hypot(u, v) - 0.27) * cell / unit).clamp(0.0, 1.0)


def _checkered(x: Tensor, y: Tensor, unit: Tensor) -> Tensor:
    cell = 0.46
    u = ((x / (2 * cell)).remainder(1.0) - 0.5).abs() - 0.25
    v = ((y / (2 * cell)).remainder(1.0) - 0.5).abs() - 0.25
    horizontal, vertical = ((t * 2 * cell / unit).clamp(-0.5, 0.5) for t in (u, v))
    return 0.5 - 2.0 * horizontal * vertical


def _gradient(x: Tensor, y: Tensor, unit: Tensor) -> Tensor:
    return ((y + 0.25) * 0.85).clamp(0.0, 1.0)


_PATTERNS: Mapping[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = MappingProxyType(
    {"striped": _striped, "dotted": _dotted, "checkered": _checkered, "gradient": _gradient}
)
"""Share of the second colour, 0..1, from local coordinates and the width of a pixel in the same unit."""


def second_colour(thing: Thing) -> tuple[float, float, float]:
    """What the colour of a patterned shape alternates with: a light tint of it."""
    red, green, blue = COLOURS[thing.colour or "white"].rgb
    share = 0.62
    return (red + (1.0 - red) * share, green + (1.0 - green) * share, blue + (1.0 - blue) * share)


def draw_shapes(things: list[Thing], grid: Grid) -> tuple[Tensor, Tensor]:
    """Draw shapes of any names and fills.

    Returns:
        colours [n, 3, h, w] and coverage [n, h, w].
    """
    alpha = torch.empty(len(things), grid.height, grid.width, device=grid.device)
    paint = colours([COLOURS[thing.colour or "white"].rgb for thing in things], grid)
    paint = paint.expand(-1, -1, grid.height, grid.width)
    if any(thing.fill in _PATTERNS for thing in things):
        paint = paint.contiguous()
    groups: dict[tuple[str, str], list[int]] = {}
    for number, thing in enumerate(things):
        groups.setdefault((thing.name, thing.fill), []).append(number)
    for (name, fill), members in groups.items():
        chosen = [things[number] for number in members]
        x, y, half = local(chosen, grid)
        distance = shapes[name](x, y)
        if fill == "outline":
            distance = torch.maximum(distance, -_STROKE - distance)
        alpha[members] = grid.cover(distance * half)
        if fill in _PATTERNS:
            share = _PATTERNS[fill](x, y, 1.0 / (half * grid.side))[:, None]
            other = colours([second_colour(thing) for thing in chosen], grid)
            paint[members] = torch.lerp(
                paint[members], other.expand(-1, -1, grid.height, grid.width), share.expand(-1, 3, -1, -1)
            )
    return paint, alpha
