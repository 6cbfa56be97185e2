"""Draw plain and gradient backdrops; landscapes are next door."""

from __future__ import annotations

import torch
from torch import Tensor

from sfumato.train.starter.grid import Grid, colours
from sfumato.train.starter.landscapes import draw_landscapes, landscapes
from sfumato.train.starter.palette import COLOURS
from sfumato.train.starter.scene import Backdrop


def _rgb(name: str | None) -> tuple[float, float, float]:
    return COLOURS[name or "white"].rgb


def _gradients(backdrops: list[Backdrop], grid: Grid) -> Tensor:
    """[n, 3, h, w]; "vertical" runs from the first colour on top to the second at the bottom, "radial" from the middle out."""
    down, across = grid.y / grid.down, grid.x / grid.across
    radius = torch.hypot(grid.x - grid.across / 2.0, grid.y - grid.down / 2.0) / 0.75
    ways = {"vertical": down.expand_as(grid.x), "horizontal": across.expand_as(grid.x), "radial": radius.clamp(max=1.0)}
    share = torch.stack([ways[backdrop.direction] for backdrop in backdrops])
    first = colours([_rgb(backdrop.colour) for backdrop in backdrops], grid)
    second = colours([_rgb(backdrop.second) for backdrop in backdrops], grid)
    return first + (second - first) * share


def draw_backdrops(backdrops: list[Backdrop], grid: Grid) -> Tensor:
    """Pictures [n, 3, h, w] in 0..1 of the backdrops alone."""
    first = colours([_rgb(backdrop.colour) for backdrop in backdrops], grid)
    picture = first.expand(-1, -1, grid.height, grid.width).contiguous()
    gradients = [i for i, backdrop in enumerate(backdrops) if backdrop.kind == "gradient"]
    if gradients:
        picture[gradients] = _gradients([backdrops[i] for i in gradients], grid)
    scenery = [i for i, backdrop in enumerate(backdrops) if backdrop.kind in landscapes]
    if scenery:
        picture[scenery] = draw_landscapes([backdrops[i] for i in scenery], grid)
    return picture
