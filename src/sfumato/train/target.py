"""What a training run needs to know of the thing that learns, and of where its samples come from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from sfumato.registry import Registry
from sfumato.train.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Batch:
    """Samples.

    Attributes:
        indices: their numbers; whatever is random about a sample follows from its number, so that a sample is the same in
            any batch, process or resumed run.
        pixels: [n, 3, h, w] in -1..1.
        captions: one per sample; may be empty.
        latents: [n, c, h, w], scaled, where they are at hand; then there need not be pixels (none at all: [n, 0]).
    """

    indices: tuple[int, ...]
    pixels: Tensor
    captions: tuple[str, ...]
    latents: Tensor | None = None


class Source(Protocol):
    """An endless row of samples by number."""

    def batch(self, indices: Sequence[int]) -> Batch:
        """The samples with these numbers, on the device where training is."""
        ...

    def captions(self, indices: Sequence[int]) -> tuple[str, ...]:
        """Their captions alone."""
        ...


@dataclass(frozen=True, slots=True)
class Loss:
    """A loss and its parts.

    Attributes:
        total: what is minimised, a scalar.
        parts: detached scalars for the log.
    """

    total: Tensor
    parts: Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class Sheet:
    """A look at what was learned.

    Attributes:
        pictures: [n, 3, h, w] in 0..1, or None where there is nothing to see.
        figures: quality by name.
    """

    pictures: Tensor | None
    figures: Mapping[str, float]


class Target(Protocol):
    """Something that learns."""

    @property
    def weights(self) -> Mapping[str, nn.Parameter]:
        """What is trained, by name."""
        ...

    def prepared(self, source: Source, folder: Path) -> Source:
        """The source as this target wants its samples; files may be kept in the run's folder."""
        ...

    def loss(self, batch: Batch, seed: int) -> Loss:
        """The loss of a batch; all of its randomness comes from `seed` and the samples' numbers."""
        ...

    def sheet(self) -> Sheet:
        """What shows the state of training: always the same samples and seeds, and nothing that training uses is touched."""
        ...

    def save(self, path: Path) -> None:
        """Write what was learned, with its frozen surroundings, in the form in which it is used."""
        ...


targets: Registry[Callable[[Recipe, torch.device], Target]] = Registry("training target")
"""Every target by name."""


def draw(shape: Sequence[int], seed: int, indices: Sequence[int], device: torch.device | str = "cpu", salt: int = 0) -> Tensor:
    """Standard normal numbers [n, *shape], row i from `seed`, `salt` and number `indices[i]` alone."""
    return torch.stack([torch.randn(tuple(shape), generator=_generator(seed, i, salt)) for i in indices]).to(device)


def uniform(seed: int, indices: Sequence[int], salt: int = 0) -> list[float]:
    """One number in 0..1 per sample, in the same way."""
    return [float(torch.rand((), generator=_generator(seed, i, salt))) for i in indices]


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """First weights are drawn from `seed`; the generator of the process is afterwards as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def _generator(seed: int, index: int, salt: int) -> torch.Generator:
    mixed = (seed * 0x9E3779B97F4A7C15 + index * 0xBF58476D1CE4E5B9 + salt * 0x94D049BB133111EB) & 0x7FFFFFFFFFFFFFFF
    return torch.Generator().manual_seed(mixed)
