"""Noise levels of a model: the table of sigmas and the way between sigma and timestep."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Axis(NamedTuple):
    """A quantity that is interpolated linearly between neighbouring timesteps, and the way back to sigma."""

    of: Callable[[float], float]
    sigma: Callable[[float], float]


LOG_SIGMA = Axis(math.log, math.exp)
"""The interpolation of k-diffusion."""

LOG_ALPHA = Axis(lambda sigma: -0.5 * math.log1p(sigma * sigma), lambda log_alpha: math.sqrt(math.expm1(-2 * log_alpha)))
"""The interpolation of DPM-Solver and UniPC; alpha is 1 / sqrt(1 + sigma^2)."""


@dataclass(frozen=True, eq=False)
class NoiseLevels:
    """A table of noise levels that can be read between its entries.

    Attributes:
        sigmas: float32, ascending, all positive, at least two.
        first: the timestep of the first entry.
        stride: timesteps from one entry to the next.
        axis: what is linear in the timestep between two entries.
        quantized: `sigma_to_t` answers with the nearest entry's timestep only.
    """

    sigmas: NDArray[np.float32]
    first: float = 0.0
    stride: float = 1.0
    axis: Axis = LOG_SIGMA
    quantized: bool = False

    @cached_property
    def table(self) -> NDArray[np.float64]:
        """The levels on the axis."""
        return np.array([self.axis.of(float(sigma)) for sigma in self.sigmas])

    @property
    def sigma_min(self) -> float:
        """The lowest level."""
        return float(self.sigmas[0])

    @property
    def sigma_max(self) -> float:
        """The highest level."""
        return float(self.sigmas[-1])

    def __len__(self) -> int:
        return len(self.sigmas)

    def sigma_to_t(self, sigma: float) -> float:
        """The timestep at which the model expects `sigma` > 0; levels beyond the ends give the ends."""
        value, table = self.axis.of(sigma), self.table
        if self.quantized:
            return self.first + self.stride * float(np.abs(table - value).argmin())
        rising = table[-1] > table[0]
        low = int(np.searchsorted(table if rising else -table, value if rising else -value, side="right")) - 1
        low = min(max(low, 0), len(table) - 2)
        weight = (value - table[low]) / (table[low + 1] - table[low])
        return self.first + self.stride * (low + min(max(float(weight), 0.0), 1.0))

    def t_to_sigma(self, t: float) -> float:
        """The level at timestep `t`, which may be fractional; timesteps beyond the ends give the ends."""
        index = min(max((t - self.first) / self.stride, 0.0), len(self) - 1.0)
        low = min(int(index), len(self) - 2)
        weight = index - low
        return self.axis.sigma(float((1 - weight) * self.table[low] + weight * self.table[low + 1]))

    def nearest(self, sigma: float) -> int:
        """Index of the entry nearest to `sigma` by plain difference."""
        return int(np.abs(self.sigmas - np.float32(sigma)).argmin())


@dataclass(frozen=True, eq=False)
class FlowLevels(NoiseLevels):
    """Levels of a flow model: sigma lies in (0, 1] and the timestep is proportional to it.

    Attributes:
        timesteps: the timestep at sigma 1.
    """

    timesteps: int = 1000

    def sigma_to_t(self, sigma: float) -> float:
        """The timestep of `sigma`."""
        return min(max(sigma, 0.0), 1.0) * self.timesteps

    def t_to_sigma(self, t: float) -> float:
        """The level at timestep `t`."""
        return min(max(t / self.timesteps, 0.0), 1.0)
