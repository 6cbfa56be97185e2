"""Names, tables, levels and step counts of the samplers against the vectors."""

import pytest
import torch
from closeness import assert_close
from test_sampling_paths import sampling_options
from vectors import by_id, load

from sfumato.engine.sampling.facts import facts
from sfumato.engine.sampling.plan import img2img_steps, plan_new, sigmas_for, timesteps_for
from sfumato.engine.sampling.prediction import Prediction
from sfumato.engine.sampling.samplers import resolve_a1111, samplers
from sfumato.engine.sampling.schedules import schedules

SIGMAS_HEADER, SIGMAS = load("sampler_sigmas")
_, NAMES = load("sampler_names")
_, STEPS = load("img2img_steps")
PREDICTION = Prediction.build()


@pytest.mark.parametrize("case", by_id(SIGMAS))
def test_levels(case):
    wanted = case["hr_scheduler"] if case["is_hr_pass"] and case["hr_scheduler"] else case["scheduler"]
    name, scheduler = resolve_a1111(case["sampler"], wanted, convert_automatic=False)
    options = sampling_options({"request": {}, **case}, samplers[name])
    plan = plan_new(name, scheduler, case["steps"], PREDICTION, options)
    assert facts(plan, second_pass=case["is_hr_pass"]) == case["expected_infotext"]
    if "expected_timesteps" in case:
        assert timesteps_for(name, case["steps"], PREDICTION, options) == case["expected_timesteps"]
    else:
        sigmas = sigmas_for(name, scheduler, case["steps"], PREDICTION, options)
        assert sigmas.dtype == torch.float32
        assert_close(sigmas, case["expected"], SIGMAS_HEADER["tolerance"])


def sampler_row(name):
    sampler = samplers[name]
    options = {
        "scheduler": sampler.schedule,
        "second_order": sampler.second_order,
        "brownian_noise": sampler.brownian,
        "uses_ensd": sampler.uses_ensd,
        "discard_next_to_last_sigma": sampler.discard_penultimate,
        **sampler.preset,
    }
    return {"name": name, "aliases": lower_case_aliases(name), "options": {key: value for key, value in options.items() if value}}


def lower_case_aliases(name):
    """Aliases in lower case; one that differs from the name in nothing but case needs no entry in the registry."""
    return list(samplers.aliases(name)) or [name.casefold()]


def schedule_row(label):
    schedule = schedules[label]
    return {
        "name": schedule.name,
        "label": label,
        "default_rho": -1 if schedule.rho is None else schedule.rho,
        "need_inner_model": schedule.model_levels,
    }


@pytest.mark.parametrize("case", by_id(NAMES))
def test_names(case):
    if case.get("list") == "samplers":
        assert [sampler_row(name) for name in samplers] == case["expected"]
    elif case.get("list") == "schedulers":
        assert [schedule_row(label) for label in schedules] == [
            {key: value for key, value in row.items() if key != "aliases"} for row in case["expected"]
        ]
        for row in case["expected"]:
            for alias in row["aliases"] or ():
                assert schedules.resolve(alias) == row["label"]
    elif "total_steps" in case:
        assert samplers[case["sampler"]].total_steps(case["steps"]) == case["expected"]
    else:
        found = resolve_a1111(case["sampler"], case["scheduler"], convert_automatic=case["convert_automatic"])
        assert list(found) == case["expected"]


@pytest.mark.parametrize("case", by_id(STEPS))
def test_img2img_steps(case):
    total, encode = img2img_steps(
        case["steps"],
        case["denoising_strength"],
        fix_steps=case["img2img_fix_steps"],
        explicit_steps=case["explicit_steps"],
    )
    assert {"total_steps": total, "t_enc": encode} == case["expected"]
