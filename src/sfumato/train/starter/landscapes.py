"""Landscapes: a sky, what is in it, and ridges of ground before it, all from a few numbers and a seed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from sfumato.registry import Registry
from sfumato.train.starter import noise
from sfumato.train.starter.grid import Grid, blend, colours
from sfumato.train.starter.scene import Backdrop

Line = Literal["hills", "peaks", "trees", "waves", "skyline"]


@dataclass(frozen=True, slots=True)
class Ridge:
    """One layer of ground.

    Attributes:
        line: how its upper edge runs.
        top: where its highest point is, 0 at the top of the picture and 1 at the bottom.
        rise: how far the edge goes down from there.
        colour: at the edge; `foot` at the bottom of the picture.
    """

    line: Line
    top: float
    rise: float
    cells: int
    colour: str
    foot: str


@dataclass(frozen=True, slots=True)
class Landscape:
    """A kind of scenery.

    Attributes:
        sky: colours as hexadecimal digits from the top of the picture to the horizon.
        ridges: from far to near.
        light: the colour of its sun and clouds.
    """

    sky: tuple[str, str, str]
    ridges: tuple[Ridge, ...]
    light: tuple[str, str] = ("ffe27a", "ffffff")


landscapes: Registry[Landscape] = Registry("landscape")
"""Every landscape by the word that captions use."""

landscapes.add("sky", Landscape(("4aa3ec", "86c8f7", "d3efff"), ()))
landscapes.add(
    "hills",
    Landscape(
        ("62b5f2", "9bd4fa", "e4f6ff"),
        (Ridge("hills", 0.5, 0.2, 4, "8fcf7a", "7cc069"), Ridge("hills", 0.64, 0.2, 3, "5fb35a", "3f9447")),
    ),
)
landscapes.add("sea", Landscape(("58aeee", "93cef5", "e6f5fb"), (Ridge("waves", 0.56, 0.012, 14, "2f8fcf", "15568f"),)))
landscapes.add(
    "beach",
    Landscape(
        ("5cb8f0", "a2daf6", "e9f7fb"),
        (Ridge("waves", 0.48, 0.01, 12, "38a7cf", "2787b8"), Ridge("hills", 0.68, 0.1, 2, "f6dfa3", "e7c47c")),
    ),
)
landscapes.add(
    "desert",
    Landscape(
        ("7fc3ea", "c4e2ee", "fbeed3"),
        (Ridge("hills", 0.56, 0.16, 3, "edc37a", "e2ad5e"), Ridge("hills", 0.7, 0.18, 2, "e0a552", "c98438")),
    ),
)
landscapes.add(
    "forest",
    Landscape(
        ("a8dcf0", "cdeef0", "eef8e6"),
        (
            Ridge("trees", 0.42, 0.2, 13, "6fae7c", "5d9c6c"),
            Ridge("trees", 0.5, 0.24, 10, "3f8a53", "2f7444"),
            Ridge("trees", 0.62, 0.26, 8, "1f5f38", "154427"),
        ),
    ),
)
landscapes.add(
    "mountains",
    Landscape(
        ("5b9fdc", "9fcbef", "e8f3fb"),
        (
            Ridge("peaks", 0.3, 0.32, 6, "9fb2cb", "b9c9dc"),
            Ridge("peaks", 0.46, 0.3, 7, "6f86a6", "7f97b5"),
            Ridge("hills", 0.74, 0.12, 3, "5d9d63", "3f7d4c"),
        ),
    ),
)
landscapes.add(
    "snow",
    Landscape(
        ("9cc3e2", "c4dcee", "eef5fa"),
        (
            Ridge("trees", 0.5, 0.18, 12, "8fb0c4", "a9c4d4"),
            Ridge("hills", 0.64, 0.14, 3, "ffffff", "d6e6f2"),
        ),
        ("fff3c4", "ffffff"),
    ),
)
landscapes.add(
    "sunset",
    Landscape(
        ("4b3a8c", "e0637a", "ffc46b"),
        (Ridge("hills", 0.6, 0.16, 4, "7a3b6b", "5a2b5a"), Ridge("hills", 0.74, 0.16, 3, "46214f", "2c1538")),
        ("fff0a8", "f7a58c"),
    ),
)
landscapes.add(
    "night",
    Landscape(
        ("0b1436", "182a5c", "33508f"),
        (Ridge("hills", 0.62, 0.16, 4, "1a2f55", "14264a"), Ridge("hills", 0.76, 0.16, 3, "0f1c3a", "0a1229")),
        ("fdf4cf", "53689c"),
    ),
)
landscapes.add(
    "city",
    Landscape(
        ("7db4e6", "b5d6f2", "f4ead9"),
        (Ridge("skyline", 0.36, 0.4, 11, "a9bacd", "bccada"), Ridge("skyline", 0.5, 0.36, 9, "5f7592", "7388a3")),
    ),
)


def rgb(code: str) -> tuple[float, float, float]:
    """Six hexadecimal digits -> red, green and blue in 0..1."""
    red, green, blue = (int(code[i : i + 2], 16) / 255.0 for i in (0, 2, 4))
    return (red, green, blue)


def _sky(kinds: list[Landscape], grid: Grid) -> Tensor:
    """Three colours from top to horizon, [n, 3, h, w]."""
    down = (grid.y / grid.down / 0.72).clamp(max=1.0)[:, None]
    first, second, third = (colours([rgb(kind.sky[i]) for kind in kinds], grid) for i in range(3))
    upper = torch.lerp(first, second, (down * 2.0).clamp(max=1.0))
    return torch.lerp(upper, third.expand_as(upper), (down * 2.0 - 1.0).clamp(min=0.0).expand_as(upper))


def _edge(ridge: Ridge, seeds: Tensor, grid: Grid, salt: int) -> Tensor:
    """Height of a ridge's upper edge, [n, 1, w], 0 at the top of the picture."""
    cells = max(2, round(ridge.cells * grid.across))
    if ridge.line == "hills":
        curve = noise.ridge(seeds, cells, grid.width, salt)
    elif ridge.line == "peaks":
        curve = 1.0 - noise.peaks(seeds, cells, grid.width, salt)
    elif ridge.line == "trees":
        along = grid.x[:, 0] / grid.across * cells + noise.white(seeds, 1, 1, salt)[:, 0]
        cone = (along.remainder(1.0) - 0.5).abs() * 2.0
        tall = noise.white(seeds, 1, cells + 2, salt + 7)[:, 0]
        curve = 0.55 * cone + 0.45 * tall.gather(1, along.floor().long().clamp(0, cells + 1))
    elif ridge.line == "waves":
        phase = noise.white(seeds, 1, 1, salt)[:, 0] * 2.0 * math.pi
        curve = torch.sin(grid.x[:, 0] * cells * 2.0 + phase) * 0.5 + 0.5
    else:
        blocks = noise.white(seeds, 1, cells, salt)[:, 0]
        curve = blocks.gather(1, (grid.x[:, 0] / grid.across * cells).floor().long().clamp(0, cells - 1).expand(len(seeds), -1))
    return (ridge.top + curve * ridge.rise)[:, None, :]


def _ground(picture: Tensor, kinds: list[Landscape], seeds: Tensor, grid: Grid) -> Tensor:
    """Draw the ridges of every picture, far ones first."""
    for layer in range(max((len(kind.ridges) for kind in kinds), default=0)):
        groups: dict[Ridge, list[int]] = {}
        for number, kind in enumerate(kinds):
            if layer < len(kind.ridges):
                groups.setdefault(kind.ridges[layer], []).append(number)
        for ridge, members in groups.items():
            top = _edge(ridge, seeds[members], grid, layer * 100)
            down = grid.y / grid.down
            share = ((down - ridge.top) / (1.0 - ridge.top)).clamp(0.0, 1.0)[:, None]
            first, foot = (colours([rgb(code)], grid) for code in (ridge.colour, ridge.foot))
            cover = grid.cover((top - down) * grid.down)
            picture[members] = blend(picture[members], first + (foot - first) * share, cover)
    return picture


def _glow(picture: Tensor, kinds: list[Landscape], seeds: Tensor, grid: Grid) -> Tensor:
    """A sun with a soft halo."""
    x, y, _ = _place(seeds, grid)
    distance = torch.hypot(grid.x - x, grid.y - y)
    light = colours([rgb(kind.light[0]) for kind in kinds], grid)
    picture = blend(picture, light, (1.0 - distance / 0.3).clamp(min=0.0) ** 2 * 0.5)
    return blend(picture, light, grid.cover(distance - 0.085))


def _moon(picture: Tensor, kinds: list[Landscape], seeds: Tensor, grid: Grid) -> Tensor:
    """A crescent."""
    x, y, _ = _place(seeds, grid)
    distance = torch.hypot(grid.x - x, grid.y - y)
    shade = torch.hypot(grid.x - x - 0.045, grid.y - y + 0.015)
    cover = grid.cover(torch.maximum(distance - 0.09, 0.075 - shade))
    return blend(picture, colours([rgb("fdf4cf")] * len(kinds), grid), cover)


def _place(seeds: Tensor, grid: Grid) -> tuple[Tensor, Tensor, Tensor]:
    """Where sun or moon stand: x, y [n, 1, 1], and a spare random number."""
    draws = noise.white(seeds, 1, 3, 900)
    x = (0.14 + 0.72 * draws[:, :, :1]) * grid.across
    return x, (0.1 + 0.14 * draws[:, :, 1:2]) * grid.down, draws[:, :, 2:]


def _clouds(picture: Tensor, kinds: list[Landscape], seeds: Tensor, grid: Grid) -> Tensor:
    """Three clouds of three discs each with a flat base."""
    light = colours([rgb(kind.light[1]) for kind in kinds], grid)
    draws = noise.white(seeds, 3, 3, 700)
    for number in range(3):
        x = ((number + 0.15 + 0.7 * draws[:, number, 0]) / 3.0 * grid.across)[:, None, None]
        y = ((0.1 + 0.24 * draws[:, number, 1]) * grid.down)[:, None, None]
        scale = (0.75 + 0.5 * draws[:, number, 2])[:, None, None]
        u, v = (grid.x - x) / scale, (grid.y - y) / scale
        puffs = torch.minimum(torch.hypot(u + 0.07, v) - 0.045, torch.hypot(u - 0.075, v) - 0.04)
        puffs = torch.minimum(puffs, torch.hypot(u, v + 0.03) - 0.065)
        picture = blend(picture, light, grid.cover(torch.maximum(puffs, v - 0.03) * scale) * 0.92)
    return picture


def _speckles(picture: Tensor, seeds: Tensor, grid: Grid, *, cells: int, radius: float, down_to: float, salt: int) -> Tensor:
    """White discs, one at a random place of most cells of a lattice."""
    columns, rows = max(1, round(cells * grid.across)), max(1, round(cells * grid.down))
    u, v = grid.x / grid.across * columns, grid.y / grid.down * rows
    index = (v.floor().long().clamp(0, rows - 1) * columns + u.floor().long().clamp(0, columns - 1)).flatten(1)
    draws = [
        noise.white(seeds, rows, columns, salt + i).flatten(1).gather(1, index.expand(len(seeds), -1)).view(-1, *u.shape[1:])
        for i in range(3)
    ]
    size = radius * (0.5 + draws[2])
    distance = torch.hypot(u.remainder(1.0) - 0.3 - 0.4 * draws[0], v.remainder(1.0) - 0.3 - 0.4 * draws[1]) / cells - size
    shown = (draws[2] > 0.35) & (grid.y / grid.down < down_to)
    return blend(picture, picture.new_ones(1, 3, 1, 1), grid.cover(distance) * shown)


def _stars(picture: Tensor, kinds: list[Landscape], seeds: Tensor, grid: Grid) -> Tensor:
    """Small stars in the upper part of the sky."""
    return _speckles(picture, seeds, grid, cells=7, radius=0.008, down_to=0.6, salt=500)


def _snowfall(picture: Tensor, kinds: list[Landscape], seeds: Tensor, grid: Grid) -> Tensor:
    """Flakes everywhere."""
    return _speckles(picture, seeds, grid, cells=9, radius=0.013, down_to=2.0, salt=520)


def _rain(picture: Tensor, kinds: list[Landscape], seeds: Tensor, grid: Grid) -> Tensor:
    """Slanted streaks over a duller picture."""
    columns, rows = 22, 6
    u = (grid.x + grid.y * 0.25) * columns
    v = grid.y * rows + noise.white(seeds, 1, 64, 540)[:, 0].gather(
        1, (u.floor().long() % 64).flatten(1).expand(len(seeds), -1)
    ).view(-1, *u.shape[1:])
    streak = grid.cover(((u.remainder(1.0) - 0.5).abs() - 0.09) / columns) * (v.remainder(1.0) < 0.45)
    grey = picture.mean(dim=1, keepdim=True)
    return blend(torch.lerp(picture, grey.expand_as(picture) * 0.85, 0.5), colours([(0.85, 0.92, 1.0)], grid), streak * 0.75)


Extra = Callable[[Tensor, list[Landscape], Tensor, Grid], Tensor]

_BEHIND: tuple[tuple[str, Extra], ...] = (("stars", _stars), ("sun", _glow), ("moon", _moon), ("clouds", _clouds))
_BEFORE: tuple[tuple[str, Extra], ...] = (("rain", _rain), ("snowfall", _snowfall))


def draw_landscapes(backdrops: list[Backdrop], grid: Grid) -> Tensor:
    """Pictures [n, 3, h, w] of the scenery alone."""
    kinds = [landscapes[backdrop.kind] for backdrop in backdrops]
    seeds = noise.seeds_of([backdrop.seed for backdrop in backdrops], grid.device)
    picture = _sky(kinds, grid)
    for stage in (_BEHIND, _BEFORE):
        for name, draw in stage:
            members = [i for i, backdrop in enumerate(backdrops) if name in backdrop.extras]
            if members:
                picture[members] = draw(picture[members], [kinds[i] for i in members], seeds[members], grid)
        if stage is _BEHIND:
            picture = _ground(picture, kinds, seeds, grid)
    return picture
