"""Captions made wrong in one word or by a swap: what a text encoder must tell apart, and does not learn from random others.

A contrastive loss alone is content with bags of words (Yuksekgonul et al. 2023): that there is something red and something
round, not what is red.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from sfumato.train.starter.dice import Dice
from sfumato.train.starter.palette import COLOURS
from sfumato.train.starter.sdf import shapes

_COLOUR = re.compile(r"\b(" + "|".join(sorted(map(re.escape, COLOURS), key=len, reverse=True)) + r")\b")
_NUMBER = re.compile(r"\b(two|three|four)\b")
_SIDE = re.compile(r"\b(left|right|above|over|below|under|top|bottom)\b")
_OPPOSITE = {
    "left": "right",
    "right": "left",
    "above": "below",
    "over": "under",
    "below": "above",
    "under": "over",
    "top": "bottom",
    "bottom": "top",
}


def _swap_colours(text: str, dice: Dice) -> str:
    found = list(dict.fromkeys(_COLOUR.findall(text)))
    if len(found) < 2:
        return text
    a, b = dice.shuffled(found)[:2]
    return _COLOUR.sub(lambda match: {a: b, b: a}.get(match[0], match[0]), text)


def _other_colour(text: str, dice: Dice) -> str:
    found = _COLOUR.findall(text)
    if not found:
        return text
    old = dice.choice(found)
    new = dice.choice([name for name in COLOURS if COLOURS[name].base != COLOURS[old].base])
    return _COLOUR.sub(lambda match: new if match[0] == old else match[0], text)


def _other_number(text: str, dice: Dice) -> str:
    return _NUMBER.sub(lambda match: dice.choice([n for n in ("two", "three", "four") if n != match[0]]), text, count=1)


def _other_side(text: str, dice: Dice) -> str:
    # "On top of" has no opposite that would read so well: it becomes "below".
    if "on top of" in text:
        return text.replace("on top of", "below", 1)
    return _SIDE.sub(lambda match: _OPPOSITE[match[0]], text, count=1)


def _other_shape(text: str, dice: Dice) -> str:
    for name in dice.shuffled(list(shapes)):
        if re.search(rf"\b{name}\b", text):
            return re.sub(rf"\b{name}\b", dice.choice([other for other in shapes if other != name]), text, count=1)
    return text


_CHANGES: tuple[Callable[[str, Dice], str], ...] = (
    _swap_colours,
    _swap_colours,
    _other_side,
    _other_number,
    _other_colour,
    _other_shape,
)


def hard_negative(caption: str, dice: Dice) -> str | None:
    """A caption that is nearly that of the same picture and is wrong; None where nothing in it can be changed."""
    for change in dice.shuffled(_CHANGES):
        changed = change(caption, dice)
        if changed != caption:
            return changed
    return None
