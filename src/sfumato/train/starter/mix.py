"""What a stage of training sees, and how often: the curriculum as frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from sfumato.registry import Registry
from sfumato.train.starter.palette import BASIC, COLOURS
from sfumato.train.starter.pictograms import Tier
from sfumato.train.starter.sdf import shapes

Weights = Mapping[str, float]


def weights(**values: float) -> Weights:
    """Weights by name; an underscore stands for a space."""
    return MappingProxyType({name.replace("_", " "): value for name, value in values.items()})


@dataclass(frozen=True, slots=True)
class Mix:
    """How often what is drawn.

    Attributes:
        layouts: weights of "one" thing, "pair" (no relation said), "relation", "count" and "scenery" (no thing at all).
        pictograms: share of things that are pictograms, drawn from `tiers`.
        colours, shapes: what shapes are made of.
        fills: weights; "solid" is the ordinary fill.
        backdrops: weights of "white", "plain", "gradient" and "landscape".
        styles, defects, lights: share of scenes that have one.
        empty: share of captions that are empty.
        varied: share of single things that may be unusually small or large or off the middle.
        held_out: draw what training never sees, and only that.
    """

    layouts: Weights = field(default_factory=lambda: weights(one=0.45, pair=0.1, relation=0.22, count=0.17, scenery=0.06))
    pictograms: float = 0.5
    tiers: tuple[Tier, ...] = ("core", "more")
    colours: tuple[str, ...] = tuple(COLOURS)
    shapes: tuple[str, ...] = tuple(shapes)
    fills: Weights = field(
        default_factory=lambda: weights(solid=0.62, striped=0.08, dotted=0.08, checkered=0.06, gradient=0.07, outline=0.09)
    )
    backdrops: Weights = field(default_factory=lambda: weights(white=0.25, plain=0.4, gradient=0.1, landscape=0.25))
    styles: float = 0.3
    defects: float = 0.1
    lights: float = 0.05
    empty: float = 0.1
    varied: float = 1.0
    held_out: bool = False

    def only(self, **changes: object) -> Mix:
        """A copy with some values replaced."""
        return replace(self, **changes)  # type: ignore[arg-type]


mixes: Registry[Mix] = Registry("mix")
"""Named mixes that recipes ask for."""

mixes.add("full", Mix())
mixes.add(
    "single",
    Mix(
        layouts=weights(one=1.0),
        tiers=("core",),
        backdrops=weights(white=0.35, plain=0.55, gradient=0.1),
        fills=weights(solid=0.8, striped=0.05, dotted=0.05, gradient=0.05, outline=0.05),
        styles=0.0,
        defects=0.0,
        lights=0.0,
    ),
)
mixes.add(
    "layout",
    Mix(
        layouts=weights(one=0.34, pair=0.12, relation=0.3, count=0.2, scenery=0.04),
        tiers=("core",),
        backdrops=weights(white=0.3, plain=0.45, gradient=0.08, landscape=0.17),
        styles=0.15,
        defects=0.06,
        lights=0.03,
    ),
)
mixes.add(
    "nano",
    Mix(
        layouts=weights(one=1.0),
        pictograms=0.0,
        colours=("red", "orange", "yellow", "green", "blue", "purple"),
        shapes=("circle", "square", "triangle", "star", "heart", "ring", "cross", "crescent"),
        fills=weights(solid=1.0),
        backdrops=weights(white=1.0),
        styles=0.0,
        defects=0.0,
        lights=0.0,
        varied=0.0,
    ),
)
mixes.add("basic", mixes["layout"].only(colours=BASIC, pictograms=0.0, styles=0.0, defects=0.0, lights=0.0))
