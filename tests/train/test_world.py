"""The rendered world: the same everywhere, in any batch, and as its scenes say."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
import torch

from sfumato.errors import CorruptFile, NotFound, SfumatoError
from sfumato.train.starter.defects import defects
from sfumato.train.starter.detect.quality import sharpness, style_statistics
from sfumato.train.starter.dice import Dice
from sfumato.train.starter.heldout import HELD_COMBINATIONS, held_pictograms, held_styles, is_held
from sfumato.train.starter.landscapes import landscapes
from sfumato.train.starter.mix import mixes
from sfumato.train.starter.palette import BASIC, COLOURS, difference, nearest
from sfumato.train.starter.pictograms import find_font, load_atlas, names_of, pictograms, read_font
from sfumato.train.starter.render import render
from sfumato.train.starter.scene import Backdrop, Scene, Thing
from sfumato.train.starter.sdf import shapes
from sfumato.train.starter.styles import styles
from sfumato.train.starter.world import World


def thing(name: str = "circle", colour: str | None = "red", **rest) -> Thing:
    return Thing(name, colour, rest.pop("x", 0.5), rest.pop("y", 0.5), rest.pop("size", 0.6), **rest)


def scene(*things: Thing, **rest) -> Scene:
    return Scene(rest.pop("backdrop", Backdrop()), things, **rest)


def test_dice_give_the_same_stream_for_ever() -> None:
    dice = Dice(1, 2)
    assert [dice.integer(1000) for _ in range(5)] == [936, 436, 653, 417, 959]
    values = [Dice(3, i).uniform() for i in range(2000)]
    assert 0.47 < sum(values) / len(values) < 0.53
    assert sorted(Dice(0).shuffled("abcdef")) == list("abcdef")
    assert {Dice(0, i).weighted({"a": 1.0, "b": 0.0}) for i in range(50)} == {"a"}


def test_a_sample_is_the_same_in_any_batch(atlas) -> None:
    world = World(11, mixes["full"], atlas)
    many, samples = world.batch(range(24), 64)
    for number in (0, 5, 23):
        alone, (sample,) = world.batch([number], 64)
        assert sample == samples[number]
        assert torch.equal(alone[0], many[number])


def test_another_seed_is_another_world(atlas) -> None:
    first, second = (World(seed, mixes["full"], atlas).batch(range(8), 64) for seed in (1, 2))
    assert not torch.equal(first[0], second[0])
    assert [s.caption for s in first[1]] != [s.caption for s in second[1]]


def test_pictures_are_finite_and_in_range(atlas) -> None:
    pictures, _ = World(5, mixes["full"].only(styles=0.6, defects=0.5, lights=0.3), atlas).batch(range(96), 64)
    assert pictures.shape == (96, 3, 64, 64)
    assert bool(torch.isfinite(pictures).all())
    assert float(pictures.min()) >= 0.0
    assert float(pictures.max()) <= 1.0


@pytest.mark.parametrize("size", [(64, 96), (120, 72), (512, 512)])
def test_any_size(size: tuple[int, int]) -> None:
    things = (thing("star", "blue", fill="striped"),)
    pictures = render([scene(*things), scene(*things, backdrop=Backdrop("forest", None, extras=("sun", "clouds")))], size)
    assert pictures.shape[2:] == size
    inner = pictures[0, :, size[0] // 2, size[1] // 2]
    assert float((inner - pictures[0, :, 1, 1]).abs().max()) > 0.3


@pytest.mark.parametrize("name", list(shapes))
def test_shapes_fill_their_size_and_have_smooth_edges(name: str) -> None:
    cover = 1.0 - render([scene(thing(name, "black", size=0.8))], 128)[0, 0]
    rows, columns = (cover > 0.5).any(dim=1).nonzero()[:, 0], (cover > 0.5).any(dim=0).nonzero()[:, 0]
    tall, wide = (int(line[-1] - line[0] + 1) / (0.8 * 128) for line in (rows, columns))
    assert 0.8 < max(tall, wide) < 1.08
    between = ((cover > 0.1) & (cover < 0.8)).sum()
    assert int(between) < 900, "the edges are smooth, and only the edges"


def test_colours_are_what_their_names_say() -> None:
    assert len(BASIC) == 11
    for name, colour in COLOURS.items():
        middle = render([scene(thing("square", name), backdrop=Backdrop("plain", "red"))], 64)[0, :, 32, 32]
        assert torch.allclose(middle, torch.tensor(colour.rgb), atol=1e-6)
        assert nearest(middle[None]) == [name]
    assert difference("red", "green") > 60.0


@pytest.mark.parametrize("name", [name for name in styles if name != "flat"])
def test_styles_change_pictures(name: str) -> None:
    plain = scene(thing("heart", "red"), backdrop=Backdrop("plain", "light blue"), seed=3)
    flat, styled = (render([replace(plain, style=style)], 96)[0] for style in ("flat", name))
    assert float((flat - styled).abs().mean()) > 0.01


def test_style_statistics_tell_styles_apart() -> None:
    plain = scene(thing("heart", "red"), backdrop=Backdrop("plain", "light blue"), seed=3)
    names = ("flat", "greyscale", "neon", "outline", "pixel art")
    measured = style_statistics(torch.cat([render([replace(plain, style=name)], 128) for name in names]))
    found = {name: number for number, name in enumerate(names)}
    assert float(measured.saturation[found["greyscale"]]) < 1e-6
    assert float(measured.brightness[found["neon"]]) < 0.3
    assert float(measured.paper[found["outline"]]) > 0.7
    assert float(measured.blocks[found["pixel art"]]) < 1e-6


def test_defects_can_be_measured() -> None:
    plain = scene(thing("star", "blue"), seed=3)
    pictures = {name: render([replace(plain, defects=(name,))], 128) for name in defects if name != "crop"}
    clean = render([plain], 128)
    assert float(sharpness(pictures["blur"])[0]) < 0.1 * float(sharpness(clean)[0])
    assert float(sharpness(pictures["noise"])[0]) > 2.0 * float(sharpness(clean)[0])
    assert float(pictures["low contrast"].max() - pictures["low contrast"].min()) < 0.5
    for name in ("jpeg", "watermark"):
        assert float((pictures[name] - clean).abs().mean()) > 0.005


@pytest.mark.parametrize("name", list(landscapes))
def test_landscapes_differ_by_seed(name: str) -> None:
    first, second = (render([scene(backdrop=Backdrop(name, None, extras=("clouds",), seed=seed))], 64) for seed in (1, 2))
    assert float((first - second).abs().mean()) > 0.002


def test_what_is_held_out_is_never_drawn_in_training(atlas) -> None:
    for mix in ("full", "layout", "single"):
        world = World(1, mixes[mix], atlas)
        drawn = [world.scene(i) for i in range(400)]
        assert not [t for s in drawn for t in s.things if is_held(t.colour, t.name)]
        assert not {s.style for s in drawn} & set(held_styles())
    world = World(1, mixes["single"].only(held_out=True), atlas)
    assert all(is_held(t.colour, t.name) for i in range(200) for t in world.scene(i).things)
    assert 0.05 < len(HELD_COMBINATIONS) / (len(BASIC) * len(shapes)) <= 0.1
    assert len(held_pictograms()) == 40
    assert len(held_styles()) == 3


def test_things_stand_out(atlas) -> None:
    world = World(9, mixes["layout"].only(pictograms=0.0), atlas)
    for number in range(300):
        drawn = world.scene(number)
        behind = [c for c in (drawn.backdrop.colour, drawn.backdrop.second) if c]
        colours = [t.colour for t in drawn.things if t.colour]
        assert all(difference(c, other) > 25.0 for c in colours for other in behind)


def test_the_list_of_pictograms() -> None:
    assert len(pictograms()) > 700
    assert len(names_of("core")) > 200
    assert len({entry.code for entry in pictograms().values()}) == len(pictograms())
    assert not {name for name in pictograms() if name in shapes}


def test_without_the_font(tmp_path) -> None:
    pictures, samples = World(1, mixes["full"]).batch(range(16), 32)
    assert not [t for s in samples for t in s.scene.things if t.is_pictogram]
    assert pictures.shape[0] == 16
    with pytest.raises(NotFound, match="no atlas"):
        render([scene(thing("rocket", None))], 32)


def test_unknown_names_are_refused(atlas) -> None:
    with pytest.raises(NotFound, match="pictogram"):
        render([scene(thing("no such thing", None))], 32, atlas=atlas)
    with pytest.raises(NotFound, match="shape"):
        render([scene(thing("blob"))], 32)
    with pytest.raises(NotFound, match="style"):
        render([scene(thing(), style="baroque")], 32)


def test_a_broken_atlas_or_font_is_named(tmp_path, atlas) -> None:
    file = tmp_path / "atlas.safetensors"
    file.write_bytes(b"not an atlas")
    with pytest.raises(SfumatoError, match="atlas"):
        load_atlas(file)
    pytest.importorskip("fontTools")
    with pytest.raises(CorruptFile, match="colour bitmaps"):
        read_font(file)
    atlas.save(file)
    again = load_atlas(file)
    assert again is not None
    assert again.names == atlas.names
    assert torch.equal(again.sprites, atlas.sprites)


@pytest.mark.skipif(find_font() is None, reason="the emoji font is not installed")
def test_the_font_gives_all_pictograms() -> None:
    pytest.importorskip("fontTools")
    real = load_atlas()
    assert real is not None
    assert set(real.names) == set(pictograms())
    assert bool((real.sprites[:, 3].amax(dim=(1, 2)) > 200).all())


def test_drawing_is_quick_enough(atlas) -> None:
    """The goal on one thread of a quiet machine is 300 pictures a second at 64 pixels; 700 were measured."""
    world = World(2, mixes["layout"], atlas)
    world.batch(range(32), 64)
    began = time.process_time()
    world.batch(range(32, 160), 64)
    assert time.process_time() - began < 2.0
