"""Does a picture show what its scene says? Each question is answered by itself."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations

import torch
from torch import Tensor

from sfumato.train.starter.detect.foreground import Box, Ground, close, components, separate
from sfumato.train.starter.detect.match import Guess, colour_of, in_one_piece, match_pictograms, match_shapes, same_colour
from sfumato.train.starter.filters import dilate
from sfumato.train.starter.palette import lab_of, to_lab
from sfumato.train.starter.pictograms import Atlas
from sfumato.train.starter.scene import Scene, Thing

_NEAR = 30.0
"""Delta E within which a pixel has a known colour."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Answers; None where the question makes no sense for the scene.

    Attributes:
        colour, shape: every shape has the right one.
        identity: every pictogram is the most similar one of the atlas; `identity5` for among the five most similar.
        count: there are as many things as there should be.
        relation: the subject is where it should be, seen from the reference.
        place: a single thing is on the asked side of the picture.
        backdrop: Delta E of a plain backdrop's colour.
    """

    colour: bool | None = None
    shape: bool | None = None
    identity: bool | None = None
    identity5: bool | None = None
    count: bool | None = None
    relation: bool | None = None
    place: bool | None = None
    backdrop: float | None = None

    @property
    def right(self) -> bool:
        """Every answer that there is, is yes."""
        answers = (self.colour, self.shape, self.identity, self.count, self.relation, self.place)
        return all(answer is not False for answer in answers)


@dataclass(frozen=True, slots=True)
class _Found:
    """A thing that was looked for, and what was found in its stead."""

    mask: Tensor | None
    colour: bool | None
    shape: bool | None
    guesses: tuple[Guess, ...] = ()

    def points(self, name: str) -> float:
        """How much of what was asked for is right; where two things swapped colours, it is the colours that are wrong."""
        return float(bool(self.colour)) + 1.5 * float(bool(self.shape)) + 2.0 * self.among(name, 1) + self.among(name, 5)

    def among(self, name: str, count: int) -> bool:
        return name in [guess.name for guess in self.guesses[:count]]


def judge(scene: Scene, picture: Tensor, atlas: Atlas | None = None) -> Verdict:
    """Answer every question about a picture [3, h, w] in 0..1 of a flat scene before a plain or gradient backdrop."""
    ground = separate(picture)
    backdrop = None
    if scene.backdrop.kind == "plain" and scene.backdrop.colour:
        backdrop = float((to_lab(ground.colour) - ground.colour.new_tensor(lab_of(scene.backdrop.colour))).norm())
    if not scene.things:
        return Verdict(backdrop=backdrop)
    # Things on top of each other nearly touch.
    join = 1 if scene.relation == "on top of" else max(1, picture.shape[1] // 64)
    parts = components(ground.mask, join=join)
    found = _look(scene, _Look(picture, ground, atlas), parts)
    return Verdict(
        colour=_all([f.colour for f in found], [t.colour is not None for t in scene.things]),
        shape=_all([f.shape for f in found], [t.colour is not None for t in scene.things]),
        identity=_identity(scene, found, 1),
        identity5=_identity(scene, found, 5),
        count=len(parts) == len(scene.things) if _countable(scene, atlas) else None,
        relation=_relation(scene, found) if scene.relation else None,
        place=_place(scene, found, picture) if scene.place else None,
        backdrop=backdrop,
    )


@dataclass(frozen=True, slots=True)
class _Look:
    """What all detectors need."""

    picture: Tensor
    ground: Ground
    atlas: Atlas | None


def _countable(scene: Scene, atlas: Atlas | None) -> bool:
    """Several things that stand apart, each in one piece."""
    if scene.relation in ("inside", "on top of") or len(scene.things) < 2:
        return False
    return all(not t.is_pictogram or (atlas is not None and in_one_piece(atlas, t.name)) for t in scene.things)


def _look(scene: Scene, look: _Look, parts: list[Tensor]) -> list[_Found]:
    """Find every thing of a scene, in the scene's order; things that are missing are found as nothing."""
    things = scene.things
    if not parts:
        return [_Found(None, False, False) for _ in things]
    if len(things) == 1:
        whole = torch.stack(parts).any(dim=0) if things[0].is_pictogram else parts[0]
        return [_inspect(things[0], look, whole)]
    if scene.relation == "inside":
        return _nested(scene, look)
    if len(parts) == 1 and scene.relation == "on top of":
        parts = _cut_at_waist(parts[0])
    if things[0].name == things[1].name and things[0].colour == things[1].colour:
        return [_inspect(things[0], look, part) for part in parts[: len(things)]]
    if len(parts) < 2:
        return [_inspect(things[0], look, parts[0]), _Found(None, False, False)]
    return max(
        ([_inspect(thing, look, part) for thing, part in zip(things, pair, strict=True)] for pair in permutations(parts[:3], 2)),
        key=lambda pair: sum(found.points(thing.name) for found, thing in zip(pair, things, strict=True)),
    )


def _cut_at_waist(part: Tensor) -> list[Tensor]:
    """Two things on top of each other, cut apart at the narrowest row."""
    box = Box.of(part)
    height = box.bottom - box.top
    first, last = box.top + height // 4, box.bottom - height // 4
    if last <= first:
        return [part]
    row = first + int(part[first:last].sum(dim=1).argmin())
    upper, lower = part.clone(), part.clone()
    upper[row:] = False
    lower[: row + 1] = False
    return [half for half in (upper, lower) if bool(half.any())]


def _nested(scene: Scene, look: _Look) -> list[_Found]:
    """A shape and what is inside it: the shape is where its colour is, the other thing where it is not."""
    outer, inner = scene.things
    whole = look.ground.mask
    lab = to_lab(look.picture.permute(1, 2, 0))
    distance = (lab - lab.new_tensor(lab_of(outer.colour or "white"))).norm(dim=-1)
    near = distance < _NEAR
    if inner.colour:
        near &= distance < (lab - lab.new_tensor(lab_of(inner.colour))).norm(dim=-1)
    bands = components(near & whole, join=0, smallest=0.004)
    rest = components(whole & ~dilate(near[None, None].float(), 2)[0, 0].bool(), join=2, smallest=0.004)
    if not bands or not rest:
        return [_Found(None, False, False) for _ in scene.things]
    inside = close(dilate(rest[0][None, None].float(), 2)[0, 0].bool(), 1) & whole
    alone, filled = (_inspect(outer, look, mask) for mask in (bands[0], whole))
    return [alone if alone.shape else _Found(bands[0], alone.colour, filled.shape), _inspect(inner, look, inside)]


def _all(answers: list[bool | None], asked: list[bool]) -> bool | None:
    if not any(asked):
        return None
    return len(answers) >= len(asked) and all(bool(a) for a, ask in zip(answers, asked, strict=False) if ask)


def _identity(scene: Scene, found: list[_Found], best: int) -> bool | None:
    wanted = [(i, thing.name) for i, thing in enumerate(scene.things) if thing.is_pictogram]
    if not wanted:
        return None
    return all(i < len(found) and found[i].among(name, best) for i, name in wanted)


def _inspect(wanted: Thing, look: _Look, part: Tensor) -> _Found:
    """Look at a part that ought to be `wanted`."""
    if wanted.is_pictogram:
        guesses = match_pictograms(look.picture, part, _around(look, part), look.atlas) if look.atlas else []
        return _Found(part, None, None, tuple(guesses))
    solid = part & look.ground.mask
    solid = solid if bool(solid.any()) else part
    seen = colour_of(look.picture, solid)
    shape = any(next(iter(match_shapes(mask))) == wanted.name for mask in (part, solid))
    return _Found(part, same_colour(seen, wanted.colour or ""), shape)


def _around(look: _Look, part: Tensor) -> Tensor:
    """The median colour just outside a part, [3]."""
    wide = dilate(part[None, None].float(), 3)[0, 0].bool() & ~dilate(part[None, None].float(), 1)[0, 0].bool()
    return look.picture[:, wide].median(dim=1).values if bool(wide.any()) else look.ground.colour


def _relation(scene: Scene, found: list[_Found]) -> bool:
    if len(found) < 2 or found[0].mask is None or found[1].mask is None:
        return False
    reference, subject = Box.of(found[0].mask), Box.of(found[1].mask)
    (rx, ry), (sx, sy) = reference.centre, subject.centre
    if scene.relation == "inside":
        return reference.holds(subject) and subject.longest < reference.longest
    across, down = sx - rx, sy - ry
    if scene.relation in ("left of", "right of"):
        return abs(across) > abs(down) and (across < 0) == (scene.relation == "left of")
    return abs(down) > abs(across) and (down < 0) == (scene.relation != "below")


def _place(scene: Scene, found: list[_Found], picture: Tensor) -> bool:
    if not found or found[0].mask is None:
        return False
    x, y = Box.of(found[0].mask).centre
    right, down = x / picture.shape[2] - 0.5, y / picture.shape[1] - 0.5
    if scene.place in ("left", "right"):
        return abs(right) > abs(down) and (right < 0) == (scene.place == "left")
    return abs(down) > abs(right) and (down < 0) == (scene.place == "top")
