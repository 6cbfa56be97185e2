"""Image-to-image: sources of any shape and number, brought to size in every way."""

import pytest
from PIL import Image
from tests.engine.jobs import SIDE, model, picture, pixels, unet_rows
from tests.pictures import gradient, png

from sfumato import generate
from sfumato.engine.material import Material
from sfumato.engine.pipeline import stream
from sfumato.errors import NotFound, OutOfMemory, UnsafeFile
from sfumato.events import PhaseChanged, Started, StepDone

WIDE, TALL = png(gradient(96, 40)), png(gradient(40, 96))
MODES = ["just resize", "crop and resize", "resize and fill", "latent"]


def sizes(request):
    return [each.image.size for each in generate(request, model())]


def test_every_resize_mode_gives_another_picture():
    made = {mode: pixels(picture(init_images=(WIDE,), resize_mode=mode, denoising_strength=0.3))[0] for mode in MODES}
    assert len(set(made.values())) == len(MODES)
    assert {len(each) for each in made.values()} == {SIDE * SIDE * 3}


@pytest.mark.parametrize("mode", MODES)
def test_a_source_of_the_right_size_is_left_alone(mode):
    assert pixels(picture(resize_mode=mode)) == pixels(picture())


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("source", [WIDE, TALL, png(gradient(3, 5)), png(Image.new("RGB", (1, 1)))], ids=len)
def test_any_source(source, mode):
    assert sizes(picture(init_images=(source,), resize_mode=mode, width=72, height=56)) == [(72, 56)]


def test_scaled_by():
    assert sizes(picture(init_images=(WIDE,), scale_by=1.3)) == [(120, 48)]
    assert sizes(picture(init_images=(WIDE, TALL), scale_by=1.0, batch_size=4)) == [(96, 40), (40, 96)] * 2
    assert sizes(picture(init_images=(png(gradient(20, 20)),), scale_by=0.1)) == [(8, 8)]


def test_an_upscaler():
    small = png(gradient(32, 32))
    plain = pixels(picture(init_images=(small,)))
    assert pixels(picture(init_images=(small,), upscaler="Lanczos")) == plain
    assert pixels(picture(init_images=(small,), upscaler="Nearest")) != plain
    with pytest.raises(NotFound, match="Lanzcos"):
        pixels(picture(upscaler="Lanzcos"))


def test_sources_are_taken_in_turn():
    one, two = png(gradient(SIDE, SIDE)), png(gradient(SIDE, SIDE).rotate(90))
    made = pixels(picture(init_images=(one, two), batch_size=2, batch_count=2))
    alone = [pixels(picture(init_images=(source,), seed=7 + index))[0] for index, source in enumerate((one, two, one, two))]
    assert made == alone


@pytest.mark.parametrize("family", ["sd1", "pix2pix", "inpaint"])
def test_sources_of_many_sizes(family):
    sources = (WIDE, TALL, WIDE, WIDE)
    made = generate(picture(init_images=sources, scale_by=1.0, batch_size=4), model(family))
    assert [each.image.size for each in made] == [(96, 40), (40, 96), (96, 40), (96, 40)]
    alone = pixels(picture(init_images=(TALL,), scale_by=1.0, seed=8), model(family))
    assert made[1].image.tobytes() == alone[0]


def test_a_pix2pix_model_sees_its_source():
    """The source counts even where nothing is left of it in the latents."""
    one, two = png(gradient(SIDE, SIDE)), png(gradient(SIDE, SIDE).rotate(90))
    job = {"denoising_strength": 1.0, "initial_noise_multiplier": 1.0}
    shown = [pixels(picture(init_images=(source,), **job), model("pix2pix")) for source in (one, two)]
    assert shown[0] != shown[1]


@pytest.mark.parametrize("colour", ["#ffffff", "#204060"])
def test_transparency(colour):
    layer = gradient(SIDE, SIDE).convert("RGBA")
    layer.putalpha(Image.new("L", layer.size, 100))
    solid = Image.new("RGB", layer.size, colour)
    solid.paste(layer, mask=layer.getchannel("A"))
    assert pixels(picture(init_images=(png(layer),), background_color=colour)) == pixels(picture(init_images=(png(solid),)))


@pytest.mark.parametrize(
    ("changes", "steps"),
    [
        ({"steps": 10, "denoising_strength": 0.5}, 6),
        ({"steps": 10, "denoising_strength": 0.5, "fix_steps": True}, 10),
        ({"steps": 10, "denoising_strength": 1.0}, 10),
        ({"steps": 10, "denoising_strength": 0.75, "sampler": "DDIM"}, 6),
        ({"steps": 1, "denoising_strength": 0.1}, 1),
    ],
    ids=str,
)
def test_steps(changes, steps):
    with unet_rows(model()) as rows:
        items = list(stream(picture(**{"sampler": "Euler", **changes}), Material(model())))
    assert len(rows) == steps
    assert next(item for item in items if isinstance(item, Started)).steps == steps
    assert sum(isinstance(item, StepDone) for item in items) == steps
    assert [item.phase for item in items if isinstance(item, PhaseChanged)] == ["encode", "sample", "decode"]


OPTIONS = [
    {"initial_noise_multiplier": 0.8},
    {"extra_noise": 0.1},
    {"fix_steps": True},
    {"refiner_checkpoint": "other", "refiner_switch_at": 0.6},
    {"tiling": True},
]


@pytest.mark.parametrize("changes", OPTIONS, ids=str)
def test_every_option_changes_the_picture(changes):
    material = Material(model(), load=lambda name: model("sd1", seed=2))
    assert pixels(picture(**changes), material) != pixels(picture())


def test_a_bomb_is_not_unpacked():
    bomb = png(Image.new("1", (16000, 16000)))
    assert len(bomb) < 1 << 20
    with pytest.raises((UnsafeFile, OutOfMemory)):
        pixels(picture(init_images=(bomb,)))
