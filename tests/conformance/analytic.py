"""The analytic model of the sampler vectors: the best denoiser of Gaussian data, and the noise predictor made of it."""

import math

import numpy as np
import pytest
import torch

from sfumato.engine.sampling.prediction import alphas_cumprod
from sfumato.engine.sampling.step import Guided

ALPHAS = alphas_cumprod(0.00085, 0.012, 1000)
LOG_ALPHAS = np.log(ALPHAS.astype(np.float64))


def best(x, sigma, mean, spread):
    """The clean latents expected behind `x` at level `sigma` when they are normal around `mean`."""
    return (x * spread**2 + mean * sigma**2) * (1 / (spread**2 + sigma**2))


def alpha_at(t: float) -> float:
    """alphas_cumprod at a fractional timestep, linear in its logarithm."""
    low = min(max(math.floor(t), 0), 999)
    high = min(low + 1, 999)
    return math.exp(LOG_ALPHAS[low] + (LOG_ALPHAS[high] - LOG_ALPHAS[low]) * (t - low))


def noise_network(means, spread, seen):
    """A network predicting noise whose condition is the name of a mean; it notes the timesteps of its rows in `seen`."""

    def network(x, timesteps, conds):
        seen.append(timesteps.tolist())
        t = float(timesteps[0])
        alpha = alpha_at(t)
        sigma = math.sqrt((1 - alpha) / alpha)
        scaled = x * (1 / math.sqrt(alpha))
        mean = torch.stack([means[cond] for cond in conds])
        return (scaled - best(scaled, sigma, mean, spread)) * (1 / sigma)

    return network


class Denoiser:
    """The analytic denoiser as a `Denoise`; it notes the levels it is asked at, and checks the count of its calls.

    `uncond` and `scale` give the guided form.
    """

    def __init__(self, mean, spread, uncond=None, scale=1.0):
        self.mean, self.spread, self.uncond, self.scale = mean, spread, uncond, scale
        self.sigmas = []

    def __call__(self, x, sigma, call):
        assert call == len(self.sigmas)
        self.sigmas.append(sigma)
        cond = best(x, sigma, self.mean.to(x), self.spread)
        if self.uncond is None:
            return Guided(cond, cond)
        uncond = best(x, sigma, self.uncond.to(x), self.spread)
        return Guided(uncond + (cond - uncond) * self.scale, uncond)


class Replay:
    """A noise sampler that gives listed noises: in order, or each for the interval it was listed with."""

    def __init__(self, draws, shape, intervals=None, dtype=torch.float32):
        self.draws = [torch.tensor(values, dtype=torch.float32).to(dtype).reshape(shape) for values in draws]
        self.intervals = intervals

    def __call__(self, sigma, sigma_next):
        if self.intervals is not None:
            asked, self.intervals = self.intervals[0], self.intervals[1:]
            assert (sigma, sigma_next) == pytest.approx(asked, rel=1e-5), "noise of another interval"
        return self.draws.pop(0)
