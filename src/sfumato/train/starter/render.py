"""Scenes to pixels, a batch at a time, on any device."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sfumato.train.starter import noise
from sfumato.train.starter.backdrops import draw_backdrops
from sfumato.train.starter.defects import apply_defects, apply_light
from sfumato.train.starter.grid import Grid, blend
from sfumato.train.starter.pictograms import Atlas, draw_pictograms
from sfumato.train.starter.scene import Scene, Thing
from sfumato.train.starter.styles import Canvas, apply_styles
from sfumato.train.starter.things import draw_shapes


def _layer(scenes: Sequence[Scene], number: int, *, pictograms: bool) -> tuple[list[int], list[Thing]]:
    """The scenes whose thing `number` is a pictogram or not, and these things."""
    found = [(i, s.things[number]) for i, s in enumerate(scenes) if number < len(s.things)]
    found = [(i, thing) for i, thing in found if thing.is_pictogram == pictograms]
    return [i for i, _ in found], [thing for _, thing in found]


def compose(scenes: Sequence[Scene], grid: Grid, atlas: Atlas | None) -> tuple[Tensor, Tensor]:
    """Backdrops with their things before them, in plain flat colours.

    Returns:
        pictures [n, 3, h, w], and how much of each pixel belongs to a thing [n, h, w].
    """
    picture = draw_backdrops([scene.backdrop for scene in scenes], grid)
    cover = picture.new_zeros(len(scenes), grid.height, grid.width)
    for number in range(max((len(scene.things) for scene in scenes), default=0)):
        for pictograms in (False, True):
            members, things = _layer(scenes, number, pictograms=pictograms)
            if not members:
                continue
            paint, alpha = draw_pictograms(things, grid, atlas) if pictograms else draw_shapes(things, grid)
            picture[members] = blend(picture[members], paint, alpha)
            cover[members] = torch.maximum(cover[members], alpha)
    return picture, cover


@torch.no_grad()
def render(
    scenes: Sequence[Scene],
    size: int | tuple[int, int],
    *,
    atlas: Atlas | None = None,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Draw scenes.

    A scene gives the same picture in any batch.

    Args:
        size: the side, or (height, width), in pixels.
        atlas: the pictograms; needed only where a scene has one.

    Returns:
        [n, 3, height, width] in 0..1, on `device`.

    Raises:
        NotFound: a scene names a shape, style or pictogram that does not exist, or a pictogram without an atlas.
    """
    height, width = (size, size) if isinstance(size, int) else size
    grid = Grid.of(height, width, device)
    picture, cover = compose(scenes, grid, atlas)
    seeds = noise.seeds_of([scene.seed for scene in scenes], device)
    picture = apply_styles([scene.style for scene in scenes], Canvas(picture, cover, seeds, grid))
    picture = apply_light(picture, [scene.light for scene in scenes], grid)
    return apply_defects(picture, [scene.defects for scene in scenes], seeds, grid)
