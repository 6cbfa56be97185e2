"""Whole paths of named samplers, from seeds and prompt schedules to latents, against the vectors."""

import pytest
import torch
from a1111_settings import sampling_options
from analytic import Replay, noise_network
from vectors import by_id, load

from sfumato.engine.sampling.facts import facts
from sfumato.engine.sampling.guidance import Conditions, GuidanceOptions
from sfumato.engine.sampling.noise import BatchNoise, ImageNoise, Seed
from sfumato.engine.sampling.plan import plan_from_image, plan_new
from sfumato.engine.sampling.prediction import Prediction
from sfumato.engine.sampling.sample import denoiser, noise_sampler, run, start_from_image, start_new
from sfumato.engine.sampling.samplers import resolve_a1111, samplers

HEADER, CASES = load("sampling_paths")
SHAPE = tuple(HEADER["shape_per_image"])
MEANS = {name: torch.tensor(values).reshape(SHAPE) for name, values in HEADER["means"].items()}
INIT = torch.tensor(HEADER["init_latent"]).reshape(1, *SHAPE)
PREDICTION = Prediction.build()


def guidance_options(case):
    settings, request = case["options"], case["request"]
    return GuidanceOptions(
        scale=case["cfg_scale"],
        skip_early=settings.get("skip_early_cond", 0.0),
        s_min_uncond=request.get("s_min_uncond", settings.get("s_min_uncond", 0.0)),
        s_min_uncond_all=settings.get("s_min_uncond_all", False),
    )


def batch_noise(case):
    given = case.get("noise", {})
    seeds = [
        Seed(
            seed,
            subseed=(given.get("subseeds") or [0] * len(case["seeds"]))[i],
            subseed_strength=given.get("subseed_strength", 0.0),
            eta_delta=case["options"].get("eta_noise_seed_delta", 0),
        )
        for i, seed in enumerate(case["seeds"])
    ]
    return BatchNoise([ImageNoise(SHAPE, seed) for seed in seeds])


def conditions(case):
    return [
        Conditions(
            tuple((weight, tuple((last, name) for last, name in schedule)) for weight, schedule in cond),
            tuple((last, name) for last, name in uncond),
        )
        for cond, uncond in zip(case["cond"], case["uncond"], strict=True)
    ]


def planned(case):
    """The plan of a case."""
    name, scheduler = resolve_a1111(case["sampler"], case["scheduler"], convert_automatic=False)
    options, strength = sampling_options(case, samplers[name]), case["request"].get("denoising_strength")
    if strength is None:
        return plan_new(name, scheduler, case["steps"], PREDICTION, options)
    fix = case["options"].get("img2img_fix_steps", False)
    return plan_from_image(name, scheduler, case["steps"], strength, PREDICTION, options, fix_steps=fix)


def sample(case, *, listed_noise=True):
    """The finished latents and the timesteps of all evaluations."""
    plan, noise, settings = planned(case), batch_noise(case), case["options"]
    if "denoising_strength" not in case["request"]:
        start = start_new(plan, noise.first)
    else:
        extra = settings.get("img2img_extra_noise", 0.0)
        multiplier = case["request"].get("initial_noise_multiplier", settings.get("initial_noise_multiplier", 1.0))
        start = start_from_image(plan, PREDICTION, INIT, noise.first, noise_multiplier=multiplier, extra_noise=extra)
    seen = []
    kept = (INIT, torch.tensor(case["mask"]).reshape(1, 1, *SHAPE[1:])) if "mask" in case else None
    network = noise_network(MEANS, HEADER["s"], seen)
    denoise = denoiser(plan, PREDICTION, network, conditions(case), guidance_options(case), kept=kept)
    source = noise_sampler(plan, noise)
    if listed_noise and "interval_noise" in case:
        calls = case["interval_noise"]
        intervals = [(call["sigma"], call["sigma_next"]) for call in calls]
        source = Replay([call["values"] for call in calls], (len(case["seeds"]), *SHAPE), intervals)
    *_, last = run(plan, denoise, start, source)
    return last.x, seen


def allowed(case):
    return max(HEADER["tolerance"]["float32_abs"], 4 * case["float32_max_abs_difference"])


@pytest.mark.parametrize("case", by_id(CASES))
def test_path(case):
    latents, seen = sample(case)
    if case["cfg_scale"] != 1:  # then the negative prompt need not be evaluated
        assert [len(rows) for rows in seen] == [len(rows) for rows in case["model_batches"]]
    # The adaptive solver's steps follow from its rounding.
    slack = 1.0 if case["sampler"] == "DPM adaptive" else 0.01
    for rows, expected in zip(seen, case["model_batches"], strict=True):
        assert rows == pytest.approx(expected[: len(rows)], rel=1e-4, abs=slack)
    assert (latents.flatten() - torch.tensor(case["expected"])).abs().max() <= allowed(case)


@pytest.mark.parametrize("case", by_id(CASES))
def test_facts(case):
    """Facts of the guidance and of img2img are the request's. Churn of the request is recorded too, on purpose (see `facts`)."""
    elsewhere = ("NGMS", "NGMS all steps", "Skip Early CFG", "Extra noise", "Noise multiplier")
    churn = {"s_churn": "Sigma churn", "s_tmin": "Sigma tmin", "s_tmax": "Sigma tmax", "s_noise": "Sigma noise"}
    expected = {key: value for key, value in case["expected_infotext"].items() if key not in elsewhere}
    expected |= {churn[name]: value for name, value in case["request"].items() if name in churn}
    assert facts(planned(case)) == expected


@pytest.mark.parametrize("case", by_id(case for case in CASES if "interval_noise" in case))
def test_path_with_own_brownian_noise(case):
    """Not asked for by the vectors. Paths have six digits of sigma, where the rounding of DPM++ SDE's midpoints shows."""
    latents, _ = sample(case, listed_noise=False)
    resolution = 0.005 if case["sampler"] == "DPM++ SDE" else 0.0
    assert (latents.flatten() - torch.tensor(case["expected"])).abs().max() <= allowed(case) + resolution
