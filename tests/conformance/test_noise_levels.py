"""The mapping between sigma and timestep, and changed noise schedules, against the vectors."""

import pytest
from closeness import assert_close
from vectors import by_id, load

from sfumato.engine.sampling.prediction import Prediction
from sfumato.engine.sampling.samplers import lcm_levels
from sfumato.engine.sampling.schedules import Span, schedules

HEADER, CASES = load("noise_levels")
PREDICTION = Prediction.build()


def evaluate(kind, value, quantize):
    lcm = lcm_levels(PREDICTION.levels)
    if kind == "sigma_to_t":
        return Prediction.build(quantize=quantize).levels.sigma_to_t(value)
    if kind == "lcm_get_sigmas":
        return schedules["uniform"].spread(value, Span(lcm, lcm.sigma_min, lcm.sigma_max))
    if kind == "lcm_all_sigmas":
        return lcm.sigmas
    if kind.endswith("alphas_cumprod"):
        prediction = Prediction.build(terminal_zero=kind.startswith("zero"), downcast=kind.startswith("half"))
        return 1 / (1 + float(prediction.levels.sigmas[value]) ** 2)
    functions = {"t_to_sigma": PREDICTION.levels.t_to_sigma, "lcm_sigma_to_t": lcm.sigma_to_t, "lcm_t_to_sigma": lcm.t_to_sigma}
    return functions[kind](value)


@pytest.mark.parametrize("case", by_id(CASES))
def test_noise_levels(case):
    tolerance = HEADER["tolerance"] | ({"abs": 0.01} if case["kind"].endswith("sigma_to_t") else {})
    assert_close(evaluate(case["kind"], case["value"], case.get("quantize")), case["expected"], tolerance)
