"""Guidance: which conditions are evaluated when, and what becomes of them."""

import pytest
import torch

from sfumato.engine.sampling.guidance import Conditions, GuidanceOptions, active, guide, rescaled
from sfumato.engine.sampling.mask import keep_after, keep_before
from sfumato.engine.sampling.plan import plan_new
from sfumato.engine.sampling.prediction import Prediction
from sfumato.engine.sampling.sample import denoiser
from sfumato.engine.sampling.step import Guided

PREDICTION = Prediction.build()


class Spy:
    """An evaluation whose estimate is the condition's number in every place; it notes its rows."""

    def __init__(self):
        self.rows = []

    def __call__(self, x, sigma, conds):
        self.rows.append([(int(image), cond) for image, cond in zip(x[:, 0, 0, 0], conds, strict=True)])
        return torch.stack([torch.full(x.shape[1:], float(cond)) for cond in conds])


def pictures(n):
    return torch.arange(n, dtype=torch.float32)[:, None, None, None].expand(n, 1, 2, 2)


def one(cond=3.0, uncond=1.0, weight=1.0, no_image=None):
    return Conditions(((weight, [(999, cond)]),), [(999, uncond)], [(999, no_image)] if no_image is not None else None)


def value(conditions, options, *, call=0, sigma=1.0, total=10, **more):
    spy = Spy()
    denoise = guide(spy, [conditions], options, PREDICTION, total_calls=total, **more)
    guided = denoise(pictures(1), sigma, call)
    return float(guided.denoised[0, 0, 0, 0]), float(guided.uncond[0, 0, 0, 0]), len(spy.rows[0])


@pytest.mark.parametrize("scale", [7.0, 0.0, -2.5, 1.5])
def test_any_scale(scale):
    assert value(one(), GuidanceOptions(scale=scale)) == (pytest.approx(1 + 2 * scale), 1, 2)


def test_scale_one_needs_no_negative_prompt():
    assert value(one(), GuidanceOptions(scale=1.0)) == (3, 3, 1)
    assert value(one(), GuidanceOptions(scale=1.0), needs_uncond=True) == (3, 1, 2)
    assert value(one(weight=0.5), GuidanceOptions(scale=1.0)) == (2, 1, 2)


def test_composition():
    conditions = Conditions(((0.7, [(999, 3.0)]), (-0.2, [(999, 5.0)])), [(999, 1.0)])
    expected = 1 + 4 * (0.7 * 2 - 0.2 * 4)
    assert value(conditions, GuidanceOptions(scale=4.0)) == (pytest.approx(expected, rel=1e-6), 1, 3)


def test_rows_of_a_batch():
    spy = Spy()
    conditions = [one(3.0, 1.0), Conditions(((1.0, [(999, 4.0)]), (1.0, [(999, 5.0)])), [(999, 2.0)])]
    guided = guide(spy, conditions, GuidanceOptions(scale=2.0), PREDICTION, total_calls=5)(pictures(2), 1.0, 0)
    assert spy.rows == [[(0, 3.0), (1, 4.0), (1, 5.0), (0, 1.0), (1, 2.0)]]
    spy.rows.clear()
    guide(spy, conditions[1:] * 2, GuidanceOptions(scale=2.0), PREDICTION, total_calls=5)(pictures(2), 1.0, 0)
    assert [image for image, _ in spy.rows[0]] == [0, 1, 0, 1, 0, 1]
    assert guided.denoised[:, 0, 0, 0].tolist() == [5, 2 + 2 * 2 + 2 * 3]
    assert guided.uncond[:, 0, 0, 0].tolist() == [1, 2]


def test_schedule_counts_calls():
    timeline = [(2, "a"), (4, "b")]
    assert [active(timeline, call) for call in range(7)] == ["a", "a", "a", "b", "b", "a", "a"]


def test_interval():
    options = GuidanceOptions(scale=5.0, start=0.2, end=0.6)
    guided = [value(one(), options, call=call)[::2] for call in range(10)]
    assert guided == [(3, 1)] * 2 + [(11, 2)] * 4 + [(3, 1)] * 4
    assert value(one(), GuidanceOptions(scale=5.0), call=10)[0] == 11


def test_skip_early():
    rows = [value(one(), GuidanceOptions(scale=5.0, skip_early=0.2), call=call) for call in range(10)]
    assert rows == [(3, 3, 1)] * 3 + [(11, 1, 2)] * 7


@pytest.mark.parametrize(("everywhere", "skipped"), [(False, [1, 3]), (True, [0, 1, 2, 3])])
def test_minimum_sigma(everywhere, skipped):
    options = GuidanceOptions(scale=5.0, s_min_uncond=2.0, s_min_uncond_all=everywhere)
    assert [call for call in range(4) if value(one(), options, call=call, sigma=1.5)[2] == 1] == skipped
    assert value(one(), options, call=1, sigma=2.0)[2] == 2


def test_minimum_sigma_of_the_ddim_family_is_a_timestep():
    """In A1111 too, where it is compared with what these samplers call sigma."""
    rows = {}
    for name in ("Euler", "DDIM"):
        spy = Spy()
        plan = plan_new(name, "Automatic", 10, PREDICTION)
        options = GuidanceOptions(s_min_uncond=150.0, s_min_uncond_all=True)
        denoise = denoiser(plan, PREDICTION, lambda x, t, conds, spy=spy: spy(x, 0, conds), [one()], options)
        for t in (100.0, 200.0):
            denoise(pictures(1), PREDICTION.levels.t_to_sigma(t), 0)
        rows[name] = [len(row) for row in spy.rows]
    assert rows == {"Euler": [1, 1], "DDIM": [1, 2]}


def test_skipped_composition_stands_on_its_first_part():
    conditions = Conditions(((0.5, [(999, 3.0)]), (1.0, [(999, 5.0)])), [(999, 1.0)])
    assert value(conditions, GuidanceOptions(scale=2.0, skip_early=1.0))[0] == 3 + 2 * 2


def test_three_way_guidance_of_picture_editing():
    options = GuidanceOptions(scale=4.0, image_scale=1.5)
    assert value(one(no_image=0.5), options) == (0.5 + 1.5 * 0.5 + 4 * 2, 1, 3)
    assert value(one(no_image=0.5), GuidanceOptions(scale=4.0, image_scale=1.0)) == (9, 1, 2)
    assert value(one(no_image=0.5), GuidanceOptions(scale=1.0, image_scale=1.5))[2] == 3


@pytest.mark.parametrize("kind", ["eps", "v"])
@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_rescale_is_that_of_the_network_output(kind, share):
    prediction, sigma = Prediction.build(kind), 2.0
    x = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1)) * 3
    raw = {cond: torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(cond)) for cond in (2, 3)}
    _, c_skip, c_out = prediction.scalings(sigma)

    def evaluate(x, sigma, conds):
        return x * c_skip + torch.cat([raw[cond] for cond in conds]) * c_out

    options = GuidanceOptions(scale=6.0, rescale=share)
    got = guide(evaluate, [one(2, 3)] * 2, options, prediction, total_calls=5)(x, sigma, 0).denoised
    output = rescaled(raw[3] + (raw[2] - raw[3]) * 6, raw[2], share)
    torch.testing.assert_close(got, x * c_skip + output * c_out, rtol=1e-4, atol=1e-4)
    if share == 1:
        assert float(output.std()) == pytest.approx(float(raw[2].std()), rel=1e-4)


def latents(seed, b=1):
    return torch.randn(b, 4, 6, 6, generator=torch.Generator().manual_seed(seed))


def half_denoiser(x, sigma, call):
    return Guided(x * 0.5, x * 0.25)


def test_mask_after():
    x, kept, mask = latents(1), latents(2), (latents(3)[:, :1] > 0).float()
    denoised, uncond = keep_after(half_denoiser, kept, mask)(x, 1.0, 0)
    assert torch.equal(denoised * mask, kept * mask)
    assert torch.equal(denoised * (1 - mask), x * 0.5 * (1 - mask))
    assert torch.equal(uncond * mask, kept * mask)


def test_mask_before_keeps_the_predicted_noise():
    x, kept, mask = latents(1), latents(2), (latents(3)[:, :1] > 0).float()
    seen = x * (1 - mask) + kept * mask * 5**0.5
    denoised, uncond = keep_before(half_denoiser, kept, mask)(x, 2.0, 0)
    torch.testing.assert_close(x - denoised, seen - seen * 0.5)
    torch.testing.assert_close(x - uncond, seen - seen * 0.25)
