"""Noise of pictures: reproducible, independent of the batch, and consistent over levels."""

import math
from itertools import pairwise

import pytest
import torch

from sfumato.engine.sampling.noise import BatchNoise, ImageNoise, Seed, generator, slerp
from sfumato.errors import InvalidRequest

SHAPE = (4, 6, 5)


@pytest.mark.parametrize("source", ["NV", "CPU", "GPU"])
def test_draws_of_a_picture_do_not_depend_on_the_batch(source):
    batch = BatchNoise([ImageNoise(SHAPE, Seed(seed, eta_delta=3), source=source) for seed in (1, 2)])
    alone = ImageNoise(SHAPE, Seed(2, eta_delta=3), source=source)
    assert torch.equal(batch.first[1], alone.first)
    for _ in range(2):
        assert torch.equal(batch(1.0, 0.5)[1], alone.next())
    path = alone.brownian(0.1, 10.0)
    assert torch.equal(batch.brownian(0.1, 10.0)(7.0, 3.0)[1], path(7.0, 3.0))


def test_brownian_paths_leave_the_other_draws_alone():
    one, other = ImageNoise(SHAPE, Seed(7)), ImageNoise(SHAPE, Seed(7))
    one.brownian(0.1, 10.0)(5.0, 1.0)
    assert torch.equal(one.next(), other.next())


@pytest.mark.parametrize("seed", [-1, 2**63, 2**64 - 1, 10**30])
@pytest.mark.parametrize("source", ["NV", "CPU"])
def test_any_integer_is_a_seed(seed, source):
    noise = ImageNoise(SHAPE, Seed(seed), source=source)
    assert torch.isfinite(noise.first).all()
    assert torch.isfinite(noise.brownian(0.1, 1.0)(0.5, 0.2)).all()
    assert torch.equal(noise.first, ImageNoise(SHAPE, Seed(seed & (2**64 - 1)), source=source).first)


def test_unknown_source():
    with pytest.raises(InvalidRequest, match="NV, CPU or GPU"):
        generator("TPU", 1)


def test_variation_goes_from_seed_to_subseed():
    seed, subseed = (ImageNoise(SHAPE, Seed(s)).first for s in (1, 2))
    near, far = (ImageNoise(SHAPE, Seed(1, subseed=2, subseed_strength=v)).first for v in (1e-6, 1.0))
    torch.testing.assert_close(near, seed, rtol=0, atol=1e-4)
    torch.testing.assert_close(far, subseed, rtol=0, atol=1e-4)
    assert torch.equal(slerp(0.5, seed, seed), seed)


def test_only_later_draws_know_the_eta_delta():
    plain, shifted, other = (ImageNoise(SHAPE, Seed(s, eta_delta=d)) for s, d in ((1, 0), (1, 4), (5, 0)))
    assert torch.equal(plain.first, shifted.first)
    assert torch.equal(shifted.next(), other.first)


@pytest.mark.parametrize("size", [(4, 3), (9, 8), (4, 8), (9, 3), (6, 5)])
def test_seed_resize_puts_the_noise_in_the_middle(size):
    noise = ImageNoise(SHAPE, Seed(1, resize_from=size)).first
    small = ImageNoise((4, *size), Seed(1)).first
    assert noise.shape == SHAPE
    inner = small[:, size[0] // 2, size[1] // 2]
    assert (noise == inner[:, None, None]).all(0).any()


class TestBrownianPath:
    def path(self, seed=5, low=0.03, high=14.6, shape=(64,)):
        return ImageNoise((4, 64, 64), Seed(seed)).brownian(low, high)

    def test_intervals_add_up(self):
        path = self.path()
        whole = path(12.0, 1.0) * math.sqrt(11.0)
        parts = path(12.0, 5.0) * math.sqrt(7.0) + path(5.0, 1.0) * math.sqrt(4.0)
        torch.testing.assert_close(whole, parts, rtol=0, atol=1e-5)

    def test_order_and_number_of_questions_do_not_matter(self):
        one, other = self.path(), self.path()
        levels = [14.6, 9.0, 4.0, 1.0, 0.4, 0.1, 0.03]
        asked = {pair: one(*pair) for pair in pairwise(levels)}
        for pair in reversed(asked):
            assert torch.equal(other(*pair), asked[pair])

    def test_unit_variance_and_independence(self):
        path = self.path()
        first, second = path(14.6, 3.0), path(3.0, 2.999)
        for noise in (first, second):
            assert float(noise.mean()) == pytest.approx(0, abs=0.03)
            assert float(noise.std()) == pytest.approx(1, abs=0.03)
        assert abs(float((first * second).mean())) < 0.03
        assert abs(float((first * self.path(seed=6)(14.6, 3.0)).mean())) < 0.03

    def test_direction_and_ends(self):
        path = self.path()
        torch.testing.assert_close(path(2.0, 1.0), -path(1.0, 2.0))
        assert not path(1.0, 1.0).any()
        assert torch.equal(path.at(100.0), path.at(14.6))
        assert not path.at(0.0).any()
