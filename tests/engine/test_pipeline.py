"""Whole jobs on small models: every sampler, guidance, prompts, seeds and families do what their parameters promise."""

import numpy as np
import pytest
from tests.engine.jobs import SIDE, model, picture, pixels, state, unet_rows, words

from sfumato import generate
from sfumato.engine.sampling.samplers import samplers
from sfumato.errors import NotFound, Unsupported

LONG = ", ".join(f"word {number}" for number in range(60))  # two chunks and more


def shows_something(image, size=(SIDE, SIDE)):
    assert image.size == size
    assert image.mode == "RGB"
    assert np.asarray(image).std() > 5


@pytest.mark.parametrize("sampler", list(samplers))
def test_every_sampler(sampler):
    # The adaptive one makes as many steps as it likes: once is enough.
    for make in (words,) if sampler == "DPM adaptive" else (words, picture):
        (made,) = generate(make(sampler=sampler, steps=4, cfg_scale=4), model())
        shows_something(made.image)


@pytest.mark.parametrize("scheduler", ["Automatic", "Uniform", "Karras", "SGM Uniform", "Beta"])
def test_schedules_differ(scheduler):
    (made,) = pixels(words(sampler="DPM++ 2M", scheduler=scheduler))
    assert made != pixels(words(sampler="DPM++ 2M", scheduler="Exponential"))[0]


def test_names_of_samplers():
    assert pixels(words(sampler="k_euler_a")) == pixels(words(sampler="Euler a"))
    assert pixels(words(sampler="DPM++ 2M Karras")) == pixels(words(sampler="DPM++ 2M", scheduler="Karras"))
    with pytest.raises(NotFound, match="Eulre"):
        pixels(words(sampler="Eulre"))
    with pytest.raises(NotFound, match="Karas"):
        pixels(words(scheduler="Karas"))


OPTIONS = [
    {"cfg_scale": 3.0},
    {"cfg_scale": -4.0},
    {"cfg_scale": 0.0},
    {"cfg_rescale": 0.7},
    {"guidance_start": 0.4},
    {"guidance_end": 0.5},
    {"skip_early_cfg": 0.5},
    {"s_min_uncond": 5.0, "s_min_uncond_all": True},
    {"eta": 0.3},
    {"sigma_max": 9.0, "scheduler": "Karras"},
    {"sigma_min": 0.2, "scheduler": "Karras"},
    {"discard_penultimate_sigma": True},
    {"sgm_noise_multiplier": True, "sampler": "Euler", "sigma_max": 2.0},
    {"old_karras_sigmas": True, "scheduler": "Karras"},
    {"rho": 3.0, "scheduler": "Karras"},
    {"noise_schedule": "Zero Terminal SNR"},
    {"downcast_alphas_cumprod": True},
    {"clip_skip": 2},
    {"emphasis": "Ignore", "prompt": "a (red:1.8) circle"},
    {"rng": "CPU"},
    {"eta_noise_seed_delta": 31337},
    {"subseed": 3, "subseed_strength": 0.2},
    {"seed_resize_from_w": 32, "seed_resize_from_h": 32},
    {"tiling": True},
    {"negative_prompt": "blue"},
]


@pytest.mark.parametrize("changes", OPTIONS, ids=lambda changes: next(iter(changes)))
def test_every_option_changes_the_picture(changes):
    plain = {key: changes[key] for key in ("prompt", "sampler", "scheduler") if key in changes}
    assert pixels(words(**changes)) != pixels(words(**plain))


def test_limits_of_seeds():
    assert pixels(words(subseed=8, subseed_strength=1.0, sampler="Euler")) == pixels(words(seed=8, sampler="Euler"))
    # Noise of the same size sits exactly where it was.
    assert pixels(words(seed_resize_from_w=SIDE, seed_resize_from_h=SIDE)) == pixels(words())
    assert pixels(words(seed_resize_from_w=-1, seed_resize_from_h=-1)) == pixels(words())
    made = generate(words(seed=-1, subseed=-1, batch_size=2), model())
    assert made[1].seed == made[0].seed + 1
    again = generate(words(seed=made[0].seed, subseed=made[0].subseed, batch_size=2), model())
    assert [each.image.tobytes() for each in made] == [each.image.tobytes() for each in again]


ROWS = [
    ({}, [2, 2, 2]),
    ({"cfg_scale": 1.0}, [1, 1, 1]),
    ({"cfg_scale": 1.0, "prompt": "a AND b"}, [3, 3, 3]),
    ({"prompt": "a AND b :0.4 AND c"}, [4, 4, 4]),
    ({"guidance_start": 0.5}, [1, 1, 2]),
    ({"guidance_end": 0.5}, [2, 2, 1]),
    ({"skip_early_cfg": 0.4}, [1, 1, 2]),
    ({"s_min_uncond": 100.0, "s_min_uncond_all": True}, [1, 1, 1]),
    ({"s_min_uncond": 100.0}, [2, 1, 2]),
    ({"sampler": "Heun"}, [2, 2, 2, 2, 2]),
    ({"sampler": "DDIM CFG++", "steps": 4, "cfg_scale": 12.5}, [2, 2, 2]),
]


@pytest.mark.parametrize(("changes", "expected"), ROWS, ids=lambda value: str(value)[:40])
def test_work_that_guidance_costs(changes, expected):
    with unet_rows(model()) as rows:
        pixels(words(sampler="Euler") if not changes else words(**{"sampler": "Euler", **changes}))
    assert rows == expected


@pytest.mark.parametrize("padding", [{}, {"pad_cond_uncond": True}, {"pad_cond_uncond_v0": True}], ids=str)
def test_prompts_of_unequal_length(padding):
    for prompts in ({"prompt": LONG}, {"negative_prompt": LONG}, {"prompt": LONG, "negative_prompt": "blue"}):
        with unet_rows(model()) as rows:
            (made,) = generate(words(**prompts, **padding), model())
        shows_something(made.image)
        # Different lengths cannot share a batch unless they are padded to the same.
        assert rows == ([2] * 3 if padding else [1] * 6)


def test_padding_matters():
    plain, empty, last = (
        pixels(words(prompt=LONG, **padding)) for padding in ({}, {"pad_cond_uncond": True}, {"pad_cond_uncond_v0": True})
    )
    assert len({plain[0], empty[0], last[0]}) == 3


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("red circle", "blue circle"),
        ("red BREAK circle", "red circle"),
        ("red AND circle", "red circle"),
        ("red AND circle:0.5", "red AND circle"),
        ("[red:blue:0.5] circle", "red circle"),
        ("[red:blue:0.5] circle", "[red:blue:0.9] circle"),
        ("[red|blue] circle", "red circle"),
        ("(red) circle", "red circle"),
        (LONG, LONG[:-1]),
    ],
)
def test_prompts_that_differ(one, other):
    assert pixels(words(prompt=one)) != pixels(words(prompt=other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("[red:blue:9] circle", "red circle"),
        ("[red:blue:0] circle", "blue circle"),
        ("[red|red] circle", "red circle"),
        (r"\(red\) circle", r"\(red\) circle"),
        ("red circle # not this", "red circle "),
        ("red circle<lora:none:1>", "red circle"),
    ],
)
def test_prompts_that_mean_the_same(one, other):
    assert pixels(words(prompt=one)) == pixels(words(prompt=other))


def test_editing_of_second_order_samplers():
    """A switch at half of the steps comes at half of the evaluations that the sampler counts."""
    job = {"sampler": "Heun", "steps": 4}
    early, late, never = (pixels(words(prompt=f"[red:blue:{when}]", **job)) for when in ("0.25", "0.5", "1.0"))
    assert early != late
    assert pixels(words(prompt="red", **job)) == never
    assert late != never


FAMILIES = ["sd1", "sd2", "sdxl", "refiner", "inpaint", "pix2pix", "sdxl-inpaint"]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("make", [words, picture])
def test_every_family(family, make):
    before = state(model(family))
    made = generate(make(negative_prompt="blue", batch_size=2, sampler="Euler"), model(family))
    for each in made:
        shows_something(each.image)
    assert made[0].image.tobytes() != made[1].image.tobytes()
    assert state(model(family)) == before
    other = pixels(make(prompt="a blue square", negative_prompt="blue", sampler="Euler"), model(family))
    assert other[0] != made[0].image.tobytes()


@pytest.mark.parametrize("make", [words, picture])
def test_depth_models_are_refused(make):
    with pytest.raises(Unsupported, match="depth map") as caught:
        pixels(make(), model("depth"))
    assert "plain model" in str(caught.value.advice)


@pytest.mark.parametrize(
    "changes",
    [
        {"sdxl_crop_top": 32},
        {"sdxl_crop_left": 8},
        {"sdxl_clip_l_skip": True},
        {"width": 72},
    ],
    ids=str,
)
def test_what_sdxl_is_told(changes):
    assert pixels(words(**changes), model("sdxl")) != pixels(words(), model("sdxl"))


def test_scores_of_the_refiner():
    assert pixels(words(refiner_aesthetic_score=2.0), model("refiner")) != pixels(words(), model("refiner"))


@pytest.mark.parametrize(
    "changes",
    [
        {"restore_faces": True},
        {"token_merging_ratio": 0.5},
    ],
    ids=str,
)
def test_what_is_not_there_yet_is_refused(changes):
    with pytest.raises(Unsupported, match=next(iter(changes))):
        pixels(words(**changes))


def test_networks_are_announced_as_missing():
    said = []
    pixels(words(prompt="red <lora:thing:0.8>"), on_event=lambda event: said.append(getattr(event, "message", "")))
    assert any("<lora:thing:0.8>" in message for message in said)


@pytest.mark.parametrize(("width", "height"), [(16, 16), (24, 136), (136, 24), (70, 65)])
def test_odd_sizes(width, height):
    """The smallest side is two latent cells, so that the UNet can halve it."""
    (made,) = generate(words(width=width, height=height), model())
    assert made.image.size == (width // 8 * 8, height // 8 * 8)
