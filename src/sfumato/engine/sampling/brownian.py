"""Brownian motion over noise levels, for the SDE samplers: noise of overlapping intervals agrees, whatever the steps are."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

_POOL = 24
_DIGITS = 6
_KEPT = 64


class BrownianPath:
    """One path of a Brownian motion between two noise levels, fixed by a seed.

    The interval is halved again and again, each half's increment drawn from a seed that depends on its place in the tree
    alone (Brownian bridge), until the level asked for is met to six digits. Order and number of queries do not matter.
    The tree is that of torchsde with pool size 24, as k-diffusion uses it, so the same seed gives the same noise.

    Args:
        draw: standard normal numbers for a 32-bit seed, always the same for the same seed.
        seed: of the path, 0 or above.
        sigma_min: lowest level.
        sigma_max: highest level, above the lowest.
    """

    def __init__(self, draw: Callable[[int], Tensor], seed: int, sigma_min: float, sigma_max: float) -> None:
        self.draw = draw
        self.seed = seed
        self.start, self.end = round(sigma_min, _DIGITS), round(sigma_max, _DIGITS)
        root = int(np.random.SeedSequence(seed, pool_size=_POOL).generate_state(3)[0])
        self._total = draw(root) * math.sqrt(sigma_max - sigma_min)
        self._bridges: OrderedDict[tuple[int, int], Tensor] = OrderedDict()
        self._points: OrderedDict[float, Tensor] = OrderedDict()

    def __call__(self, sigma: float, sigma_next: float) -> Tensor:
        """The increment from `sigma` to `sigma_next`, scaled to unit variance; zeros where they are equal."""
        if sigma == sigma_next:
            return torch.zeros_like(self._total)
        return (self.at(sigma_next) - self.at(sigma)) / math.sqrt(abs(sigma_next - sigma))

    def at(self, sigma: float) -> Tensor:
        """The path's value at a level; 0 at the lowest, levels beyond the ends give the ends."""
        point = round(min(max(sigma, self.start), self.end), _DIGITS)
        if point not in self._points:
            self._points[point] = self._descend(point)
            if len(self._points) > 4:
                self._points.popitem(last=False)
        return self._points[point]

    def _descend(self, point: float) -> Tensor:
        start, end, increment = self.start, self.end, self._total
        value = torch.zeros_like(increment)
        depth = key = 0
        while point not in (start, end):
            middle = round(0.5 * (start + end), _DIGITS)
            before, after = middle - start, end - middle
            bridge = self._bridge(depth, key)
            left = increment * (before / (end - start)) + bridge * math.sqrt(before * after / (end - start))
            depth, key = depth + 1, 2 * key
            if point <= middle:
                end, increment = middle, left
            else:
                start, increment, value, key = middle, increment - left, value + left, key + 1
        return value + increment if point == end else value

    def _bridge(self, depth: int, key: int) -> Tensor:
        """The normal numbers of a node; the latest are kept, since neighbouring levels share most of their way."""
        node = (depth, key)
        if node not in self._bridges:
            sequence = np.random.SeedSequence(self.seed, spawn_key=(key, depth), pool_size=_POOL)
            self._bridges[node] = self.draw(int(sequence.generate_state(4)[0]))
            if len(self._bridges) > _KEPT:
                self._bridges.popitem(last=False)
        self._bridges.move_to_end(node)
        return self._bridges[node]


class BatchBrownian:
    """The noise sampler of a batch: one path per picture.

    Args:
        paths: one per picture, in the order of the batch.
    """

    def __init__(self, paths: Sequence[BrownianPath]) -> None:
        self.paths = tuple(paths)

    def __call__(self, sigma: float, sigma_next: float) -> Tensor:
        """Noise of unit variance [b, c, h, w]."""
        return torch.stack([path(sigma, sigma_next) for path in self.paths])
