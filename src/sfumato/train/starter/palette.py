"""The colours that have names in the starter world, and distances between colours as an eye sees them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Colour:
    """A colour with a name.

    Attributes:
        base: the basic colour word; `name` may add "light" or "dark" to it.
        rgb: red, green and blue in 0..1.
    """

    name: str
    base: str
    rgb: tuple[float, float, float]

    @classmethod
    def of(cls, name: str, code: str) -> Colour:
        """From a name and six hexadecimal digits."""
        red, green, blue = (int(code[i : i + 2], 16) / 255.0 for i in (0, 2, 4))
        return cls(name, name.split()[-1], (red, green, blue))


COLOURS: dict[str, Colour] = {
    name: Colour.of(name, code)
    for name, code in {
        "black": "1b1b1e",
        "white": "ffffff",
        "grey": "8d939c",
        "red": "e0312f",
        "orange": "f8871f",
        "yellow": "ffd43a",
        "green": "2fa84f",
        "blue": "2a6be0",
        "purple": "8a41c4",
        "pink": "ff82b8",
        "brown": "86552d",
        "light blue": "8fcbff",
        "light green": "a2e08a",
        "light grey": "cdd2d8",
        "light purple": "c8a6f0",
        "dark blue": "173a7c",
        "dark green": "14592f",
        "dark red": "8a1620",
        "dark grey": "4a4f58",
        "dark purple": "4b1d73",
    }.items()
}
"""All named colours; the eleven without "light" or "dark" are the basic ones."""

BASIC: tuple[str, ...] = tuple(name for name, colour in COLOURS.items() if name == colour.base)
"""The eleven basic colour words."""

_XYZ = ((0.4124564, 0.3575761, 0.1804375), (0.2126729, 0.7151522, 0.0721750), (0.0193339, 0.1191920, 0.9503041))
_WHITE = (0.95047, 1.0, 1.08883)


def to_lab(rgb: Tensor) -> Tensor:
    """sRGB in 0..1, channels last [..., 3] -> CIELAB under D65."""
    rgb = rgb.clamp(0.0, 1.0)
    linear = torch.where(rgb > 0.04045, ((rgb + 0.055) / 1.055).pow(2.4), rgb / 12.92)
    xyz = linear @ linear.new_tensor(_XYZ).T / linear.new_tensor(_WHITE)
    f = torch.where(xyz > 216.0 / 24389.0, xyz.clamp(min=1e-6).pow(1.0 / 3.0), xyz * (24389.0 / 27.0 / 116.0) + 16.0 / 116.0)
    x, y, z = f.unbind(-1)
    return torch.stack((116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)), dim=-1)


@cache
def lab_of(name: str) -> tuple[float, float, float]:
    """CIELAB of a named colour."""
    lightness, a, b = to_lab(torch.tensor(COLOURS[name].rgb)).tolist()
    return lightness, a, b


@cache
def difference(first: str, second: str) -> float:
    """Delta E (CIE 1976) between two named colours; about 2 is just visible, above 25 is plain to see."""
    return float(sum((a - b) ** 2 for a, b in zip(lab_of(first), lab_of(second), strict=True)) ** 0.5)


def nearest(rgb: Tensor) -> list[str]:
    """The name of the nearest colour for each row of [n, 3] sRGB values."""
    names = list(COLOURS)
    table = rgb.new_tensor([lab_of(name) for name in names])
    distance = torch.cdist(to_lab(rgb), table)
    return [names[i] for i in distance.argmin(dim=1).tolist()]
