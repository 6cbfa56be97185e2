"""Tell things from the backdrop, and one thing from the next."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from sfumato.train.starter.filters import dilate
from sfumato.train.starter.palette import to_lab

_DIFFERENT = 13.0
"""Delta E from the backdrop above which a pixel belongs to a thing."""


@dataclass(frozen=True, slots=True)
class Ground:
    """A picture taken apart.

    Attributes:
        backdrop: [3, h, w], the fitted backdrop, without things.
        colour: [3], the median colour of what was taken for backdrop.
        mask: [h, w] bool, where there are things.
    """

    backdrop: Tensor
    colour: Tensor
    mask: Tensor


def _basis(height: int, width: int, device: torch.device) -> Tensor:
    """Polynomials of degree two over the picture, [h * w, 6]."""
    y, x = torch.meshgrid(
        torch.linspace(-1.0, 1.0, height, device=device), torch.linspace(-1.0, 1.0, width, device=device), indexing="ij"
    )
    return torch.stack((torch.ones_like(x), x, y, x * x, y * y, x * y), dim=-1).flatten(0, 1)


def separate(picture: Tensor) -> Ground:
    """Fit a smooth backdrop to the border of a picture [3, h, w] and mark what differs from it.

    The fit starts from the median of the border; pixels far from the fit are left out and the rest is fitted again, so that
    a thing that touches the border does not count.
    """
    height, width = picture.shape[1:]
    wide = max(1, min(height, width) // 16)
    border = torch.ones(height, width, dtype=torch.bool, device=picture.device)
    border[wide:-wide, wide:-wide] = False
    pixels = picture.flatten(1).T[border.flatten()]
    basis = _basis(height, width, picture.device)
    at_border = basis[border.flatten()]
    kept = (to_lab(pixels) - to_lab(pixels.median(dim=0).values)).norm(dim=1) < 45.0
    fit = torch.zeros(6, 3, device=picture.device)
    for _ in range(3):
        if int(kept.sum()) < 12:
            break
        fit = torch.linalg.lstsq(at_border[kept].double(), pixels[kept].double()).solution.float()
        kept = (to_lab(pixels) - to_lab(at_border @ fit)).norm(dim=1) < 8.0
    backdrop = (basis @ fit).clamp(0.0, 1.0)
    change = (to_lab(picture.flatten(1).T) - to_lab(backdrop)).norm(dim=1).view(height, width)
    mask = change > _DIFFERENT
    quiet = ~dilate(mask[None, None].float(), 1)[0, 0].bool()
    still = picture[:, quiet] if bool(quiet.any()) else picture.flatten(1)
    return Ground(backdrop.T.view(3, height, width), still.median(dim=1).values, mask)


def close(mask: Tensor, reach: int) -> Tensor:
    """Fill gaps of up to twice `reach` pixels in a mask [h, w]."""
    padded = F.pad(mask[None, None].float(), (reach, reach, reach, reach))
    return (-dilate(-dilate(padded, reach), reach))[0, 0, reach:-reach, reach:-reach] > 0.5


def components(mask: Tensor, *, join: int = 1, smallest: float = 0.003, share: float = 0.12) -> list[Tensor]:
    """The connected parts of a mask [h, w], largest first.

    Args:
        join: gaps of up to this many pixels do not separate.
        smallest: parts below this share of the picture are dust.
        share: parts below this share of the largest part are dust, too.
    """
    joined = close(mask, join) if join else mask
    height, width = mask.shape
    labels = torch.arange(1, height * width + 1, dtype=torch.float32, device=mask.device).view(height, width) * joined
    while True:
        before = labels
        for _ in range(12):
            labels = F.max_pool2d(labels[None, None], 3, 1, 1)[0, 0] * joined
        if torch.equal(before, labels):
            break
    values, areas = torch.unique(labels[joined], return_counts=True)
    if not len(values):
        return []
    least = max(float(areas.max()) * share, smallest * height * width)
    order = areas.argsort(descending=True).tolist()
    return [(labels == values[i]) & joined for i in order if float(areas[i]) >= least]


@dataclass(frozen=True, slots=True)
class Box:
    """Bounds of a mask in pixels, the ends excluded."""

    top: int
    bottom: int
    left: int
    right: int

    @classmethod
    def of(cls, mask: Tensor) -> Box:
        """The smallest box around a mask [h, w] that is not empty."""
        rows, columns = (mask.any(dim=d).nonzero()[:, 0] for d in (1, 0))
        return cls(int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1)

    @property
    def centre(self) -> tuple[float, float]:
        """x, y in pixels."""
        return (self.left + self.right) / 2.0, (self.top + self.bottom) / 2.0

    @property
    def longest(self) -> int:
        """The longer side."""
        return max(self.bottom - self.top, self.right - self.left)

    def holds(self, other: Box, slack: int = 2) -> bool:
        """Whether the other box lies within this one."""
        return (
            self.top - slack <= other.top
            and other.bottom <= self.bottom + slack
            and self.left - slack <= other.left
            and other.right <= self.right + slack
        )


def cut(picture: Tensor, box: Box, side: int, fill: Tensor) -> Tensor:
    """Cut a box out of a picture [c, h, w], centred on a square of its longer side, at `side` pixels; `fill` [c] around it."""
    part = picture[:, box.top : box.bottom, box.left : box.right]
    height, width = part.shape[1:]
    square = fill[:, None, None].expand(-1, box.longest, box.longest).clone()
    top, left = (box.longest - height) // 2, (box.longest - width) // 2
    square[:, top : top + height, left : left + width] = part
    return F.interpolate(square[None], size=(side, side), mode="bilinear", antialias=True)[0]
