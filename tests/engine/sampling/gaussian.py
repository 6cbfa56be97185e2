"""Gaussian data: the best denoiser, a network for every kind of prediction, and the exact solution of the ODE."""

import math

import torch

from sfumato.engine.sampling.step import Guided

SPREAD = 0.7


def mean(shape, seed=3):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def exact(x, sigma, sigma_next, centre):
    """Where the probability flow takes `x` from `sigma` to `sigma_next`."""
    return centre + (x - centre) * math.sqrt((SPREAD**2 + sigma_next**2) / (SPREAD**2 + sigma**2))


def denoiser(centre):
    """A `Denoise` that also keeps the levels it was asked at."""

    def denoise(x, sigma, call):
        assert call == len(denoise.sigmas)
        denoise.sigmas.append(sigma)
        clean = (x * SPREAD**2 + centre.to(x) * sigma**2) * (1 / (SPREAD**2 + sigma**2))
        return Guided(clean, clean)

    denoise.sigmas = []
    return denoise


def network(prediction, centre, levels):
    """A raw network that predicts what `prediction` wants; conditions are numbers added to the centre."""

    def predict(x, timesteps, conds):
        assert x.shape[0] == len(conds) == len(timesteps)
        sigma = levels.t_to_sigma(float(timesteps[0]))
        c_in, c_skip, c_out = prediction.scalings(sigma)
        unscaled = x * (1 / c_in)
        shift = torch.tensor(conds, dtype=x.dtype)[:, None, None, None]
        clean = (unscaled * SPREAD**2 + (centre.to(x) + shift) * sigma**2) * (1 / (SPREAD**2 + sigma**2))
        return (clean - unscaled * c_skip) * (1 / c_out)

    return predict


def no_noise(sigma, sigma_next):
    raise AssertionError("a deterministic run drew noise")
