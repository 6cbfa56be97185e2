"""Every sampler's solver on the analytic denoiser against the vectors, in double and in single precision."""

import math

import pytest
import torch
from analytic import ALPHAS, Denoiser, Replay
from vectors import by_id, load

from sfumato.engine.sampling.noise import ImageNoise, Seed
from sfumato.engine.sampling.plan import SamplingOptions, plan_new
from sfumato.engine.sampling.prediction import Prediction
from sfumato.engine.sampling.samplers import samplers

HEADER, CASES = load("samplers")
SHAPE = tuple(HEADER["shape"])
PREDICTION = Prediction.build()


def option(name):
    """The name of a setting of UniPC as the request has it."""
    return name.replace("uni_pc", "unipc")


def problem(case, dtype):
    """Solver, start, levels and options of a case."""
    sampler = samplers[case["sampler"]]
    start = torch.tensor(case["x_start"], dtype=torch.float32).to(dtype).reshape(SHAPE)
    arguments = {**sampler.preset, **case["arguments"]}
    if "timesteps" in case:
        options = SamplingOptions(**{option(name): value for name, value in case.get("options", {}).items()})
        plan = plan_new(sampler.name, "Automatic", case["steps"], PREDICTION, options)
        # The plan's levels are float32; here the double run needs them as they follow from alphas_cumprod.
        sigmas = plan.sigmas.double()
        if sampler.spacing == "timesteps":
            alphas = torch.from_numpy(ALPHAS)[list(reversed(case["timesteps"]))].double()
            sigmas = ((1 - alphas) / alphas).sqrt()
            assert sigmas.float().tolist() == pytest.approx(plan.sigmas.tolist(), rel=1e-6)
        return sampler, start * math.hypot(1, sigmas[0]), sigmas, {**plan.options, **arguments}
    if sampler.spacing == "ends":
        return (
            sampler,
            start,
            torch.tensor([case["sigma_max"], case["sigma_min"]], dtype=torch.float32),
            {
                **arguments,
                **({"n": case["n"]} if "n" in case else {}),
            },
        )
    return sampler, start, torch.tensor(case["sigmas"], dtype=torch.float32), arguments


def run(case, dtype):
    sampler, x, sigmas, options = problem(case, dtype)
    mean = torch.tensor(HEADER["denoiser"]["mu"], dtype=torch.float32).reshape(SHAPE)
    denoise = Denoiser(mean, HEADER["denoiser"]["s"])
    if guidance := case.get("guidance"):
        denoise.uncond = torch.tensor(HEADER["denoiser"]["mu_uncond"], dtype=torch.float32).reshape(SHAPE)
        denoise.scale = guidance["cond_scale"] * sampler.guidance_factor
    noise, listed = case["noise"], case["noise"].get("calls")
    if noise["kind"] == "sequence":
        replay = Replay(noise["draws"], SHAPE, dtype=dtype)
    else:
        replay = Replay([c["values"] for c in listed], SHAPE, [(c["sigma"], c["sigma_next"]) for c in listed], dtype=dtype)
    *_, last = sampler.solver(denoise, x, sigmas, replay, **options)
    assert last.calls == len(denoise.sigmas)
    result = last.x
    return (result / math.hypot(1, last.sigma_next) if sampler.variance_preserving else result), denoise.sigmas


@pytest.mark.parametrize("case", by_id(CASES))
def test_double(case):
    got, levels = run(case, torch.float64)
    assert (got.flatten() - torch.tensor(case["expected"], dtype=torch.float64)).abs().max() <= HEADER["tolerance"]["float64_abs"]
    if "timesteps" in case:
        levels = [samplers[case["sampler"]].levels_of(PREDICTION).sigma_to_t(sigma) for sigma in levels]
    assert levels == pytest.approx(case["model_calls"], rel=1e-5, abs=1e-4)


@pytest.mark.parametrize("case", by_id(CASES))
def test_single(case):
    got, _ = run(case, torch.float32)
    allowed = max(HEADER["tolerance"]["float32_abs"], 4 * case["float32_max_abs_difference"])
    assert got.dtype == torch.float32
    assert (got.flatten() - torch.tensor(case["expected_float32"])).abs().max() <= allowed


@pytest.mark.parametrize("case", by_id(case for case in CASES if case["noise"]["kind"] == "interval"))
def test_own_brownian_path_is_that_of_the_vectors(case):
    """Not asked for by the vectors, but it makes the pictures of the SDE samplers those of A1111."""
    positive = [sigma for sigma in case["sigmas"] if sigma > 0]
    path = ImageNoise(SHAPE[1:], Seed(case["seed"])).brownian(min(positive), max(positive))
    for call in case["noise"]["calls"]:
        assert (path(call["sigma"], call["sigma_next"]).flatten() - torch.tensor(call["values"])).abs().max() < 5e-6


@pytest.mark.parametrize("case", by_id(case for case in CASES if "expected_info" in case))
def test_adaptive_steps(case):
    sampler, x, sigmas, options = problem(case, torch.float64)
    denoise = Denoiser(torch.tensor(HEADER["denoiser"]["mu"]).reshape(SHAPE), HEADER["denoiser"]["s"])
    steps = list(sampler.solver(denoise, x, sigmas, Replay(case["noise"]["draws"], SHAPE, dtype=torch.float64), **options))
    info = case["expected_info"]
    assert len(steps) == info["n_accept"]
    assert steps[-1].calls == len(denoise.sigmas) == info["nfe"] == 3 * (info["n_accept"] + info["n_reject"])
