"""Detectors know rendered pictures: their ceiling, which every measurement of a model is read against."""

from __future__ import annotations

import importlib.util
from dataclasses import replace

import pytest
import torch
from tests import tiny

from sfumato.train.starter.detect.foreground import components, separate
from sfumato.train.starter.detect.judge import judge
from sfumato.train.starter.detect.match import colour_of, match_shapes, same_colour
from sfumato.train.starter.evaluate import (
    EXAM_SEED,
    EXAMS,
    ModelPainter,
    RenderPainter,
    Report,
    examine,
    negative_prompt,
    reconstruction,
    summarise,
)
from sfumato.train.starter.palette import COLOURS
from sfumato.train.starter.pictograms import find_font, load_atlas
from sfumato.train.starter.render import render
from sfumato.train.starter.scene import Backdrop, Scene, Thing
from sfumato.train.starter.sdf import shapes
from sfumato.train.starter.world import World


@pytest.fixture(scope="module")
def marks() -> dict[str, object]:
    """The renderer's own marks, with the real pictograms where the font is installed."""
    real = load_atlas() if find_font() and importlib.util.find_spec("fontTools") else None
    return {row.name: row for row in examine(RenderPainter(real), atlas=real, prompts=14, seeds=(1,))}


def test_the_ceiling(marks) -> None:
    print(Report(tuple(marks.values())))
    for row in marks.values():
        if row.unit == "%":
            assert row.value >= 98.0, row
        else:
            assert row.value < 1.0, row


@pytest.mark.parametrize("name", list(shapes))
@pytest.mark.parametrize("size", [0.22, 0.7])
def test_shapes(name: str, size: float) -> None:
    scene = Scene(Backdrop("plain", "light blue"), (Thing(name, "red", 0.52, 0.47, size, angle=0.07),))
    picture = render([scene], 128)[0]
    (part,) = components(separate(picture).mask)
    assert next(iter(match_shapes(part))) == name


@pytest.mark.parametrize("colour", list(COLOURS))
@pytest.mark.parametrize("fill", ["solid", "gradient", "striped", "checkered", "dotted"])
def test_colours(colour: str, fill: str) -> None:
    if COLOURS[colour].base == "white" and fill != "solid":
        pytest.skip("a white pattern cannot be seen")
    backdrop = "dark green" if COLOURS[colour].base in ("white", "grey") else "white"
    scene = Scene(Backdrop("plain", backdrop), (Thing("square", colour, 0.5, 0.5, 0.6, fill=fill),))
    picture = render([scene], 128)[0]
    assert same_colour(colour_of(picture, separate(picture).mask), COLOURS[colour].base)


def test_gradients_are_backdrops() -> None:
    for direction in ("vertical", "horizontal", "radial"):
        picture = render([Scene(Backdrop("gradient", "light blue", "white", direction), ())], 128)[0]
        assert float(separate(picture).mask.float().mean()) < 0.12


def test_mistakes_are_seen() -> None:
    red, blue = Thing("circle", "red", 0.25, 0.5, 0.35), Thing("square", "blue", 0.75, 0.5, 0.35)
    wanted = Scene(Backdrop(), (red, blue), relation="right of")
    assert judge(wanted, render([wanted], 128)[0]).right
    swapped = Scene(Backdrop(), (replace(red, colour="blue"), replace(blue, colour="red")))
    assert judge(wanted, render([swapped], 128)[0]).colour is False
    moved = Scene(Backdrop(), (replace(red, x=0.75), replace(blue, x=0.25)))
    assert judge(wanted, render([moved], 128)[0]).relation is False
    other = Scene(Backdrop(), (red, replace(blue, name="star")))
    assert judge(wanted, render([other], 128)[0]).shape is False
    alone = Scene(Backdrop(), (red,))
    assert not judge(wanted, render([alone], 128)[0]).right
    empty = Scene(Backdrop("plain", "pink"), ())
    verdict = judge(wanted, render([empty], 128)[0])
    assert not verdict.right
    assert verdict.backdrop is not None
    assert verdict.backdrop > 20.0
    three = Scene(Backdrop(), tuple(replace(red, x=x, size=0.2) for x in (0.2, 0.5, 0.8)))
    assert judge(Scene(Backdrop(), (red, red)), render([three], 128)[0]).count is False


def test_noise_is_not_a_thing() -> None:
    pick = torch.Generator().manual_seed(1)
    scene = Scene(Backdrop(), (Thing("star", "blue", 0.5, 0.5, 0.5),))
    noisy = (render([scene], 128)[0] + 0.02 * torch.randn(3, 128, 128, generator=pick)).clamp(0, 1)
    assert judge(scene, noisy).right
    garbage = torch.rand(3, 128, 128, generator=pick)
    assert not judge(scene, garbage).right


def test_rows_have_intervals() -> None:
    row = summarise("share", 90.0, [[100.0, 100.0], [0.0, 0.0], [100.0, 0.0]] * 10, lambda v: sum(v) / len(v), "%")
    assert row.value == pytest.approx(50.0)
    assert 25.0 < row.low < 50.0 < row.high < 75.0
    assert row.count == 60
    empty = summarise("nothing", 1.0, [], lambda v: 0.0, "%")
    assert empty.count == 0
    assert Report((row, empty)).as_json()["rows"][0]["name"] == "share"


def test_a_random_model_knows_nothing(atlas) -> None:
    model = tiny.random_model()
    painter = ModelPainter(model, size=64, steps=2, sampler="Euler")
    row = reconstruction(model, atlas=atlas, size=64, pictures=4)
    assert row.value < 20.0
    rows = list(examine(painter, prompts=2, seeds=(1,), exams=EXAMS[:1]))
    assert rows[0].value == 0.0
    assert negative_prompt(painter, prompts=1, seeds=(1,)).count == 1


def test_exams_are_of_their_own_world() -> None:
    assert World(EXAM_SEED, EXAMS[0].mix).scene(0) != World(0, EXAMS[0].mix).scene(0)
