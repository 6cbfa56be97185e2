"""Captions say what scenes show."""

from __future__ import annotations

import pytest

from sfumato.engine.models.tokenizer import Tokenizer
from sfumato.train.starter.captions import caption, name_thing, plural, prompt, with_article
from sfumato.train.starter.dice import Dice
from sfumato.train.starter.mix import mixes
from sfumato.train.starter.scene import Backdrop, Scene, Thing
from sfumato.train.starter.styles import styles
from sfumato.train.starter.world import World


@pytest.mark.parametrize(
    ("one", "article", "many"),
    [
        ("red circle", "a red circle", "red circles"),
        ("orange cross", "an orange cross", "orange crosses"),
        ("cup of coffee", "a cup of coffee", "cups of coffee"),
        ("clinking beer mugs", "clinking beer mugs", "clinking beer mugs"),
        ("glass of wine", "a glass of wine", "glasses of wine"),
        ("bus", "a bus", "buses"),
        ("mouse", "a mouse", "mice"),
        ("unicorn", "a unicorn", "unicorns"),
        ("ufo", "a ufo", "ufos"),
        ("popcorn", "popcorn", "popcorn"),
        ("monkey", "a monkey", "monkeys"),
        ("cherry", "a cherry", "cherries"),
    ],
)
def test_grammar(one: str, article: str, many: str) -> None:
    assert with_article(one) == article
    assert plural(one) == many


def test_plain_prompts() -> None:
    red, blue = Thing("circle", "red", 0.5, 0.5, 0.5), Thing("square", "blue", 0.2, 0.5, 0.3, fill="striped")
    white = Backdrop()
    assert prompt(Scene(white, (red,))) == "a red circle on a white background"
    assert (
        prompt(Scene(white, (red, blue), relation="left of"))
        == "a striped blue square to the left of a red circle on a white background"
    )
    assert prompt(Scene(white, (red,) * 3)) == "three red circles on a white background"
    assert prompt(Scene(white, (red,), size_word="small", place="top")) == "a small red circle at the top on a white background"
    assert prompt(Scene(Backdrop("desert", None), (red,), style="neon")) == "a red circle in a desert, neon"
    assert prompt(Scene(Backdrop("sea", None), ())) == "a sea landscape"


def test_relations_are_told_from_either_side() -> None:
    left, right = Thing("circle", "red", 0.2, 0.5, 0.3), Thing("star", "blue", 0.8, 0.5, 0.3)
    told = {caption(Scene(Backdrop(), (right, left), relation="left of"), Dice(i)) for i in range(200)}
    assert any("red circle to the left of a blue star" in text for text in told)
    assert any("blue star to the right of a red circle" in text for text in told)
    assert not any("red circle to the right of" in text or "blue star to the left of" in text for text in told)


def test_every_thing_is_named(atlas) -> None:
    world = World(3, mixes["full"].only(empty=0.0), atlas)
    phrasings = set()
    for number in range(400):
        sample = world.sample(number)
        words = sample.caption
        phrasings.add(words.split(" ")[0])
        assert words == words.strip()
        assert "  " not in words
        for thing in sample.scene.things:
            names = {name_thing(thing, colour=False, alias=alias).split()[-1][:3] for alias in (False, True)}
            assert any(name in words for name in names), sample
            if thing.colour and styles[sample.scene.style].keeps_colour:
                assert thing.colour in words.replace("  ", " ") or " ".join(thing.colour.split()[-1:]) in words
    assert len(phrasings) > 12


def test_a_tenth_is_empty_and_all_fit(atlas) -> None:
    world, tokenizer = World(4, mixes["full"], atlas), Tokenizer()
    captions = [world.sample(i).caption for i in range(600)]
    assert 0.06 < sum(not text for text in captions) / len(captions) < 0.14
    assert max(len(tokenizer.encode(text)) for text in captions) <= 60
    assert len(set(captions)) > 450


def test_words_of_defects_and_lights_appear(atlas) -> None:
    world = World(5, mixes["full"].only(defects=1.0, lights=1.0, empty=0.0), atlas)
    text = " ".join(world.sample(i).caption for i in range(400))
    for word in ("blurry", "noisy", "dirty", "jpeg artifacts", "watermark", "low contrast", "cropped", "dark", "bright", "cool"):
        assert word in text


def test_what_a_style_hides_is_not_told() -> None:
    yellow = Backdrop("plain", "yellow")
    for style in ("outline", "neon", "greyscale"):
        drawn = Scene(yellow, (Thing("star", "blue", 0.5, 0.5, 0.5),), style=style)
        assert not any("yellow" in text for text in (prompt(drawn), *(caption(drawn, Dice(i)) for i in range(60))))
    landscape = Scene(Backdrop("sea", None), (Thing("star", "blue", 0.5, 0.5, 0.5),), style="neon")
    assert any("sea" in caption(landscape, Dice(i)) for i in range(20))
