"""Solvers and schedules against diffusers, on an analytic denoiser and the same noise levels."""

import math

import diffusers
import numpy as np
import pytest
import torch

from sfumato.engine.sampling.guidance import rescaled
from sfumato.engine.sampling.plan import SamplingOptions, plan_new, sigmas_for
from sfumato.engine.sampling.prediction import Prediction
from sfumato.engine.sampling.solvers import ddim, dpmpp, euler, multistep, unipc
from sfumato.engine.sampling.step import Guided

# diffusers' own use of numpy
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

MODEL = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
PREDICTION = Prediction.build()
SPREAD = 0.7
STEPS = 8


def start(seed):
    return torch.randn(1, 4, 6, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def clean(x, sigma, seed):
    centre = start(seed + 1)
    return (x * SPREAD**2 + centre * sigma**2) / (SPREAD**2 + sigma**2)


def ours(solver, x, sigmas, seed, noise=None, **options):
    def denoise(x, sigma, call):
        estimate = clean(x, sigma, seed)
        return Guided(estimate, estimate)

    *_, last = solver(denoise, x, torch.as_tensor(sigmas, dtype=torch.float64), noise, **options)
    return last.x


def theirs(scheduler, x, seed, **arguments):
    """Their loop on their own levels, on latents of the variance-exploding scale."""
    for t in scheduler.timesteps:
        scaled = scheduler.scale_model_input(x, t)
        sigma = float(scheduler.sigmas[scheduler.step_index].double())
        x = scheduler.step((x - clean(x, sigma, seed)) / sigma, t, x, **arguments).prev_sample
        assert scaled.shape == x.shape
    return x


def theirs_preserving(scheduler, x, seed, sigmas):
    """Their loop where latents have the variance-preserving scale, at the given levels."""
    x = x / math.hypot(1, sigmas[0])
    for t, sigma in zip(scheduler.timesteps, sigmas, strict=False):
        exploding = x * math.hypot(1, sigma)
        x = scheduler.step((exploding - clean(exploding, sigma, seed)) / sigma, t, x).prev_sample
    return x


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("karras", [False, True])
@pytest.mark.parametrize(
    ("kind", "solver", "options"),
    [("EulerDiscreteScheduler", euler.euler, {}), ("LMSDiscreteScheduler", multistep.lms, {"order": 4})],
)
def test_solvers_on_sigmas(kind, solver, options, karras, seed):
    scheduler = getattr(diffusers, kind)(**MODEL, use_karras_sigmas=karras)
    scheduler.set_timesteps(STEPS)
    sigmas = scheduler.sigmas.double()
    x = start(seed) * float(sigmas[0])
    close(theirs(scheduler, x, seed, **options), ours(solver, x, sigmas, seed))


@pytest.mark.parametrize("karras", [False, True])
def test_heun(karras, seed):
    scheduler = diffusers.HeunDiscreteScheduler(**MODEL, use_karras_sigmas=karras)
    scheduler.set_timesteps(STEPS)
    # They list inner levels twice.
    sigmas = torch.cat([scheduler.sigmas[:1], scheduler.sigmas[1:-1:2], scheduler.sigmas[-1:]]).double()
    assert (sigmas.diff() < 0).all()
    x = start(seed) * float(sigmas[0])
    expected = x
    for i, t in enumerate(scheduler.timesteps):
        sigma = float(sigmas[(i + 1) // 2])
        expected = scheduler.step((expected - clean(expected, sigma, seed)) / sigma, t, expected).prev_sample
    close(expected, ours(euler.heun, x, sigmas, seed))


@pytest.mark.parametrize("final", ["zero", "sigma_min"])
@pytest.mark.parametrize("karras", [False, True])
def test_dpmpp_2m(karras, final, seed):
    scheduler = diffusers.DPMSolverMultistepScheduler(
        **MODEL, use_karras_sigmas=karras, final_sigmas_type=final, lower_order_final=False
    )
    scheduler.set_timesteps(STEPS)
    sigmas = scheduler.sigmas.double().tolist()
    x = start(seed) * sigmas[0]
    got = ours(dpmpp.dpmpp_2m, x, sigmas, seed) / math.hypot(1, sigmas[-1])
    close(theirs_preserving(scheduler, x, seed, sigmas), got)


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("variant", ["bh1", "bh2"])
@pytest.mark.parametrize("lower", [True, False])
def test_unipc(variant, order, lower, seed):
    scheduler = diffusers.UniPCMultistepScheduler(
        **MODEL, solver_order=order, solver_type=variant, lower_order_final=lower, final_sigmas_type="sigma_min"
    )
    scheduler.set_timesteps(STEPS)
    sigmas = scheduler.sigmas.double().tolist()
    x = start(seed) * sigmas[0]
    got = ours(unipc.unipc, x, sigmas, seed, order=order, variant=variant, lower_order_final=lower)
    close(theirs_preserving(scheduler, x, seed, sigmas), got / math.hypot(1, sigmas[-1]))


@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
def test_ddim(eta, seed):
    scheduler = diffusers.DDIMScheduler(**MODEL, set_alpha_to_one=False, clip_sample=False, steps_offset=1)
    scheduler.set_timesteps(10)
    alphas = scheduler.alphas_cumprod.double()
    used = torch.cat([alphas[scheduler.timesteps], alphas[:1]])
    sigmas = ((1 - used) / used).sqrt().tolist()
    x = start(seed) * math.hypot(1, sigmas[0])
    fresh = [start(100 + i) for i in range(10)]
    expected = x / math.hypot(1, sigmas[0])
    for i, t in enumerate(scheduler.timesteps):
        exploding = expected * math.hypot(1, sigmas[i])
        noise = (exploding - clean(exploding, sigmas[i], seed)) / sigmas[i]
        more = {"eta": eta, "variance_noise": fresh[i]} if eta else {}
        expected = scheduler.step(noise, t, expected, **more).prev_sample
    drawn = iter(fresh)
    got = ours(ddim.ddim, x, sigmas, seed, noise=lambda a, b: next(drawn), eta=eta)
    close(expected, got / math.hypot(1, sigmas[-1]))


def test_levels_of_the_schedules():
    """Their Karras levels, and their even timesteps from end to end, are ours."""
    karras = diffusers.EulerDiscreteScheduler(**MODEL, use_karras_sigmas=True)
    karras.set_timesteps(STEPS)
    close(sigmas_for("Euler", "Karras", STEPS, PREDICTION), karras.sigmas)
    even = diffusers.EulerDiscreteScheduler(**MODEL, timestep_spacing="linspace")
    even.set_timesteps(STEPS)
    # They interpolate sigma itself between timesteps where k-diffusion interpolates its logarithm.
    torch.testing.assert_close(sigmas_for("Euler", "Uniform", STEPS, PREDICTION), even.sigmas, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("steps", [5, 10, 20])
def test_timesteps_of_ddim(steps):
    scheduler = diffusers.DDIMScheduler(**MODEL, steps_offset=1)
    scheduler.set_timesteps(steps)
    plan = plan_new("DDIM", "Automatic", steps, PREDICTION, SamplingOptions())
    close(plan.sigmas, torch.tensor([PREDICTION.levels.t_to_sigma(float(t)) for t in scheduler.timesteps]))


def test_zero_terminal_snr():
    theirs = diffusers.EulerDiscreteScheduler(**MODEL, rescale_betas_zero_snr=True)
    alphas = theirs.alphas_cumprod.numpy()
    levels = Prediction.build(terminal_zero=True).levels
    np.testing.assert_allclose(1 / (1 + levels.sigmas[:-1].astype(np.float64) ** 2), alphas[:-1], rtol=1e-4, atol=1e-6)


def test_rescaled_guidance(seed):
    from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import rescale_noise_cfg

    guided, conditional = start(seed) * 3, start(seed + 5)
    close(rescaled(guided, conditional, 0.6), rescale_noise_cfg(guided, conditional, guidance_rescale=0.6))


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_prediction_types(kind, seed):
    """Their estimate of the clean latents from a raw prediction is ours."""
    scheduler = diffusers.EulerDiscreteScheduler(**MODEL, prediction_type=kind)
    scheduler.set_timesteps(STEPS)
    raw, t = start(seed), scheduler.timesteps[3]
    x = start(seed + 1) * 3
    scheduler.scale_model_input(x, t)
    sigma = float(scheduler.sigmas[scheduler.step_index])
    expected = scheduler.step(raw, t, x).pred_original_sample
    prediction = Prediction.build("eps" if kind == "epsilon" else "v")
    close(prediction.denoiser(lambda x, t, conds: raw)(x, sigma, [None]), expected)
