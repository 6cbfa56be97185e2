"""Where things go: single things, pairs with a relation, and groups that can be counted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from sfumato.train.starter.dice import Dice
from sfumato.train.starter.scene import Relation, Thing

_SPOTS: dict[str, tuple[float, float]] = {"left": (0.25, 0.5), "right": (0.75, 0.5), "top": (0.5, 0.25), "bottom": (0.5, 0.75)}

_GAP = 0.028
"""What stays free between two things of which one is on top of the other, so that they can be told apart."""

RELATIONS: tuple[Relation, ...] = ("left of", "right of", "above", "below", "inside", "on top of")
"""Every relation."""

ROOMY: tuple[str, ...] = ("circle", "square", "triangle", "heart", "ring", "hexagon", "diamond", "oval")
"""Shapes that something fits inside."""

OPPOSITES: dict[Relation, Relation] = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
"""What the second thing is, seen from the first, where there is a word for it."""


@dataclass(frozen=True, slots=True)
class Placed:
    """Things in their places, with the words that follow from where they are."""

    things: tuple[Thing, ...]
    relation: Relation | None = None
    place: str | None = None
    size_word: str | None = None


def single(dice: Dice, thing: Thing, *, cropped: bool, varied: bool = True) -> Placed:
    """One thing: about the middle or at a named place, of ordinary, small or large size, or cut off by the edge."""
    if cropped:
        x, y = dice.choice(((0.08, 0.5), (0.92, 0.5), (0.5, 0.08), (0.5, 0.92)))
        return Placed((replace(thing, x=x, y=y, size=dice.uniform(0.55, 0.75)),))
    if not varied:
        moved = replace(thing, x=0.5 + dice.uniform(-0.05, 0.05), y=0.5 + dice.uniform(-0.05, 0.05), size=dice.uniform(0.5, 0.65))
        return Placed((moved,))
    size_word = dice.weighted({None: 0.7, "small": 0.15, "large": 0.15})
    low, high = {"small": (0.2, 0.27), "large": (0.72, 0.86)}.get(size_word or "", (0.42, 0.62))
    place = dice.choice(tuple(_SPOTS)) if size_word != "large" and dice.chance(0.3) else None
    if place and not size_word:
        low, high = 0.34, 0.46
    x, y = _SPOTS[place] if place else (0.5, 0.5)
    room = 0.02 if place or size_word == "large" else 0.05
    moved = replace(thing, x=x + dice.uniform(-room, room), y=y + dice.uniform(-room, room), size=dice.uniform(low, high))
    return Placed((moved,), place=place, size_word=size_word)


def related(
    dice: Dice, first: Thing, second: Thing, relation: Relation, extent: Callable[[Thing], tuple[float, float]]
) -> Placed:
    """Two things, the first `relation` the second; the second one, the reference, is drawn first and stands first.

    Args:
        extent: top and bottom of a thing, in units of half its size, seen from its centre.
    """
    jitter = dice.uniform(-0.04, 0.04)
    if relation == "inside":
        outer = replace(second, x=0.5, y=0.5, size=dice.uniform(0.78, 0.88), fill="solid")
        middle = 0.58 if second.name == "triangle" else 0.5
        return Placed((outer, replace(first, x=0.5, y=middle, size=dice.uniform(0.3, 0.36), fill="solid")), relation)
    if relation == "on top of":
        below, above = dice.uniform(0.4, 0.46), dice.uniform(0.3, 0.36)
        base = replace(second, x=0.5 + jitter, y=0.7, size=below)
        top = 0.7 + extent(second)[0] * below / 2.0 - extent(first)[1] * above / 2.0 - _GAP
        return Placed((base, replace(first, x=0.5 + jitter, y=top, size=above)), relation)
    near, far = 0.25 + dice.uniform(-0.03, 0.03), 0.75 + dice.uniform(-0.03, 0.03)
    start, end = (near, far) if relation in ("left of", "above") else (far, near)
    sizes = dice.uniform(0.3, 0.42), dice.uniform(0.3, 0.42)
    if relation in ("left of", "right of"):
        spots = ((start, 0.5 + jitter), (end, 0.5 + dice.uniform(-0.04, 0.04)))
    else:
        spots = ((0.5 + jitter, start), (0.5 + dice.uniform(-0.04, 0.04), end))
    placed = [replace(thing, x=x, y=y, size=size) for thing, (x, y), size in zip((first, second), spots, sizes, strict=True)]
    return Placed((placed[1], placed[0]), relation)


_GROUPS: dict[int, tuple[tuple[tuple[float, float], ...], ...]] = {
    2: (((0.27, 0.5), (0.73, 0.5)), ((0.3, 0.3), (0.7, 0.7)), ((0.7, 0.3), (0.3, 0.7))),
    3: (((0.2, 0.5), (0.5, 0.5), (0.8, 0.5)), ((0.5, 0.28), (0.27, 0.7), (0.73, 0.7)), ((0.27, 0.3), (0.73, 0.3), (0.5, 0.72))),
    4: (((0.28, 0.28), (0.72, 0.28), (0.28, 0.72), (0.72, 0.72)), ((0.5, 0.2), (0.2, 0.5), (0.8, 0.5), (0.5, 0.8))),
}


def group(dice: Dice, thing: Thing, count: int) -> Placed:
    """`count` copies of one thing, 2 to 4, well apart."""
    low, high = {2: (0.32, 0.4), 3: (0.2, 0.245), 4: (0.24, 0.3)}[count]
    size = dice.uniform(low, high)
    return Placed(
        tuple(
            replace(thing, x=x + dice.uniform(-0.02, 0.02), y=y + dice.uniform(-0.02, 0.02), size=size * dice.uniform(0.95, 1.05))
            for x, y in dice.choice(_GROUPS[count])
        )
    )


def beside(dice: Dice, things: Sequence[Thing]) -> Placed:
    """Two things side by side in either order, with no relation to be told."""
    order = dice.shuffled((0.26, 0.74))
    return Placed(
        tuple(
            replace(thing, x=x + dice.uniform(-0.02, 0.02), y=0.5 + dice.uniform(-0.08, 0.08), size=dice.uniform(0.32, 0.42))
            for thing, x in zip(things, order, strict=True)
        )
    )
