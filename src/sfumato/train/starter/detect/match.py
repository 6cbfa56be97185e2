"""Name a shape by its outline, a colour by the nearest named one, and a pictogram by correlation with the atlas."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from sfumato.train.starter.detect.foreground import Box, components, cut
from sfumato.train.starter.filters import edges
from sfumato.train.starter.grid import Grid
from sfumato.train.starter.palette import COLOURS, nearest, to_lab
from sfumato.train.starter.pictograms import Atlas
from sfumato.train.starter.scene import Fill, Thing
from sfumato.train.starter.sdf import shapes
from sfumato.train.starter.things import draw_shapes

_SIDE = 40
_ANGLES = (-0.1, -0.05, 0.0, 0.05, 0.1)
_FILLS: tuple[Fill, ...] = ("solid", "outline")


@cache
def _templates() -> tuple[tuple[str, ...], Tensor]:
    """Names, and outlines [n, _SIDE, _SIDE] cut to their bounds, of every shape, filled and outlined, at some angles."""
    names: list[str] = []
    outlines: list[Tensor] = []
    grid = Grid.of(96, 96)
    for name in shapes:
        for fill in _FILLS:
            for angle in _ANGLES:
                cover = draw_shapes([Thing(name, "black", 0.5, 0.5, 0.8, fill=fill, angle=angle)], grid)[1]
                names.append(name)
                outlines.append(cut(cover, Box.of(cover[0] > 0.5), _SIDE, torch.zeros(1))[0])
    return tuple(names), torch.stack(outlines)


def match_shapes(mask: Tensor) -> dict[str, float]:
    """How well the outline of a mask [h, w] fits each shape: intersection over union 0..1, best first."""
    outline = cut(mask[None].float(), Box.of(mask), _SIDE, torch.zeros(1, device=mask.device))[0].cpu()
    names, templates = _templates()
    fits = torch.minimum(templates, outline).sum(dim=(1, 2)) / torch.maximum(templates, outline).sum(dim=(1, 2))
    best: dict[str, float] = {}
    for name, fit in zip(names, fits.tolist(), strict=True):
        best[name] = max(best.get(name, 0.0), fit)
    return dict(sorted(best.items(), key=lambda item: -item[1]))


def colour_of(picture: Tensor, mask: Tensor) -> str:
    """The named colour of what a mask covers in a picture [3, h, w].

    Only pixels with neighbours like them count, where there are enough of these: at an edge two colours mix. A pattern
    alternates with a lighter tint, so of the covered pixels those decide that are farthest from white.
    """
    even = mask & (edges(picture[None], 1)[0, 0] < 0.4)
    pixels = picture[:, even if int(even.sum()) >= 10 else mask].T
    white = to_lab(pixels.new_ones(1, 3))
    distance = (to_lab(pixels) - white).norm(dim=1)
    strong = pixels[distance >= distance.quantile(0.75)]
    return nearest(strong.median(dim=0).values[None])[0]


def same_colour(seen: str, wanted: str) -> bool:
    """Whether a colour is what a prompt asked for: any blue is "blue", but only a light one is "light blue"."""
    return seen == wanted or (wanted == COLOURS[wanted].base and COLOURS[seen].base == wanted)


@dataclass(frozen=True, slots=True)
class Guess:
    """A pictogram and its correlation, -1..1."""

    name: str
    score: float


def match_pictograms(picture: Tensor, mask: Tensor, backdrop: Tensor, atlas: Atlas, *, best: int = 5) -> list[Guess]:
    """The pictograms that look most like what a mask covers, by normalised correlation of colours at 32 x 32 pixels.

    Args:
        picture: [3, h, w] in 0..1.
        backdrop: [3], the colour behind it.
    """
    side = 32
    crop = cut(torch.where(mask, picture, backdrop[:, None, None]), Box.of(mask), side, backdrop)
    sprites = atlas.level(side, picture.device)
    known = sprites[:, :3] + (1.0 - sprites[:, 3:]) * backdrop[:, None, None]
    scores = torch.maximum(_correlation(known, crop), _correlation(known, crop.flip(-1)))
    top = scores.topk(min(best, len(scores)))
    return [Guess(atlas.names[i], score) for i, score in zip(top.indices.tolist(), top.values.tolist(), strict=True)]


def _correlation(known: Tensor, crop: Tensor) -> Tensor:
    """Of every [n, 3, s, s] with one [3, s, s]: [n]."""
    a, b = known.flatten(1), crop.flatten()
    a, b = a - a.mean(dim=1, keepdim=True), b - b.mean()
    scores: Tensor = (a @ b) / (a.norm(dim=1) * b.norm()).clamp(min=1e-6)
    return scores


@cache
def in_one_piece(atlas: Atlas, name: str) -> bool:
    """Whether a pictogram hangs together, so that it can be counted."""
    alpha = atlas.level(64, torch.device("cpu"))[atlas.index(name), 3]
    return len(components(alpha > 0.3, join=1, share=0.03)) == 1
