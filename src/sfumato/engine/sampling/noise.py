"""The noise of pictures: every draw of a picture comes from its own generator, so a picture does not depend on its batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from sfumato.engine.sampling.brownian import BatchBrownian, BrownianPath
from sfumato.engine.sampling.philox import Philox
from sfumato.errors import InvalidRequest

Source = Literal["NV", "CPU", "GPU"]
"""Philox in software, PyTorch's generator on the CPU, PyTorch's generator on the device of the latents."""

_MASK = 0xFFFFFFFFFFFFFFFF


def generator(source: Source, seed: int, device: torch.device | str = "cpu") -> Callable[[tuple[int, ...]], Tensor]:
    """A function from shape to the next standard normal tensor (float32, on `device`) of the generator with `seed`.

    Args:
        source: see `Source`.
        seed: any integer; its low 64 bits count.
        device: where the tensors shall be.

    Raises:
        InvalidRequest: an unknown source.
    """
    if source == "NV":
        philox = Philox(seed)
        return lambda shape: torch.from_numpy(philox.randn(*shape)).to(device)
    if source not in ("CPU", "GPU"):
        raise InvalidRequest(f"There is no noise source {source!r}.", advice="Use NV, CPU or GPU.")
    place = torch.device("cpu" if source == "CPU" else device)
    state = torch.Generator(place).manual_seed(seed & _MASK)
    return lambda shape: torch.randn(shape, generator=state, device=place, dtype=torch.float32).to(device)


def slerp(value: float, low: Tensor, high: Tensor) -> Tensor:
    """Spherical interpolation from `low` (value 0) to `high` (value 1), both [c, h, w].

    Angles are taken between the columns of each channel, that is over dimension 1, as A1111 does. Nearly parallel tensors
    are interpolated linearly.
    """
    low_unit = low / torch.linalg.vector_norm(low, dim=1, keepdim=True)
    high_unit = high / torch.linalg.vector_norm(high, dim=1, keepdim=True)
    dot = (low_unit * high_unit).sum(1)
    if dot.mean() > 0.9995:
        return low * (1 - value) + high * value
    angle = torch.acos(dot)
    sine = torch.sin(angle)
    return (torch.sin((1 - value) * angle) / sine).unsqueeze(1) * low + (torch.sin(value * angle) / sine).unsqueeze(1) * high


@dataclass(frozen=True, slots=True)
class Seed:
    """What the noise of one picture is made from.

    Attributes:
        seed: main seed.
        subseed: variation seed.
        subseed_strength: 0 for the main seed's noise, 1 for the variation seed's.
        resize_from: latent height and width whose noise sits in the middle of the picture's, or None.
        eta_delta: added to the seed of all draws after the first (ENSD).
    """

    seed: int
    subseed: int = 0
    subseed_strength: float = 0.0
    resize_from: tuple[int, int] | None = None
    eta_delta: int = 0


class ImageNoise:
    """The draws of one picture: the first for its start, the following for its sampler.

    Args:
        shape: of the picture's latents, (c, h, w).
        seed: see `Seed`.
        source: where the numbers come from.
        device: where the tensors shall be.
    """

    def __init__(
        self, shape: tuple[int, int, int], seed: Seed, *, source: Source = "NV", device: torch.device | str = "cpu"
    ) -> None:
        self.shape = shape
        self.seed = seed
        self.source: Source = source
        self.device = device
        draw = generator(source, seed.seed, device)
        self.first = self._first(draw)
        self._draw = generator(source, seed.seed + seed.eta_delta, device) if seed.eta_delta else draw

    def next(self) -> Tensor:
        """The next draw after the first, [c, h, w]."""
        return self._draw(self.shape)

    def brownian(self, sigma_min: float, sigma_max: float) -> BrownianPath:
        """The picture's Brownian path between two levels; it does not touch the other draws."""
        return BrownianPath(lambda seed: self._fresh(seed, self.shape), self.seed.seed & _MASK, sigma_min, sigma_max)

    def _fresh(self, seed: int, shape: tuple[int, ...]) -> Tensor:
        return generator(self.source, seed, self.device)(shape)

    def _first(self, draw: Callable[[tuple[int, ...]], Tensor]) -> Tensor:
        seed = self.seed
        size = seed.resize_from or self.shape[1:]
        small = (self.shape[0], *size)
        noise = self._fresh(seed.seed, small) if small != self.shape else draw(self.shape)
        if seed.subseed_strength:
            noise = slerp(seed.subseed_strength, noise, self._fresh(seed.subseed, small))
        return noise if small == self.shape else _centred(noise, draw(self.shape))


def _centred(noise: Tensor, ground: Tensor) -> Tensor:
    """`ground` [c, h, w] with `noise` in its middle, cropped evenly where it is larger."""
    target, source = [slice(None)], [slice(None)]
    for have, want in zip(noise.shape[1:], ground.shape[1:], strict=True):
        # Truncation towards minus infinity, as A1111 has it: an odd surplus is cut at the start.
        offset = (want - have) // 2
        length = have if offset >= 0 else have + 2 * offset
        target.append(slice(max(offset, 0), max(offset, 0) + length))
        source.append(slice(max(-offset, 0), max(-offset, 0) + length))
    result = ground.clone()
    result[tuple(target)] = noise[tuple(source)]
    return result


class BatchNoise:
    """The noise sampler of a batch: the next draw of each picture.

    Args:
        images: one per picture, in the order of the batch.
    """

    def __init__(self, images: Sequence[ImageNoise]) -> None:
        self.images = tuple(images)

    @property
    def first(self) -> Tensor:
        """The start noise [b, c, h, w]."""
        return torch.stack([image.first for image in self.images])

    def __call__(self, sigma: float, sigma_next: float) -> Tensor:
        """The next draws [b, c, h, w]; the levels do not matter."""
        return torch.stack([image.next() for image in self.images])

    def brownian(self, sigma_min: float, sigma_max: float) -> BatchBrownian:
        """The same pictures' Brownian paths."""
        return BatchBrownian([image.brownian(sigma_min, sigma_max) for image in self.images])
