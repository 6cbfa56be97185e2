"""A target that learns a line in no time, and a source for it: for tests of the loop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import nn

from sfumato.train.recipe import Recipe, recipe_from
from sfumato.train.target import Batch, Loss, Sheet, Source, draw


class Line:
    """Learns to tell the mean of its pictures."""

    def __init__(self, fail_at: int | None = None) -> None:
        generator = torch.Generator().manual_seed(0)
        self.first = nn.Parameter(torch.randn(12, 8, generator=generator))
        self.second = nn.Parameter(torch.randn(8, generator=generator))
        self.fail_at = fail_at
        self.saved: list[torch.Tensor] = []

    @property
    def weights(self) -> Mapping[str, nn.Parameter]:
        return {"first": self.first, "second": self.second}

    def prepared(self, source: Source, folder: Path) -> Source:
        return source

    def loss(self, batch: Batch, seed: int) -> Loss:
        x = batch.pixels.flatten(1) + 0.1 * draw((12,), seed, batch.indices)
        error = ((x @ self.first).tanh() @ self.second - batch.pixels.mean((1, 2, 3))).square().mean()
        if self.fail_at is not None and self.fail_at in batch.indices:
            error = error * float("nan")
        return Loss(error, {"error": error.detach()})

    def sheet(self) -> Sheet:
        return Sheet(torch.rand(4, 3, 8, 8), {"slope": float(self.first.detach().sum())})

    def save(self, path: Path) -> None:
        self.saved.append(self.first.detach().clone())
        path.write_bytes(b"done")


class Noise:
    """Random pictures by number."""

    def batch(self, indices: Sequence[int]) -> Batch:
        return Batch(tuple(indices), draw((3, 2, 2), 7, indices), self.captions(indices))

    def captions(self, indices: Sequence[int]) -> tuple[str, ...]:
        return ("",) * len(indices)


def toy_recipe(**loop: object) -> Recipe:
    """Twelve updates with everything in it that has a state."""
    tables = {
        "name": "toy",
        "target": "line",
        "data": {"workers": 0},
        "optimizer": {"rate": 0.01, "schedule": "cosine", "warmup": 3},
        "loop": {"steps": 12, "batch": 4, "accumulate": 2, "ema": 0.9, "log_every": 1, "save_every": 2, **loop},
    }
    return recipe_from(tables)
