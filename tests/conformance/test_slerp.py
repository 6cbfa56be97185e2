"""Spherical interpolation of noise against the vectors."""

import pytest
import torch
from closeness import assert_close
from vectors import by_id, load

from sfumato.engine.sampling.noise import slerp

HEADER, CASES = load("slerp")


@pytest.mark.parametrize("case", by_id(CASES))
def test_slerp(case):
    low, high = (torch.tensor(case[name]).reshape(case["shape"]) for name in ("low", "high"))
    assert_close(slerp(case["value"], low, high).flatten(), case["expected"], HEADER["tolerance"])
