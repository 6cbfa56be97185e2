"""Styles: how a scene is drawn. Each changes finished flat pictures."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sfumato.registry import Registry
from sfumato.train.starter import filters, noise
from sfumato.train.starter.grid import Grid, blend, colours


@dataclass(frozen=True, slots=True)
class Canvas:
    """Flat pictures and what a style may want to know of them.

    Attributes:
        picture: [n, 3, h, w] in 0..1.
        cover: [n, h, w], how much of each pixel belongs to a thing.
        seeds: [n], of noise and texture.
    """

    picture: Tensor
    cover: Tensor
    seeds: Tensor
    grid: Grid

    def reach(self, share: float) -> int:
        """A length as a share of the shorter side, in whole pixels, at least 1."""
        return max(1, round(share * self.grid.side))


@dataclass(frozen=True, slots=True)
class Style:
    """A way of drawing.

    Attributes:
        words: what captions call it.
        keeps_colour: the colours of things can still be told.
        keeps_backdrop: the colour of a plain backdrop can still be told.
        held_out: never taught, kept for tests of style training.
    """

    draw: Callable[[Canvas], Tensor]
    words: tuple[str, ...]
    keeps_colour: bool = True
    keeps_backdrop: bool = True
    held_out: bool = False


styles: Registry[Style] = Registry("style")
"""Every style by name; "flat" is the one without any change."""


def _style(
    name: str, *words: str, keeps_colour: bool = True, keeps_backdrop: bool = True, held_out: bool = False
) -> Callable[[Callable[[Canvas], Tensor]], Style]:
    return lambda draw: styles.add(name, Style(draw, words or (name,), keeps_colour, keeps_backdrop, held_out))


@_style("flat", "flat", "clip art", "vector art")
def _flat(canvas: Canvas) -> Tensor:
    return canvas.picture


@_style("outline", "line art", "outline drawing", "line drawing", keeps_backdrop=False)
def _outline(canvas: Canvas) -> Tensor:
    reach = canvas.reach(1.0 / 110.0)
    ink = filters.erode(canvas.picture, reach) * 0.85
    line = filters.edges(canvas.picture, reach)
    return torch.lerp(torch.full_like(ink, 0.99), ink, line.expand_as(ink))


@_style("pixel art", "pixel art", "8-bit pixel art")
def _pixel_art(canvas: Canvas) -> Tensor:
    rows, columns = (round(32 * share) for share in (canvas.grid.down, canvas.grid.across))
    return (filters.mosaic(canvas.picture, rows, columns) * 6.0).round() / 6.0


@_style("blueprint", keeps_colour=False, keeps_backdrop=False, held_out=True)
def _blueprint(canvas: Canvas) -> Tensor:
    grid = canvas.grid
    paper = colours([(0.10, 0.30, 0.62)], grid).expand_as(canvas.picture)
    raster = torch.minimum(((grid.x * 8.0).remainder(1.0) - 0.5).abs(), ((grid.y * 8.0).remainder(1.0) - 0.5).abs())
    white = torch.ones_like(paper)
    ruled = blend(paper, white, (grid.cover((raster - 0.02) / 8.0) * 0.22).expand(len(paper), -1, -1))
    return blend(ruled, white, filters.edges(canvas.picture, canvas.reach(1.0 / 110.0))[:, 0] * 0.95)


@_style("neon", "neon", "neon sign", "glowing neon", keeps_backdrop=False)
def _neon(canvas: Canvas) -> Tensor:
    reach = canvas.reach(1.0 / 100.0)
    line = filters.edges(canvas.picture, reach)
    tint = filters.dilate(canvas.picture, reach)
    low = filters.erode(canvas.picture, reach)
    # The purer of the two colours that meet at an edge.
    purity = (low.amax(1, keepdim=True) - low.amin(1, keepdim=True)) > (tint.amax(1, keepdim=True) - tint.amin(1, keepdim=True))
    tint = torch.where(purity, low, tint)
    tint = tint / tint.amax(dim=1, keepdim=True).clamp(min=0.2)
    glow = filters.blur(tint * line, canvas.grid.side / 28.0)
    dark = colours([(0.05, 0.04, 0.11)], canvas.grid)
    return torch.lerp(dark + glow * 0.9, 0.25 + 0.75 * tint, line.expand_as(tint) * 0.95).clamp(0.0, 1.0)


@_style("greyscale", "greyscale", "grayscale", "black and white", keeps_colour=False, keeps_backdrop=False)
def _greyscale(canvas: Canvas) -> Tensor:
    return filters.luma(canvas.picture).expand_as(canvas.picture)


@_style("sepia", "sepia", "sepia tone", keeps_colour=False, keeps_backdrop=False)
def _sepia(canvas: Canvas) -> Tensor:
    grey = filters.luma(canvas.picture)
    return (grey * colours([(0.80, 0.71, 0.56)], canvas.grid) + colours([(0.17, 0.12, 0.06)], canvas.grid)).clamp(0.0, 1.0)


@_style("watercolour", "watercolor", "watercolour", "painting", "watercolor painting")
def _watercolour(canvas: Canvas) -> Tensor:
    grid, seeds = canvas.grid, canvas.seeds
    size = (grid.height, grid.width)
    bend = [noise.smooth(seeds, (9, 9), *size, salt=salt) - 0.5 for salt in (10, 20)]
    x, y = grid.x / grid.across + bend[0] * 0.035, grid.y / grid.down + bend[1] * 0.035
    wet = filters.blur(filters.sample(canvas.picture, x, y), grid.side / 160.0)
    rim = (filters.blur(wet, grid.side / 40.0) - wet).abs().amax(dim=1, keepdim=True)
    pigment = 0.62 + 0.34 * noise.smooth(seeds, (5, 5), *size, salt=30) + 0.1 * noise.smooth(seeds, (24, 24), *size, salt=40)
    return (1.0 - (1.0 - wet) * (pigment[:, None] + rim * 0.9) - 0.02).clamp(0.0, 1.0)


@_style("halftone", "halftone", "halftone print", keeps_backdrop=False, held_out=True)
def _halftone(canvas: Canvas) -> Tensor:
    grid, cells = canvas.grid, 26.0
    u, v = (grid.x + grid.y) * math.sqrt(0.5) * cells, (grid.y - grid.x) * math.sqrt(0.5) * cells
    centre_u, centre_v = u.floor() + 0.5, v.floor() + 0.5
    x, y = (centre_u - centre_v) * math.sqrt(0.5) / cells, (centre_u + centre_v) * math.sqrt(0.5) / cells
    ink = filters.sample(filters.blur(canvas.picture, grid.side / 80.0), x / grid.across, y / grid.down)
    radius = (1.0 - filters.luma(ink)[:, 0]).clamp(min=0.0).sqrt() * 0.78
    dot = grid.cover((torch.hypot(u - centre_u, v - centre_v) - radius) / cells)
    return blend(torch.full_like(ink, 0.98), (ink * 1.1 - 0.1).clamp(0.0, 1.0), dot)


@_style("sticker", "sticker", "sticker with a white border", "die-cut sticker")
def _sticker(canvas: Canvas) -> Tensor:
    border = filters.dilate(canvas.cover[:, None], canvas.reach(0.022))
    border = filters.blur(border, canvas.grid.side / 200.0)
    shade = filters.blur(filters.shift(border, canvas.reach(0.008), canvas.reach(0.018)), canvas.grid.side / 60.0)
    under = canvas.picture * (1.0 - 0.38 * shade)
    white = torch.lerp(under, torch.ones_like(under), border.expand_as(under))
    return blend(white, canvas.picture, canvas.cover)


@_style("silhouette", "silhouette", "black silhouette", keeps_colour=False)
def _silhouette(canvas: Canvas) -> Tensor:
    return blend(canvas.picture, colours([(0.07, 0.07, 0.09)], canvas.grid), canvas.cover)


@_style("low poly", "low poly", "low-poly", held_out=True)
def _low_poly(canvas: Canvas) -> Tensor:
    grid, cells = canvas.grid, 15.0
    u, v = grid.x * cells, grid.y * cells
    bend = [noise.smooth(canvas.seeds, (15, 15), grid.height, grid.width, salt=salt) - 0.5 for salt in (60, 70)]
    u, v = u + 0.7 * bend[0], v + 0.7 * bend[1]
    upper = (u.remainder(1.0) + v.remainder(1.0) < 1.0).float()
    centre_u, centre_v = (t.floor() + torch.where(upper > 0, 1.0 / 3.0, 2.0 / 3.0) for t in (u, v))
    colour = filters.sample(canvas.picture, centre_u / cells / grid.across, centre_v / cells / grid.down)
    facet = torch.sin(centre_u * 12.9898 + centre_v * 78.233) * 43.5453
    return (colour * (1.0 + 0.16 * (facet.remainder(1.0) - 0.5))[:, None]).clamp(0.0, 1.0)


def _relief(canvas: Canvas, strength: float) -> Tensor:
    """Light from the upper left on rounded things with a soft shadow below them."""
    cover = canvas.cover[:, None]
    round_top = filters.blur(cover, canvas.grid.side / 26.0)
    lift = canvas.reach(1.0 / 64.0)
    slope = (filters.shift(round_top, -lift, -lift) - filters.shift(round_top, lift, lift)) * cover
    shadow = filters.blur(filters.shift(cover, canvas.reach(0.02), canvas.reach(0.035)), canvas.grid.side / 36.0)
    ground = canvas.picture * (1.0 - 0.42 * shadow * (1.0 - cover))
    shine = (slope - 0.12).clamp(min=0.0) * 0.8
    return (ground * (1.0 + strength * slope.clamp(max=0.35)) + shine * strength).clamp(0.0, 1.0)


@_style("3d render", "3d render", "rendering", "3d rendition")
def _render(canvas: Canvas) -> Tensor:
    return _relief(canvas, 1.5)


@_style("photo", "photo", "photograph")
def _photo(canvas: Canvas) -> Tensor:
    grid = canvas.grid
    lit = _relief(canvas, 0.8)
    distance = torch.hypot(grid.x - grid.across / 2.0, grid.y - grid.down / 2.0)
    vignette = 1.06 - 0.42 * (distance * 1.25).clamp(max=1.0) ** 2
    grain = noise.gaussian(canvas.seeds, grid.height, grid.width, salt=80) * 0.012
    return (lit * vignette[:, None] + grain[:, None]).clamp(0.0, 1.0)


def apply_styles(names: list[str], canvas: Canvas) -> Tensor:
    """Draw each picture in its style, [n, 3, h, w].

    Raises:
        NotFound: there is no such style.
    """
    result = canvas.picture
    for name in dict.fromkeys(names):
        style = styles[name]
        if name == "flat":
            continue
        members = [i for i, other in enumerate(names) if other == name]
        part = Canvas(canvas.picture[members], canvas.cover[members], canvas.seeds[members], canvas.grid)
        result = result.clone() if result is canvas.picture else result
        result[members] = style.draw(part)
    return result
