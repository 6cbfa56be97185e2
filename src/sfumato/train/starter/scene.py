"""A scene as a frozen value: what a picture shows, from which both its pixels and its captions are made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Fill = Literal["solid", "striped", "dotted", "checkered", "gradient", "outline"]
"""How a shape is filled."""

Relation = Literal["left of", "right of", "above", "below", "inside", "on top of"]
"""Where the first of two things is, seen from the second."""


@dataclass(frozen=True, slots=True)
class Thing:
    """A shape or a pictogram in its place.

    Attributes:
        name: of the shape, or of the pictogram.
        colour: name of a colour; None for a pictogram, which has its own.
        x, y: the centre as a fraction of the picture's width and height.
        size: the diameter as a fraction of the picture's shorter side.
        angle: turned clockwise, in radians.
    """

    name: str
    colour: str | None
    x: float
    y: float
    size: float
    fill: Fill = "solid"
    angle: float = 0.0
    mirrored: bool = False

    @property
    def is_pictogram(self) -> bool:
        """It is a picture of the font, not a geometric shape."""
        return self.colour is None


@dataclass(frozen=True, slots=True)
class Backdrop:
    """What is behind the things.

    Attributes:
        kind: "plain", "gradient", or the name of a landscape.
        colour: of a plain backdrop; the first of a gradient; None in a landscape.
        second: the other colour of a gradient.
        direction: of a gradient: "vertical", "horizontal" or "radial".
        extras: what is in the sky of a landscape: "sun", "moon", "clouds", "stars", "rain", "snowfall".
        seed: of hills, clouds and the like.
    """

    kind: str = "plain"
    colour: str | None = "white"
    second: str | None = None
    direction: str = "vertical"
    extras: tuple[str, ...] = ()
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Scene:
    """All there is to know of one picture.

    Attributes:
        things: from back to front.
        relation: of the second thing (the subject) to the first (the reference), where the scene is about it.
        place: where a single thing is: "left", "right", "top", "bottom", or None for about the middle.
        size_word: "small" or "large" where the single thing is unusually so.
        style: name of a style; "flat" is the ordinary one.
        defects: names of defects, in the order in which they are applied.
        light: "dark", "bright", "cool" (tinted blue), "warm", or None.
        seed: of noise, paper and other detail.
    """

    backdrop: Backdrop
    things: tuple[Thing, ...]
    relation: Relation | None = None
    place: str | None = None
    size_word: str | None = None
    style: str = "flat"
    defects: tuple[str, ...] = ()
    light: str | None = None
    seed: int = 0
