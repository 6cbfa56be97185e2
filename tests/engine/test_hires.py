"""Hires fix, the refiner and tiling: second models and second passes."""

from collections import Counter

import numpy as np
import pytest
import torch
from tests.engine.jobs import SIDE, model, pixels, state, unet_rows, words

from sfumato import generate
from sfumato.engine.material import Material
from sfumato.engine.models.layers import Conv2d
from sfumato.engine.pipeline import stream
from sfumato.engine.tiling import wrapped
from sfumato.engine.upscale.latent import LATENT_UPSCALERS
from sfumato.errors import InvalidRequest, NotFound
from sfumato.events import PhaseChanged, Started, StepDone

UPSCALERS = [*LATENT_UPSCALERS, "Lanczos", "Nearest", "Bicubic", "None"]


def hires(**changes):
    return words(**{"enable_hr": True, "hr_scale": 1.5, "denoising_strength": 0.5, "steps": 2, "sampler": "Euler", **changes})


def others(**named):
    """Material with models by name; counts how often each is asked for."""
    asked = Counter()

    def load(name):
        asked[name] += 1
        return named[name]

    return Material(model(), load=load), asked


@pytest.mark.parametrize("upscaler", UPSCALERS)
def test_upscalers(upscaler):
    for size in ({"hr_scale": 1.7}, {"hr_resize_x": 88, "hr_resize_y": 136}):
        request = hires(hr_upscaler=upscaler, width=72, height=56, **size)
        (made,) = generate(request, model())
        assert made.image.size == request.hires_sizes.final
        assert np.asarray(made.image).std() > 5


def test_upscalers_differ():
    made = {upscaler: pixels(hires(hr_upscaler=upscaler, denoising_strength=0.3))[0] for upscaler in UPSCALERS}
    # Nothing and Lanczos end the same: what an upscaler leaves over, Lanczos does.
    assert made.pop("None") == made["Lanczos"]
    # Antialiasing is about shrinking.
    del made["Latent (antialiased)"]
    assert len(set(made.values())) == len(made)


@pytest.mark.parametrize(
    ("changes", "size"),
    [
        ({"hr_scale": 1.3}, (80, 80)),
        ({"hr_resize_x": 100}, (96, 96)),
        ({"hr_resize_y": 104}, (104, 104)),
        ({"hr_resize_x": 128, "hr_resize_y": 80}, (128, 80)),
        ({"hr_resize_x": 80, "hr_resize_y": 128}, (80, 128)),
        ({"width": 128, "height": 96, "first_pass_width": 64, "first_pass_height": 64}, (128, 96)),
        ({"width": 128, "height": 96, "first_pass_width": 50, "first_pass_height": 41}, (128, 96)),
    ],
    ids=str,
)
@pytest.mark.parametrize("family", ["sd1", "inpaint", "pix2pix"])
def test_sizes(changes, size, family):
    (made,) = generate(hires(**changes), model(family))
    assert made.image.size == size


SECOND_PASS = [
    {"hr_upscaler": "Lanczos"},
    {"denoising_strength": 0.9},
    {"hr_second_pass_steps": 5},
    {"hr_sampler": "DPM++ 2M"},
    {"hr_scheduler": "Karras"},
    {"hr_prompt": "a blue square"},
    {"hr_negative_prompt": "green"},
    {"hr_cfg_scale": 2.0},
    {"extra_noise": 0.2},
]


@pytest.mark.parametrize("changes", SECOND_PASS, ids=str)
def test_every_option_of_the_second_pass(changes):
    assert pixels(hires(**changes)) != pixels(hires())


def test_what_the_second_pass_inherits():
    inherited = {"hr_second_pass_steps": 2, "hr_sampler": "Euler", "hr_prompt": "a red circle", "hr_cfg_scale": 7.0}
    assert pixels(hires(**inherited)) == pixels(hires())
    # With the encodings of the first pass, its own prompt says nothing.
    reuse = {"hr_use_first_pass_prompt": True}
    assert pixels(hires(hr_prompt="a blue square", **reuse)) == pixels(hires(**reuse))


def test_steps_of_both_passes():
    events = list(stream(hires(hr_second_pass_steps=4, sampler="Heun"), Material(model())))
    started = next(event for event in events if isinstance(event, Started))
    done = [event for event in events if isinstance(event, StepDone)]
    assert started.steps == len(done) == 2 + 4
    assert [event.step for event in done] == [1, 2, 1, 2, 3, 4]
    phases = [event.phase for event in events if isinstance(event, PhaseChanged)]
    assert phases == ["encode", "sample", "hires", "decode"]


def test_another_checkpoint_for_the_second_pass():
    other = model("sd1", seed=1)
    material, asked = others(second=other)
    with unet_rows(model()) as first, unet_rows(other) as second:
        made = pixels(hires(hr_checkpoint="second", batch_count=2), material)
    assert first == second == [2] * 4
    assert asked["second"] == 1
    assert made != pixels(hires(batch_count=2))
    # Pictures pass from one model to another that has other latents through pixels.
    material, _ = others(large=model("sdxl"))
    assert pixels(hires(hr_checkpoint="large", hr_upscaler="Lanczos"), material)
    with pytest.raises(NotFound, match="second"):
        pixels(hires(hr_checkpoint="second"))
    with pytest.raises(NotFound, match="upscaler"):
        pixels(hires(hr_upscaler="Latnt"))


def test_nothing_to_sample():
    with pytest.raises(InvalidRequest, match="denoising strength"):
        pixels(hires(denoising_strength=0.0))


@pytest.mark.parametrize(
    ("changes", "base", "refined"),
    [
        ({"refiner_switch_at": 0.5, "steps": 4}, 2, 2),
        ({"refiner_switch_at": 0.5, "steps": 4, "refiner_switch_by_sampling_steps": True}, 2, 2),
        ({"refiner_switch_at": 0.9, "steps": 4, "scheduler": "Karras"}, 3, 1),
        ({"refiner_switch_at": 0.9, "steps": 4, "refiner_switch_by_sampling_steps": True}, 4, 0),
        ({"refiner_switch_at": 0.9, "steps": 10, "refiner_switch_by_sampling_steps": True}, 9, 1),
        ({"refiner_switch_at": 1.0, "steps": 4}, 4, 0),
        ({"refiner_switch_at": 0.01, "steps": 4}, 1, 3),
    ],
    ids=str,
)
def test_refiner_takes_over(changes, base, refined):
    refiner = model("sd1", seed=2)
    material, asked = others(refiner=refiner)
    with unet_rows(model()) as first, unet_rows(refiner) as second:
        made = pixels(words(**{"sampler": "Euler", "refiner_checkpoint": "refiner", **changes}), material)
    assert (len(first), len(second)) == (base, refined)
    # It is not even loaded where it does not come into play.
    assert asked["refiner"] == (refined > 0)
    plain = {key: value for key, value in changes.items() if not key.startswith("refiner")}
    assert (made == pixels(words(**{"sampler": "Euler", **plain}))) is (refined == 0)


@pytest.mark.parametrize(
    ("where", "base", "refined"), [("first pass", 3 + 4, 1), ("second pass", 4 + 3, 1), ("both passes", 3 + 3, 2)]
)
def test_refiner_and_hires(where, base, refined):
    refiner = model("sd1", seed=2)
    material, _ = others(refiner=refiner)
    job = {"steps": 4, "hr_refiner_pass": where, "refiner_checkpoint": "refiner", "refiner_switch_at": 0.6}
    with unet_rows(model()) as first, unet_rows(refiner) as second:
        pixels(hires(**job, refiner_switch_by_sampling_steps=True), material)
    assert (len(first), len(second)) == (base, refined)


def test_the_refiner_of_sdxl():
    material = Material(model("sdxl"), load=lambda name: model("refiner"))
    request = words(refiner_checkpoint="refiner", refiner_switch_at=0.5, steps=4, sampler="Euler", batch_size=2)
    with unet_rows(model("refiner")) as rows:
        made = pixels(request, material)
    assert rows == [2, 2] * 2
    assert made != pixels(words(steps=4, sampler="Euler", batch_size=2), model("sdxl"))


class TestTiling:
    def test_rolled_latents_give_the_rolled_picture(self):
        """Without edges no place is special: UNet and autoencoder commute with rolling, as nothing else would let them."""
        tiled = model()
        x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
        context = torch.randn(1, 77, tiled.spec.unet.context_dim, generator=torch.Generator().manual_seed(1))
        time = torch.tensor([500.0])

        def both(latents):
            with torch.inference_mode():
                return tiled.unet(latents, time, context), tiled.vae.decode(latents)

        def rolled(tensor, cells):
            return tensor.roll((cells, -cells), (2, 3))

        with wrapped(tiled):
            for plain, moved, cells in zip(both(x), both(rolled(x, 2)), (2, 16), strict=True):
                torch.testing.assert_close(rolled(plain, cells), moved, rtol=1e-3, atol=1e-3)
        for plain, moved, cells in zip(both(x), both(rolled(x, 2)), (2, 16), strict=True):
            assert (rolled(plain, cells) - moved).abs().max() > 0.05

    def test_every_model_is_as_before(self):
        refiner = model("sd1", seed=2)
        before = state(model()), state(refiner)
        request = words(tiling=True, refiner_checkpoint="refiner", refiner_switch_at=0.3)
        material, _ = others(refiner=refiner)
        job = stream(request, material)
        for item in job:
            if isinstance(item, StepDone) and item.step == 3:
                assert all(
                    each.wrap == (True, True) for of in (model(), refiner) for each in of.modules() if isinstance(each, Conv2d)
                )
                break
        job.close()
        assert (state(model()), state(refiner)) == before

    def test_hires_too(self):
        assert pixels(hires(tiling=True)) != pixels(hires())
        assert generate(hires(tiling=True), model())[0].image.size == (SIDE * 3 // 2,) * 2
