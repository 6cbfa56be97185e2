"""First and further draws of the pictures of a batch against the vectors."""

import pytest
from closeness import assert_close
from vectors import by_id, load

from sfumato.engine.sampling.noise import BatchNoise, ImageNoise, Seed

HEADER, CASES = load("image_noise")


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


@pytest.mark.parametrize("case", by_id(CASES))
def test_draws(case):
    noise = BatchNoise(
        [ImageNoise(tuple(case["shape"]), image_seed(case, i), source=case["source"]) for i in range(len(case["seeds"]))]
    )
    for index, draw in enumerate(case["draws"]):
        drawn = noise(1.0, 0.5) if index else noise.first
        assert list(drawn.shape) == draw["shape"]
        assert_close(drawn.flatten(), draw["values"], HEADER["tolerance"])
