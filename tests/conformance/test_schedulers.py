"""The schedules against the vectors."""

import math

import pytest
from closeness import assert_close
from vectors import by_id, load

from sfumato.engine.sampling.prediction import Prediction
from sfumato.engine.sampling.schedules import Span, schedules

HEADER, CASES = load("schedulers")
PREDICTION = Prediction.build()


def spread(case):
    schedule, options = schedules[case["scheduler"]], case.get("options", {})
    span = Span(
        PREDICTION.levels,
        case["sigma_min"],
        case["sigma_max"],
        rho=case.get("rho", schedule.rho or 0.0),
        alpha=options.get("beta_dist_alpha", 0.6),
        beta=options.get("beta_dist_beta", 0.6),
        sdxl=case.get("is_sdxl", False),
    )
    # Without a sampler that has its own, Automatic is Uniform.
    return (schedule.spread or schedules["uniform"].spread)(case["n"], span)


@pytest.mark.parametrize("case", by_id(CASES))
def test_schedule(case):
    assert schedules[case["scheduler"]].label == case["label"]
    sigmas = spread(case)
    if "raises" in case:  # where A1111 fails there is no result to compare, but it must make sense
        assert sigmas == sorted(sigmas, reverse=True)
        assert all(map(math.isfinite, sigmas))
    else:
        assert_close(sigmas, case["expected"], HEADER["tolerance"])
