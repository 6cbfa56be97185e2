"""What solvers promise: order, independence of the batch, untouched results, and nothing left behind."""

import gc
import math
import weakref
from functools import partial

import pytest
import torch
from gaussian import SPREAD, denoiser, exact, mean, network, no_noise

from sfumato.engine.sampling.guidance import Conditions, GuidanceOptions
from sfumato.engine.sampling.noise import BatchNoise, ImageNoise, Seed
from sfumato.engine.sampling.plan import SamplingOptions, plan_new
from sfumato.engine.sampling.prediction import Prediction
from sfumato.engine.sampling.sample import denoiser as guided_denoiser
from sfumato.engine.sampling.sample import noise_sampler, run, start_new
from sfumato.engine.sampling.samplers import samplers
from sfumato.engine.sampling.solvers import ddim, dpm, dpmpp, dpmpp_sde, euler, multistep, unipc
from sfumato.errors import NotANumber

PREDICTION = Prediction.build()
SHAPE = (4, 5, 7)


def even_logs(n, high=8.0, low=0.2):
    return torch.logspace(math.log10(high), math.log10(low), n + 1, dtype=torch.float64)


def error(solver, n):
    centre = mean((1, *SHAPE))
    x = centre + 8 * mean((1, *SHAPE), seed=4)
    *_, last = solver(denoiser(centre), x, even_logs(n), no_noise)
    return float((last.x - exact(x, 8.0, 0.2, centre)).abs().max())


@pytest.mark.parametrize(
    ("solver", "order"),
    [
        (euler.euler, 1),
        (ddim.ddim, 1),
        (euler.heun, 2),
        (euler.dpm2, 2),
        (multistep.lms, 3),
        (dpmpp.dpmpp_2m, 2),
        (partial(dpmpp.dpmpp_2s_ancestral, eta=0.0), 2),
        (partial(dpmpp_sde.dpmpp_sde, eta=0.0), 2),
        (partial(dpmpp_sde.dpmpp_2m_sde, eta=0.0), 2),
        (partial(dpmpp_sde.dpmpp_2m_sde, eta=0.0, solver_type="heun"), 2),
        (partial(dpmpp_sde.dpmpp_3m_sde, eta=0.0), 2),  # its first step, of first order, is the bound
        (partial(unipc.unipc, order=1), 2),
        (partial(unipc.unipc, order=2, lower_order_final=False), 3),
        (partial(unipc.unipc, order=2, lower_order_final=False, variant="bh2"), 3),
        (partial(unipc.unipc, order=3, lower_order_final=False, variant="bh2"), 4),
        (partial(unipc.unipc, order=3), 2),
        (partial(unipc.unipc, order=3, variant="vary_coeff"), 1),  # see the solver
    ],
)
def test_order_of_convergence(solver, order):
    coarse, fine = error(solver, 40), error(solver, 80)
    assert math.log2(coarse / fine) > order - 0.25


def test_order_of_dpm_fast():
    """Each step costs three evaluations; the last, of first order, sets a floor, so it is held against the budget."""
    errors = [error(partial(dpm.dpm_fast, n=n), 1) for n in (31, 61, 121)]
    assert errors[0] / errors[1] > 3
    assert errors[1] / errors[2] > 3


def test_dpm_adaptive_keeps_its_tolerance():
    loose, tight = (error(partial(dpm.dpm_adaptive, rtol=r, atol=r / 6), 1) for r in (0.05, 0.005))
    assert tight < loose < 0.5


def test_dpm_adaptive_stops_at_nan():
    def broken(x, sigma, call):
        return denoiser(x * math.nan)(x, sigma, 0)

    with pytest.raises(NotANumber):
        list(dpm.dpm_adaptive(broken, torch.ones(1, 1, 2, 2), even_logs(1), no_noise))


@pytest.mark.parametrize(
    ("ancestral", "plain"),
    [
        (euler.euler_ancestral, euler.euler),
        (euler.dpm2_ancestral, euler.dpm2),
        (dpmpp_sde.dpmpp_2m_sde, dpmpp.dpmpp_2m),
        (ddim.ddim, euler.euler),
    ],
)
def test_without_fresh_noise_it_is_the_deterministic_solver(ancestral, plain):
    centre, x = mean((1, *SHAPE)), 8 * mean((1, *SHAPE), seed=4)
    sigmas = torch.cat([even_logs(9), torch.zeros(1, dtype=torch.float64)])
    *_, a = ancestral(denoiser(centre), x, sigmas, no_noise, eta=0.0)
    *_, b = plain(denoiser(centre), x, sigmas, no_noise)
    torch.testing.assert_close(a.x, b.x, rtol=1e-12, atol=1e-12)


def sampled(name, seeds, *, options=SamplingOptions(), steps=9, shape=SHAPE, scheduler="Automatic", kind="eps"):  # noqa: B008
    """All steps of a run with guidance, composed prompts and the sampler's own noise; float32 throughout."""
    prediction = Prediction.build(kind)
    plan = plan_new(name, scheduler, steps, prediction, options)
    noise = BatchNoise([ImageNoise(shape, Seed(seed)) for seed in seeds])
    levels = plan.sampler.levels_of(prediction)
    conditions = [Conditions(((1.0, [(3, 0.2), (999, 0.4)]), (0.3, [(999, -0.1 * (seed % 3))])), [(999, 0.1)]) for seed in seeds]
    raw = network(prediction, mean(shape).float(), levels)
    denoise = guided_denoiser(plan, prediction, raw, conditions, GuidanceOptions(scale=2.0))
    return plan, list(run(plan, denoise, start_new(plan, noise.first), noise_sampler(plan, noise)))


@pytest.mark.parametrize("name", [name for name in samplers if not samplers[name].alone])
def test_a_picture_does_not_depend_on_its_batch(name):
    options = SamplingOptions(eta=0.7, s_churn=2.0)
    _, batch = sampled(name, [11, 12, 13], options=options)
    for i, seed in enumerate([11, 12, 13]):
        _, alone = sampled(name, [seed], options=options)
        assert [torch.equal(a.x[0], b.x[i]) for a, b in zip(alone, batch, strict=True)] == [True] * len(batch)
    assert batch[-1].x.dtype == torch.float32


@pytest.mark.parametrize("steps", [4, 9, 10, 20, 36])
@pytest.mark.parametrize("name", list(samplers))
def test_steps_are_as_planned(name, steps):
    plan, made = sampled(name, [5], steps=steps, shape=(2, 3, 3))
    assert [step.index for step in made] == list(range(len(made)))
    assert plan.yields in (None, len(made))
    calls = [step.calls for step in made]
    assert calls == sorted(set(calls)) or name == "UniPC"
    assert made[-1].sigma_next == pytest.approx(float(plan.sigmas[-1]))
    assert made[0].sigma == pytest.approx(float(plan.sigmas[0]))
    if plan.sampler.spacing in ("sigmas", "lcm") and name != "Restart":
        assert calls[-1] in (plan.total_calls, plan.total_calls - 1)
    assert all(torch.isfinite(step.x).all() for step in made)


@pytest.mark.parametrize("name", list(samplers))
def test_yielded_tensors_are_never_written_to(name):
    plan = plan_new(name, "Automatic", 6, PREDICTION)
    noise = BatchNoise([ImageNoise(SHAPE, Seed(1))])
    start = start_new(plan, noise.first)
    before, kept = start.clone(), []
    for step in run(plan, denoiser(mean((1, *SHAPE))), start, noise_sampler(plan, noise)):
        kept.append((step.x, step.x.clone(), step.denoised, step.denoised.clone()))
    assert torch.equal(start, before)
    assert all(torch.equal(a, b) and torch.equal(c, d) for a, b, c, d in kept)


@pytest.mark.parametrize("name", list(samplers))
def test_closing_leaves_nothing_behind(name):
    plan = plan_new(name, "Automatic", 9, PREDICTION)
    noise = BatchNoise([ImageNoise(SHAPE, Seed(1))])
    denoise = denoiser(mean((1, *SHAPE)))
    steps = run(plan, denoise, start_new(plan, noise.first), noise_sampler(plan, noise))
    step = next(steps)
    steps.close()
    made, latents = len(denoise.sigmas), weakref.ref(step.x)
    del step, steps
    gc.collect()
    assert latents() is None
    assert len(denoise.sigmas) == made
    assert torch.is_grad_enabled()


@pytest.mark.parametrize(
    "name", ["Euler a", "DPM2 a", "DPM++ 2S a", "DPM++ SDE", "DPM++ 2M SDE", "DPM++ 2M SDE Heun", "DPM++ 3M SDE", "DDIM"]
)
def test_stochastic_samplers_keep_the_spread_of_the_data(name):
    steps = 100 if name in ("Euler a", "DDIM") else 30
    plan = plan_new(name, "Karras", steps, PREDICTION, SamplingOptions(eta=1.0))
    noise = BatchNoise([ImageNoise((4, 32, 32), Seed(21))])
    *_, last = run(plan, denoiser(torch.zeros(1)), start_new(plan, noise.first), noise_sampler(plan, noise))
    final = last.sigma_next
    expected = math.sqrt(SPREAD**2 + final**2) / (math.hypot(1, final) if plan.sampler.variance_preserving else 1)
    assert float(last.x.std()) == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("name", ["Euler", "Heun", "LMS"])
def test_flow_models(name):
    """A flow model sampled to the end: the exact solution keeps the quantile of the start."""
    prediction = Prediction.build("flow", shift=3.0)
    plan = plan_new(name, "Uniform", 60, prediction)
    x = torch.randn(1, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(2))

    def network(x, timesteps, conds):
        sigma = float(timesteps[0]) / 1000
        variance = (1 - sigma) ** 2 * SPREAD**2 + sigma**2
        # E[noise - clean | x] for clean ~ N(0, SPREAD^2)
        return x * ((sigma - (1 - sigma) * SPREAD**2) / variance)

    conditions = [Conditions(((1.0, [(999, None)]),), [(999, None)])]
    denoise = guided_denoiser(plan, prediction, network, conditions, GuidanceOptions(scale=1.0))
    *_, last = run(plan, denoise, start_new(plan, x), no_noise)
    torch.testing.assert_close(last.x, x * SPREAD, rtol=0.05, atol=0.05)
