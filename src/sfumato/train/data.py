"""Where the samples of a recipe come from: the rendered world, or a folder of pictures."""

from __future__ import annotations

from pathlib import Path

import torch

from sfumato.errors import InvalidRequest
from sfumato.train.folder import FolderSource
from sfumato.train.recipe import DataSection
from sfumato.train.starter.mix import mixes
from sfumato.train.starter.pictograms import load_atlas
from sfumato.train.starter.source import WorldSource
from sfumato.train.starter.world import World
from sfumato.train.target import Source


def source_of(
    data: DataSection, seed: int, device: torch.device | str = "cpu", *, atlas_cache: Path | None = None, held_out: bool = False
) -> Source:
    """The source that a recipe describes.

    Args:
        seed: of the recipe; used where the data has none of its own.
        atlas_cache: file that keeps the pictograms between runs.
        held_out: pictures that training never sees, of the same kind; a folder has none of those, and gives its own.

    Raises:
        NotFound: there is no such mix or folder.
        InvalidRequest, CorruptFile: what is wrong with the folder.
    """
    if data.folder is not None:
        if not isinstance(data.size, int) or data.crop is not None:
            raise InvalidRequest("data.size must be one size, without data.crop, for pictures of a folder.")
        return FolderSource(data.folder, data.size, seed if data.seed is None else data.seed, device)
    mix = mixes[data.mix]
    atlas = load_atlas(atlas_cache) if data.pictograms and mix.pictograms else None
    base = seed if data.seed is None else data.seed
    # Another seed is another world: what is drawn there is new, though of the same kinds of things.
    world = World(base if not held_out else base ^ 0x5F5F5F5F, mix, atlas)
    sizes = (data.size,) if isinstance(data.size, int) else data.size
    return WorldSource(world, sizes, crop=data.crop, crops=data.crops, device=device)
