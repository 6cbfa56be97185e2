"""The rendered world as a source of training samples: whole pictures, or crops of pictures of several sizes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sfumato.train.starter.dice import Dice
from sfumato.train.starter.world import World
from sfumato.train.target import Batch

_CROPPING = 0x43524F50
"""Key of the dice that place crops."""


class WorldSource:
    """Samples of a world by number.

    Args:
        world: where they come from.
        sizes: sides of the pictures; picture `i` has size `i` modulo their number.
        crop: side of the crops, or None for whole pictures (then there is one size).
        crops: crops of each picture, with numbers behind one another.
        device: where pictures are drawn.
    """

    def __init__(
        self, world: World, sizes: Sequence[int], *, crop: int | None = None, crops: int = 1, device: torch.device | str = "cpu"
    ) -> None:
        self.world, self.sizes, self.crop, self.crops, self.device = world, tuple(sizes), crop, crops, device

    @torch.no_grad()
    def batch(self, indices: Sequence[int]) -> Batch:
        """The samples with these numbers."""
        numbers = tuple(dict.fromkeys(index // self.crops for index in indices))
        pictures: dict[int, Tensor] = {}
        captions: dict[int, str] = {}
        for place, size in enumerate(self.sizes):
            chosen = [number for number in numbers if number % len(self.sizes) == place]
            if not chosen:
                continue
            drawn, samples = self.world.batch(chosen, size, self.device)
            pictures |= dict(zip(chosen, drawn, strict=True))
            captions |= {number: sample.caption for number, sample in zip(chosen, samples, strict=True)}
        pixels = torch.stack([self._part(pictures[index // self.crops], index) for index in indices])
        return Batch(tuple(indices), pixels * 2.0 - 1.0, tuple(captions[index // self.crops] for index in indices))

    def captions(self, indices: Sequence[int]) -> tuple[str, ...]:
        """Captions of samples, without their pictures."""
        return tuple(self.world.sample(index // self.crops).caption for index in indices)

    def _part(self, picture: Tensor, index: int) -> Tensor:
        """The crop of this number: the busier of two random ones, as much of a picture is plain."""
        crop = self.crop
        if crop is None or crop >= picture.shape[-1]:
            return picture
        dice = Dice(self.world.seed, index, _CROPPING)
        room = picture.shape[-1] - crop + 1
        corners = [(dice.integer(room), dice.integer(room)) for _ in range(2)]
        parts = [picture[:, y : y + crop, x : x + crop] for y, x in corners]
        return max(parts, key=lambda part: float(part.var(dim=(1, 2)).sum()))
