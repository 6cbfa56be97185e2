"""Defects and lighting: what can be wrong with a picture, so that a negative prompt has something to name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn import functional as F

from sfumato.registry import Registry
from sfumato.train.starter import filters, noise
from sfumato.train.starter.grid import Grid, colours


@dataclass(frozen=True, slots=True)
class Defect:
    """Something that is wrong with a picture.

    Attributes:
        words: what captions call it.
    """

    spoil: Callable[[Tensor, Tensor, Grid], Tensor]
    words: tuple[str, ...]


defects: Registry[Defect] = Registry("defect")
"""Every defect by name."""

Spoil = Callable[[Tensor, Tensor, Grid], Tensor]


def _defect(name: str, *words: str) -> Callable[[Spoil], Defect]:
    return lambda spoil: defects.add(name, Defect(spoil, words))


@_defect("blur", "blurry", "out of focus", "blurred")
def _blur(picture: Tensor, seeds: Tensor, grid: Grid) -> Tensor:
    return filters.blur(picture, grid.side / 42.0)


@_defect("jpeg", "jpeg artifacts", "compression artifacts")
def _jpeg(picture: Tensor, seeds: Tensor, grid: Grid) -> Tensor:
    """Blocks of 8 x 8 pixels, at any size of the picture, that lose their high frequencies."""
    table = filters.discrete_cosines(8, picture.device)
    size = (-picture.shape[-2] % 8, -picture.shape[-1] % 8)
    padded = F.pad(picture, (0, size[1], 0, size[0]), mode="replicate")
    n, c, h, w = padded.shape
    blocks = padded.view(n, c, h // 8, 8, w // 8, 8).permute(0, 1, 2, 4, 3, 5)
    place = torch.arange(8, dtype=torch.float32, device=picture.device)
    step = 0.3 + 0.2 * (place[:, None] + place)
    coarse = ((table @ blocks @ table.T) / step).round() * step
    whole = (table.T @ coarse @ table).permute(0, 1, 2, 4, 3, 5).reshape(n, c, h, w)
    return whole[..., : picture.shape[-2], : picture.shape[-1]].clamp(0.0, 1.0)


@_defect("noise", "noisy", "grainy", "dirty")
def _noise(picture: Tensor, seeds: Tensor, grid: Grid) -> Tensor:
    grain = torch.stack([noise.gaussian(seeds, grid.height, grid.width, salt=salt) for salt in (200, 210, 220)], dim=1)
    return (picture + 0.13 * grain).clamp(0.0, 1.0)


@_defect("watermark", "watermark", "watermarked")
def _watermark(picture: Tensor, seeds: Tensor, grid: Grid) -> Tensor:
    """The word SAMPLE across the picture, repeated and slanted."""
    columns = len(_LETTERS[0])
    u = (grid.x + grid.y * 0.35) * 62.0
    v = (grid.y - grid.x * 0.35) * 42.0
    row, column = (v.remainder(14.0)).long(), (u.remainder(columns + 6.0)).long()
    page = torch.zeros(14, columns + 6, device=picture.device)
    page[: len(_LETTERS), :columns] = torch.tensor([[float(dot == "#") for dot in line] for line in _LETTERS])
    ink = page[row, column][:, None] * 0.42
    contrast = torch.where(filters.luma(picture).mean(dim=(2, 3), keepdim=True) > 0.5, 0.25, 1.0)
    return picture + (contrast - picture) * ink


_LETTERS: tuple[str, ...] = (
    " ####   ###  #   # ####  #     #####",
    "#      #   # ## ## #   # #     #    ",
    " ###   ##### # # # ####  #     #### ",
    "    #  #   # #   # #     #     #    ",
    "####   #   # #   # #     ##### #####",
)


@_defect("low contrast", "low contrast", "washed out", "faded")
def _low_contrast(picture: Tensor, seeds: Tensor, grid: Grid) -> Tensor:
    return 0.6 + (picture - 0.6) * 0.32


@_defect("crop", "cropped", "cut off")
def _crop(picture: Tensor, seeds: Tensor, grid: Grid) -> Tensor:
    """Things are cut off where they are placed; there is nothing left to do to the pixels."""
    return picture


_LIGHT: Mapping[str, tuple[tuple[float, float, float], float]] = MappingProxyType(
    {
        "dark": ((0.45, 0.45, 0.5), 0.0),
        "bright": ((0.72, 0.72, 0.72), 0.28),
        "cool": ((0.80, 0.93, 1.06), 0.0),
        "warm": ((1.06, 0.94, 0.78), 0.0),
    }
)
"""Factor per channel, and what is added, for each kind of light."""

LIGHTS: tuple[str, ...] = tuple(_LIGHT)
"""Names of all lights."""


def apply_light(picture: Tensor, lights: Sequence[str | None], grid: Grid) -> Tensor:
    """Darken, brighten or tint pictures [n, 3, h, w]."""
    if not any(lights):
        return picture
    chosen = [_LIGHT[light] if light else ((1.0, 1.0, 1.0), 0.0) for light in lights]
    return (
        picture * colours([factor for factor, _ in chosen], grid) + grid.column([added for _, added in chosen])[:, None]
    ).clamp(0.0, 1.0)


def apply_defects(picture: Tensor, wanted: Sequence[tuple[str, ...]], seeds: Tensor, grid: Grid) -> Tensor:
    """Spoil pictures [n, 3, h, w] as their scenes say.

    Raises:
        NotFound: there is no such defect.
    """
    for turn in range(max((len(names) for names in wanted), default=0)):
        now = [names[turn] if turn < len(names) else None for names in wanted]
        for name in dict.fromkeys(name for name in now if name):
            members = [i for i, other in enumerate(now) if other == name]
            picture[members] = defects[name].spoil(picture[members], seeds[members], grid)
    return picture
