"""Noise levels or timesteps of named samplers against the vectors."""

import pytest
import torch
from a1111_settings import sampling_options
from closeness import assert_close
from vectors import by_id, load

from sfumato.engine.sampling.facts import facts
from sfumato.engine.sampling.plan import plan_new, sigmas_for, timesteps_for
from sfumato.engine.sampling.prediction import Prediction
from sfumato.engine.sampling.samplers import resolve_a1111, samplers

HEADER, CASES = load("sampler_sigmas")
PREDICTION = Prediction.build()


@pytest.mark.parametrize("case", by_id(CASES))
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
        assert_close(sigmas, case["expected"], HEADER["tolerance"])
