"""The pixel grid that scenes are drawn on, and how a distance becomes a smooth edge."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Grid:
    """Pixel centres of a picture, in units of its shorter side.

    Attributes:
        x, y: [1, h, w].
        height, width: in pixels.
    """

    x: Tensor
    y: Tensor
    height: int
    width: int

    @classmethod
    def of(cls, height: int, width: int, device: torch.device | str = "cpu") -> Grid:
        """The grid of a picture of this size."""
        side = float(min(height, width))
        y, x = torch.meshgrid(
            (torch.arange(height, dtype=torch.float32, device=device) + 0.5) / side,
            (torch.arange(width, dtype=torch.float32, device=device) + 0.5) / side,
            indexing="ij",
        )
        return cls(x.contiguous()[None], y.contiguous()[None], height, width)

    @property
    def side(self) -> int:
        """The shorter side in pixels."""
        return min(self.height, self.width)

    @property
    def across(self) -> float:
        """The width in units of the shorter side."""
        return self.width / self.side

    @property
    def down(self) -> float:
        """The height in units of the shorter side."""
        return self.height / self.side

    @property
    def device(self) -> torch.device:
        """Where pictures are drawn."""
        return self.x.device

    def cover(self, distance: Tensor) -> Tensor:
        """How much of each pixel lies inside: signed distance in units of the shorter side -> 0..1."""
        return (0.5 - distance * self.side).clamp_(0.0, 1.0)

    def column(self, values: list[float]) -> Tensor:
        """One number per picture, ready to combine with the grid: [n, 1, 1]."""
        return torch.tensor(values, dtype=torch.float32, device=self.device)[:, None, None]


def colours(values: list[tuple[float, float, float]], grid: Grid) -> Tensor:
    """One colour per picture, ready to combine with pixels [n, 3, h, w]: [n, 3, 1, 1]."""
    return torch.tensor(values, dtype=torch.float32, device=grid.device)[:, :, None, None]


def blend(under: Tensor, over: Tensor, alpha: Tensor) -> Tensor:
    """`over` on `under`, both [n, 3, h, w] or smaller where they broadcast, with alpha [n, h, w]."""
    return torch.lerp(under, over.expand_as(under) if over.shape != under.shape else over, alpha[:, None].expand_as(under))
