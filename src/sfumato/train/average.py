"""Exponential moving average of weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor


class Average:
    """A slow copy of some weights, with which models are better than with the weights themselves.

    Args:
        weights: by name; what is averaged.
        decay: share of the old average that stays at each update, at most; at the start it is smaller,
            (1 + n) / (10 + n), so that the first random weights are soon forgotten.
    """

    def __init__(self, weights: Mapping[str, Tensor], decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.shadow = {name: weight.detach().clone() for name, weight in weights.items()}

    @torch.no_grad()
    def update(self, weights: Mapping[str, Tensor]) -> None:
        """Take in the weights after one more update."""
        self.updates += 1
        decay = min(self.decay, (1.0 + self.updates) / (10.0 + self.updates))
        names = list(self.shadow)
        torch._foreach_lerp_([self.shadow[n] for n in names], [weights[n].detach() for n in names], 1.0 - decay)

    @contextmanager
    def applied(self, weights: Mapping[str, Tensor]) -> Iterator[None]:
        """Let the weights be the average for the length of a `with`."""
        kept = {name: weight.detach().clone() for name, weight in weights.items()}
        try:
            _copy(self.shadow, weights)
            yield
        finally:
            _copy(kept, weights)


@torch.no_grad()
def _copy(source: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> None:
    for name, value in source.items():
        target[name].copy_(value)
