"""The world: an endless numbered row of scenes, each with its picture and caption, drawn from a mix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from sfumato.train.starter.captions import caption
from sfumato.train.starter.defects import LIGHTS, defects
from sfumato.train.starter.dice import Dice
from sfumato.train.starter.heldout import is_held
from sfumato.train.starter.landscapes import landscapes
from sfumato.train.starter.layout import RELATIONS, ROOMY, Placed, beside, group, related, single
from sfumato.train.starter.mix import Mix
from sfumato.train.starter.palette import COLOURS, difference
from sfumato.train.starter.pictograms import Atlas, extent_of, visible
from sfumato.train.starter.render import render
from sfumato.train.starter.scene import Backdrop, Fill, Scene, Thing
from sfumato.train.starter.sdf import extent
from sfumato.train.starter.styles import styles

_CONTRAST = 32.0
"""Least Delta E between a shape and what is behind or beside it."""

_NEEDS_THINGS = frozenset({"sticker", "silhouette"})

_FILLS: dict[str, Fill] = {
    "solid": "solid",
    "striped": "striped",
    "dotted": "dotted",
    "checkered": "checkered",
    "gradient": "gradient",
    "outline": "outline",
}


@dataclass(frozen=True, slots=True)
class Sample:
    """One member of the world."""

    scene: Scene
    caption: str


@dataclass(frozen=True)
class World:
    """Scenes by number.

    Sample `i` is the same whatever else is drawn, on every machine.

    Attributes:
        seed: names the row; another seed gives other scenes.
        mix: what is drawn, and how often.
        atlas: the pictograms; without it only shapes are drawn.
    """

    seed: int
    mix: Mix = field(default_factory=Mix)
    atlas: Atlas | None = None

    def sample(self, index: int) -> Sample:
        """Scene and caption of one sample; some captions are empty, and some contain a word that means nothing."""
        dice = Dice(self.seed, index)
        scene = self._scene(dice)
        if dice.chance(self.mix.empty):
            return Sample(scene, "")
        return Sample(scene, _with_nonsense(caption(scene, dice), dice))

    def scene(self, index: int) -> Scene:
        """The scene of one sample."""
        return self._scene(Dice(self.seed, index))

    def batch(
        self, indices: Sequence[int], size: int | tuple[int, int], device: torch.device | str = "cpu"
    ) -> tuple[Tensor, list[Sample]]:
        """Pictures [n, 3, h, w] in 0..1 and their samples."""
        samples = [self.sample(index) for index in indices]
        return render([sample.scene for sample in samples], size, atlas=self.atlas, device=device), samples

    def _scene(self, dice: Dice) -> Scene:
        mix = self.mix
        layout = dice.weighted(mix.layouts)
        backdrop = self._backdrop(dice, scenery=layout == "scenery")
        style = self._style(dice, layout) if dice.chance(mix.styles) else "flat"
        flaws = (dice.choice(tuple(defects)),) if dice.chance(mix.defects) else ()
        if "crop" in flaws and layout != "one":
            flaws = ("blur",)
        placed = self._placed(dice, layout, backdrop, cropped="crop" in flaws)
        light = dice.choice(LIGHTS) if dice.chance(mix.lights) else None
        return Scene(
            backdrop,
            placed.things,
            relation=placed.relation,
            place=placed.place,
            size_word=placed.size_word,
            style=style,
            defects=flaws,
            light=light,
            seed=dice.bits() & 0x7FFFFFFF,
        )

    def _style(self, dice: Dice, layout: str) -> str:
        fitting = [
            name
            for name, style in styles.items()
            if style.held_out == self.mix.held_out and not (layout == "scenery" and name in _NEEDS_THINGS)
        ]
        return dice.choice(fitting)

    def _backdrop(self, dice: Dice, *, scenery: bool) -> Backdrop:
        kind = "landscape" if scenery else dice.weighted(self.mix.backdrops)
        seed = dice.bits() & 0x7FFFFFFF
        if kind == "white":
            return Backdrop()
        if kind == "plain":
            return Backdrop("plain", dice.choice(self.mix.colours))
        if kind == "gradient":
            first, second = dice.shuffled(self.mix.colours)[:2]
            return Backdrop("gradient", first, second, dice.choice(("vertical", "vertical", "horizontal", "radial")))
        name = dice.choice(tuple(landscapes))
        return Backdrop(name, None, extras=_weather(name, dice), seed=seed)

    def _placed(self, dice: Dice, layout: str, backdrop: Backdrop, *, cropped: bool) -> Placed:
        if layout == "scenery":
            return Placed(())
        behind = [name for name in (backdrop.colour, backdrop.second) if name]
        relation = dice.choice(RELATIONS) if layout == "relation" else None
        first = self._thing(dice, behind, roomy=relation == "inside")
        if layout == "one":
            return single(dice, first, cropped=cropped, varied=dice.chance(self.mix.varied))
        if layout == "count":
            return group(dice, first, 2 + dice.integer(3))
        beside_it = [*behind, first.colour] if first.colour else behind
        second = self._thing(dice, beside_it, unlike=first.name)
        if relation is None:
            return beside(dice, (first, second))
        return related(dice, second, first, relation, self._extent)

    def _extent(self, thing: Thing) -> tuple[float, float]:
        return extent_of(self.atlas, thing.name) if self.atlas and thing.is_pictogram else extent(thing.name)

    def _thing(self, dice: Dice, behind: Sequence[str], *, roomy: bool = False, unlike: str | None = None) -> Thing:
        mix = self.mix
        if self.atlas is not None and not roomy and dice.chance(mix.pictograms):
            known = visible(self.atlas, ("held",) if mix.held_out else mix.tiers, tuple(behind))
            name = dice.choice(known)
            name = known[(known.index(name) + 1) % len(known)] if name == unlike else name
            return Thing(name, None, 0.5, 0.5, 0.5, mirrored=dice.chance(0.15))
        colour, name = self._pair(dice, behind, unlike, ROOMY if roomy else mix.shapes)
        fill = "solid" if COLOURS[colour].base == "white" else dice.weighted(mix.fills)
        return Thing(name, colour, 0.5, 0.5, 0.5, fill=_FILLS[fill], angle=dice.uniform(-0.1, 0.1))

    def _pair(self, dice: Dice, behind: Sequence[str], unlike: str | None, names: Sequence[str]) -> tuple[str, str]:
        """A colour and a shape that stand out; what is held out is passed over, or else the only choice."""
        every = [(colour, name) for colour in self.mix.colours for name in names if name in self.mix.shapes]
        pairs = [pair for pair in every if is_held(*pair) == self.mix.held_out] or every
        bases = {COLOURS[name].base for name in behind}
        fitting = [
            (colour, name)
            for colour, name in pairs
            if name != unlike and COLOURS[colour].base not in bases and all(difference(colour, o) >= _CONTRAST for o in behind)
        ]
        return dice.choice(fitting or pairs)


def _weather(landscape: str, dice: Dice) -> tuple[str, ...]:
    """What is in the sky of a landscape; the order is that of captions."""
    if landscape == "night":
        return dice.choice((("moon", "stars"), ("stars",), ("moon",)))
    if landscape == "snow":
        return dice.choice((("snowfall",), ("sun",), ("clouds",), ()))
    if landscape == "sunset":
        return dice.choice((("sun",), ("clouds",), ("sun", "clouds"), ()))
    return dice.choice((("sun",), ("clouds",), ("sun", "clouds"), ("clouds", "rain"), (), ()))


def _with_nonsense(text: str, dice: Dice) -> str:
    """Now and then put a word that means nothing somewhere, so that unknown words come to be ignored."""
    if not dice.chance(0.03):
        return text
    word = "".join(dice.choice("bcdfghjklmnpqrstvwxz") for _ in range(3))
    parts = text.split(" ")
    place = dice.integer(len(parts) + 1)
    return " ".join((*parts[:place], word, *parts[place:]))
