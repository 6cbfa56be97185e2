"""Plans, predictions, schedules and names, above all where they are asked for what cannot be."""

import math

import numpy as np
import pytest
import torch
from gaussian import mean, network

from sfumato.engine.models.config import ModelSpec, UNetConfig, VAEConfig
from sfumato.engine.sampling import beta
from sfumato.engine.sampling.plan import SamplingOptions, img2img_steps, plan_from_image, plan_new, sigmas_for
from sfumato.engine.sampling.prediction import TERMINAL_ALPHA, Prediction
from sfumato.engine.sampling.sample import completed, refiner_takes_over, start_from_image, start_new
from sfumato.engine.sampling.samplers import lcm_levels, resolve, samplers
from sfumato.engine.sampling.schedules import schedules
from sfumato.errors import InvalidRequest, NotFound, Unsupported

PREDICTION = Prediction.build()


@pytest.mark.parametrize("steps", [0, -1, 10001])
@pytest.mark.parametrize("name", list(samplers))
def test_impossible_steps(name, steps):
    with pytest.raises(InvalidRequest, match="steps"):
        plan_new(name, "Automatic", steps, PREDICTION)


@pytest.mark.parametrize("name", ["DDIM", "DDIM CFG++", "PLMS"])
def test_samplers_on_timesteps_need_two_steps(name):
    with pytest.raises(InvalidRequest, match="2 steps"):
        plan_new(name, "Automatic", 1, PREDICTION)
    assert plan_new(name, "Automatic", 2, PREDICTION).yields == 1


@pytest.mark.parametrize("name", [name for name in samplers if samplers[name].spacing != "timesteps"])
def test_one_step(name):
    plan = plan_new(name, "Automatic", 1, PREDICTION)
    assert plan.yields in (None, 1)


@pytest.mark.parametrize("name", list(samplers))
@pytest.mark.parametrize("strength", [-0.1, 0.0, 1.1])
def test_impossible_strength(name, strength):
    with pytest.raises(InvalidRequest):
        plan_from_image(name, "Automatic", 20, strength, PREDICTION, fix_steps=True)


def test_a_strength_that_leaves_ddim_no_step():
    with pytest.raises(InvalidRequest, match="Raise the strength"):
        plan_from_image("DDIM", "Automatic", 20, 0.05, PREDICTION)


@pytest.mark.parametrize("scheduler", list(schedules))
@pytest.mark.parametrize("steps", [1, 2, 3, 10, 150, 1003])
def test_all_schedules_descend(scheduler, steps):
    for sampler in ("Euler", "LCM", "DPM2"):
        sigmas = sigmas_for(sampler, scheduler, steps, PREDICTION)
        assert (sigmas.diff() <= 0).all()
        assert torch.isfinite(sigmas).all()
        assert (sigmas[:-1] > 0).all()


@pytest.mark.parametrize(("low", "high"), [(5.0, 2.0), (20.0, 0.0), (0.0, 0.01)])
def test_impossible_range(low, high):
    with pytest.raises(InvalidRequest, match="minimum sigma"):
        plan_new("Euler", "Karras", 10, PREDICTION, SamplingOptions(sigma_min=low, sigma_max=high))


def test_flow_models_have_their_samplers():
    with pytest.raises(Unsupported, match="Euler"):
        plan_new("DDIM", "Automatic", 10, Prediction.build("flow"))


@pytest.mark.parametrize(("sampler", "scheduler"), [("Eulr", "Automatic"), ("Euler", "Karas"), ("Euler Karas", "Automatic")])
def test_unknown_names_are_answered_with_similar_ones(sampler, scheduler):
    with pytest.raises(NotFound, match=r"(?i)euler|karras"):
        resolve(sampler, scheduler)


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (("DPM++ 2M Karras",), ("DPM++ 2M", "Automatic")),
        (("euler sgm uniform",), ("Euler", "SGM Uniform")),
        (("k_euler_a", "karras"), ("Euler a", "Karras")),
        (("LMS SGMUniform", "Karras"), ("LMS", "SGM Uniform")),
        ((" DDIM ", ""), ("DDIM", "Automatic")),
        (("Euler", "Uniform"), ("Euler", "Uniform")),
    ],
)
def test_names(given, found):
    assert resolve(*given) == found


def test_long_names_are_refused_quickly():
    with pytest.raises(NotFound):
        resolve(" karras" * 10000)


@pytest.mark.parametrize("kind", ["eps", "v", "flow"])
@pytest.mark.parametrize("sigma", [0.01, 0.4, 0.99, 5.0])
def test_a_perfect_network_is_turned_into_a_perfect_estimate(kind, sigma):
    if kind == "flow" and sigma > 1:
        return
    prediction = Prediction.build(kind)
    clean, noise = mean((2, 4, 3, 3)), mean((2, 4, 3, 3), seed=4)
    root = math.hypot(1, sigma)
    target = {"eps": noise, "v": noise / root - clean * sigma / root, "flow": noise - clean}[kind]
    seen = []

    def perfect(x, timesteps, conds):
        seen.append((x, timesteps))
        return target

    x = prediction.noised(clean, noise, sigma)
    torch.testing.assert_close(prediction.denoiser(perfect)(x, sigma, [None, None]), clean, rtol=0, atol=1e-12)
    ((scaled, timesteps),) = seen
    assert timesteps.tolist() == pytest.approx([prediction.levels.sigma_to_t(sigma)] * 2)
    torch.testing.assert_close(scaled, x if kind == "flow" else x / root)


def test_half_precision_networks_do_not_lower_the_latents():
    latents = torch.ones(1, 4, 2, 2)
    result = PREDICTION.denoiser(lambda x, t, conds: x.to(torch.bfloat16))(latents, 1.0, [None])
    assert result.dtype == torch.float32


def test_prediction_of_a_checkpoint():
    spec = ModelSpec("sd2", UNetConfig(), VAEConfig(), (), prediction="v", zero_terminal_snr=True)
    prediction = Prediction.of(spec)
    assert prediction.kind == "v"
    assert prediction.levels.sigma_max == pytest.approx(math.sqrt((1 - TERMINAL_ALPHA) / TERMINAL_ALPHA), rel=1e-6)
    assert np.all(np.diff(prediction.levels.sigmas) > 0)
    for name in ("Euler", "DPM++ 2M", "DDIM", "UniPC", "LCM"):
        assert (plan_new(name, "Automatic", 10, prediction).sigmas.diff() < 0).all()


@pytest.mark.parametrize("betas", [(0.0, 0.01, 10), (0.02, 0.01, 10), (0.001, 1.0, 10), (0.001, 0.01, 1)])
def test_impossible_noise_schedule(betas):
    start, end, timesteps = betas
    with pytest.raises(InvalidRequest, match="beta"):
        Prediction.build(linear_start=start, linear_end=end, timesteps=timesteps)


@pytest.mark.parametrize("levels", [PREDICTION.levels, PREDICTION.vp_levels, Prediction.build("flow", shift=3).levels])
def test_sigma_and_timestep_are_inverse(levels):
    for t in (1.0, 3.7, 250.25, 500.0, 998.5):
        assert levels.sigma_to_t(levels.t_to_sigma(t)) == pytest.approx(t, rel=1e-6)


def test_short_models_have_lcm_levels():
    levels = lcm_levels(Prediction.build(timesteps=30).levels)
    assert len(levels) == 30


def test_starts():
    noise, clean = mean((1, 4, 3, 3)), mean((1, 4, 3, 3), seed=4)
    plan = plan_new("Euler", "Karras", 10, PREDICTION)
    torch.testing.assert_close(start_new(plan, noise), noise * plan.start_sigma)
    sgm = plan_new("Euler", "Karras", 10, PREDICTION, SamplingOptions(sgm_noise_multiplier=True))
    torch.testing.assert_close(start_new(sgm, noise), noise * math.hypot(1, plan.start_sigma))
    half = plan_from_image("Euler", "Karras", 10, 0.5, PREDICTION)
    assert half.yields == 6
    start = start_from_image(half, PREDICTION, clean, noise, noise_multiplier=0.5, extra_noise=0.2)
    torch.testing.assert_close(start, clean + noise * 0.5 * (half.start_sigma + 0.2))


def test_a_second_pass_with_its_own_steps():
    plan = plan_from_image("DPM++ 2M", "Karras", 20, 0.5, PREDICTION, explicit_steps=7)
    assert img2img_steps(20, 0.5, explicit_steps=7) == (14, 6)
    assert plan.yields == plan.total_calls == 7


def test_refiner():
    levels = PREDICTION.levels
    assert completed(levels.sigma_max, levels) == 0
    assert completed(levels.sigma_min, levels) == pytest.approx(0.999)
    switch = levels.t_to_sigma(200)
    assert not refiner_takes_over(0.8, switch, levels)
    assert refiner_takes_over(0.799, switch, levels)
    assert refiner_takes_over(0.5, 14.0, levels, step=5, steps=10, by_steps=True)
    assert not refiner_takes_over(0.5, 0.1, levels, step=4, steps=10, by_steps=True)


@pytest.mark.parametrize(("a", "b"), [(0.6, 0.6), (0.4, 0.9), (1, 1), (5, 2), (0.01, 0.01), (100, 100), (0.01, 100), (100, 0.01)])
def test_beta_quantiles(a, b):
    stats = pytest.importorskip("scipy.stats")
    at = np.linspace(0, 1, 23)
    assert [beta.quantile(p, a, b) for p in at] == pytest.approx(stats.beta.ppf(at, a, b), rel=0, abs=1e-12)
    assert [beta.cdf(x, a, b) for x in at] == pytest.approx(stats.beta.cdf(at, a, b), rel=0, abs=1e-12)


def test_network_of_the_tests_is_consistent():
    """The Gaussian network that other tests use predicts the same clean latents for every kind."""
    centre, x = mean((4, 3, 3)), mean((1, 4, 3, 3), seed=5) * 2
    estimates = []
    for kind in ("eps", "v"):
        prediction = Prediction.build(kind)
        raw = network(prediction, centre, prediction.levels)
        estimates.append(prediction.denoiser(raw)(x, prediction.levels.t_to_sigma(500), [0.0]))
    torch.testing.assert_close(*estimates, rtol=1e-9, atol=1e-9)
