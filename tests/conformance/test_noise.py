"""The noise of pictures against the vectors: Philox, spherical interpolation, first and further draws."""

import numpy as np
import pytest
import torch
from closeness import assert_close
from vectors import by_id, load

from sfumato.engine.sampling.noise import BatchNoise, ImageNoise, Seed, slerp
from sfumato.engine.sampling.philox import Philox, words

PHILOX_HEADER, PHILOX = load("philox")
SLERP_HEADER, SLERP = load("slerp")
NOISE_HEADER, NOISE = load("image_noise")


@pytest.mark.parametrize("case", by_id(PHILOX))
def test_philox(case):
    tolerance = PHILOX_HEADER["tolerance"]
    if case["kind"] == "words":
        counter = np.array(case["counter"], np.uint64)[:, None]
        key = case["key"][0] | case["key"][1] << 32
        assert words(counter, key)[:, 0].tolist() == case["expected"]
    elif case["kind"] == "large":
        philox = Philox(case["seed"])
        for _ in range(case["draw"] + 1):
            drawn = philox.randn(*case["shape"]).ravel()
        assert_close(drawn[case["index_in_flat_order"]], case["values"], tolerance)
        assert drawn.mean(dtype=np.float64) == pytest.approx(case["mean"], abs=1e-6)
        assert drawn.std(dtype=np.float64) == pytest.approx(case["std"], abs=1e-6)
    else:
        philox = Philox(case["seed"])
        for draw in case["draws"]:
            assert_close(philox.randn(*draw["shape"]).ravel(), draw["values"], tolerance)


@pytest.mark.parametrize("case", by_id(SLERP))
def test_slerp(case):
    low, high = (torch.tensor(case[name]).reshape(case["shape"]) for name in ("low", "high"))
    assert_close(slerp(case["value"], low, high).flatten(), case["expected"], SLERP_HEADER["tolerance"])


def image_seed(case, index):
    """The seed of one picture; a picture without a variation seed of its own has 0."""
    subseeds = case["subseeds"] or []
    height, width = case["seed_resize_from_h"], case["seed_resize_from_w"]
    return Seed(
        case["seeds"][index],
        subseed=subseeds[index] if index < len(subseeds) else 0,
        subseed_strength=case["subseed_strength"] if case["subseeds"] else 0.0,
        resize_from=(height // 8, width // 8) if height > 0 and width > 0 else None,
        eta_delta=case["eta_noise_seed_delta"],
    )


@pytest.mark.parametrize("case", by_id(NOISE))
def test_draws(case):
    noise = BatchNoise(
        [ImageNoise(tuple(case["shape"]), image_seed(case, i), source=case["source"]) for i in range(len(case["seeds"]))]
    )
    for index, draw in enumerate(case["draws"]):
        drawn = noise(1.0, 0.5) if index else noise.first
        assert list(drawn.shape) == draw["shape"]
        assert_close(drawn.flatten(), draw["values"], NOISE_HEADER["tolerance"])
