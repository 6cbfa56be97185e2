"""What the tests of training share."""

from __future__ import annotations

import pytest
import torch

from sfumato.train.starter.pictograms import SIDE, Atlas, pictograms


@pytest.fixture(scope="session")
def atlas() -> Atlas:
    """Sprites that any machine has: a disc in its own colours for each of some names of the list."""
    names = [name for name, entry in pictograms().items() if entry.tier == "core"][:24]
    names += [name for name, entry in pictograms().items() if entry.tier == "held"][:4]
    y, x = torch.meshgrid(torch.linspace(-1, 1, SIDE), torch.linspace(-1, 1, SIDE), indexing="ij")
    disc = (torch.hypot(x, y) < 0.97).float()
    pick = torch.Generator().manual_seed(7)
    sprites = []
    for _ in names:
        low = torch.rand(1, 3, 4, 4, generator=pick) * 0.75
        colours = torch.nn.functional.interpolate(low, size=(SIDE, SIDE), mode="nearest")[0]
        sprites.append(torch.cat((colours * disc, disc[None])))
    return Atlas(tuple(names), (torch.stack(sprites) * 255).round().to(torch.uint8))
