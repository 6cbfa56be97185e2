"""Carrying out a plan: where it starts, its steps, and when the refiner takes over."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor

from sfumato.engine.sampling.guidance import Conditions, GuidanceOptions, guide
from sfumato.engine.sampling.levels import NoiseLevels
from sfumato.engine.sampling.mask import keep_after, keep_before
from sfumato.engine.sampling.noise import BatchNoise
from sfumato.engine.sampling.plan import SamplingPlan
from sfumato.engine.sampling.prediction import Network, Prediction
from sfumato.engine.sampling.solvers.lcm import boundary
from sfumato.engine.sampling.step import Denoise, NoiseSampler, Step

C = TypeVar("C")


def denoiser(
    plan: SamplingPlan,
    prediction: Prediction,
    network: Network[C],
    conditions: Sequence[Conditions[C]],
    guidance: GuidanceOptions,
    *,
    kept: tuple[Tensor, Tensor] | None = None,
) -> Denoise:
    """The denoiser of a run: network, guidance and mask as the plan's sampler wants them.

    Args:
        plan: see `plan`.
        prediction: the model's.
        network: see `Network`; it is given one batch with all conditions of a step.
        conditions: one per picture.
        guidance: see there.
        kept: latents and mask (1 where they are kept), see `mask`.
    """
    sampler = plan.sampler
    levels = sampler.levels_of(prediction)
    least = guidance.s_min_uncond
    if least and sampler.variance_preserving:
        least = levels.t_to_sigma(least)
    denoise = guide(
        prediction.denoiser(network, levels),
        conditions,
        replace(guidance, scale=guidance.scale * sampler.guidance_factor, s_min_uncond=least),
        prediction,
        total_calls=plan.total_calls,
        needs_uncond=sampler.needs_uncond,
    )
    if sampler.spacing == "lcm":
        denoise = boundary(denoise, levels)
    if kept is not None:
        denoise = (keep_before if sampler.variance_preserving else keep_after)(denoise, *kept)
    return denoise


def start_new(plan: SamplingPlan, noise: Tensor) -> Tensor:
    """The start of a new picture.

    Args:
        plan: made by `plan_new`.
        noise: of unit variance [b, c, h, w].
    """
    sigma = float(plan.sigmas[0]) if plan.sampler.variance_preserving else plan.start_sigma
    return noise * (math.hypot(1, sigma) if plan.sgm_noise or plan.sampler.variance_preserving else sigma)


def start_from_image(
    plan: SamplingPlan,
    prediction: Prediction,
    latents: Tensor,
    noise: Tensor,
    *,
    noise_multiplier: float = 1.0,
    extra_noise: float = 0.0,
) -> Tensor:
    """The start of a change to a picture.

    Args:
        plan: made by `plan_from_image`.
        prediction: the model's.
        latents: clean [b, c, h, w].
        noise: of unit variance [b, c, h, w].
        noise_multiplier: factor of the noise; below 1 gives smoother pictures (A1111's initial_noise_multiplier).
        extra_noise: noise beyond what the level calls for, for more detail (A1111's img2img_extra_noise).
    """
    noise = noise * noise_multiplier
    if not plan.sampler.variance_preserving:
        x = prediction.noised(latents, noise, plan.start_sigma)
        return x + noise * extra_noise if extra_noise > 0 else x
    # The DDIM family brings the picture one step further up than where it begins; A1111 does so too.
    x = latents + noise * (plan.start_sigma + max(extra_noise, 0.0))
    return x * (math.hypot(1, float(plan.sigmas[0])) / math.hypot(1, plan.start_sigma))


def noise_sampler(plan: SamplingPlan, noise: BatchNoise, *, per_batch: bool = False) -> NoiseSampler:
    """The noise that a plan's solver needs: the pictures' next draws, or their Brownian paths.

    Args:
        plan: see there.
        noise: of the pictures.
        per_batch: the Brownian samplers take plain draws instead (A1111's no_dpmpp_sde_batch_determinism).
    """
    return noise.brownian(*plan.range) if plan.sampler.brownian and not per_batch else noise


@torch.no_grad()
def run(plan: SamplingPlan, denoise: Denoise, start: Tensor, noise: NoiseSampler) -> Iterator[Step]:
    """The steps of a run; the last one's `x` are the finished latents. Close the generator to stop.

    The DDIM family's `x` are yielded in the variance-preserving scale.

    Args:
        plan: see there.
        denoise: see `denoiser`.
        start: see `start_new` and `start_from_image`.
        noise: see `noise_sampler`.
    """
    for step in plan.sampler.solver(denoise, start, plan.sigmas, noise, **plan.options):
        yield replace(step, x=step.x * (1 / math.hypot(1, step.sigma_next))) if plan.sampler.variance_preserving else step


def completed(sigma: float, levels: NoiseLevels) -> float:
    """The part of the way from pure noise to a picture that is done at level `sigma`, 0 to 1, by the model's timesteps."""
    last = len(levels) - 1
    return (last - levels.nearest(sigma)) / (last + 1)


def refiner_takes_over(
    switch_at: float, sigma: float, levels: NoiseLevels, *, step: int = 0, steps: int = 0, by_steps: bool = False
) -> bool:
    """Whether the refiner does the evaluation at level `sigma`.

    Args:
        switch_at: 0 to 1, the part of the way that the base model does.
        sigma: the level.
        levels: of the base model.
        step: evaluations made so far, counted as `SamplingPlan.total_calls` counts.
        steps: of the run.
        by_steps: measure the way in steps rather than timesteps (A1111's refiner_switch_by_sample_steps).
    """
    return (step / max(steps, 1) if by_steps else completed(sigma, levels)) >= switch_at
