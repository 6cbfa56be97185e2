"""Scenes to words: sentences and tag lists in several phrasings."""

from __future__ import annotations

import re
from dataclasses import dataclass

from sfumato.train.starter.defects import defects
from sfumato.train.starter.dice import Dice
from sfumato.train.starter.layout import OPPOSITES
from sfumato.train.starter.scene import Backdrop, Relation, Scene, Thing
from sfumato.train.starter.styles import styles

_NUMBERS = {2: "two", 3: "three", 4: "four"}

_PLURALS = {
    "fish": "fish",
    "sheep": "sheep",
    "mouse": "mice",
    "deer": "deer",
    "leaf": "leaves",
    "knife": "knives",
    "dice": "dice",
}

_UNCOUNTED = frozenset(
    {
        "popcorn",
        "broccoli",
        "garlic",
        "butter",
        "money",
        "wood",
        "coral",
        "bacon",
        "corn",
        "spaghetti",
        "sushi",
        "bread",
        "cheese",
        "fire",
        "rice",
        "dice",
    }
)
"""Names that take no article and no plural, besides those that are plurals already."""

_ALIASES = {
    **{f"{name} face": name for name in ("cat", "dog", "horse", "cow", "tiger", "mouse", "pig", "monkey", "bunny", "dragon")},
    "red apple": "apple",
    "cup of coffee": "coffee cup",
    "light bulb": "lamp bulb",
    "smiley face": "smiley",
    "ice cream cone": "ice cream",
    "steam train": "train",
    "fire truck": "fire engine",
    "halloween pumpkin": "pumpkin",
    "planet saturn": "saturn",
    "drop of water": "water drop",
    "gift box": "present",
    "teddy bear": "teddy",
    "christmas tree": "decorated tree",
}
"""Other names under which people look for a pictogram."""

_SCENERY = {
    "sky": ("in the sky", "sky"),
    "hills": ("on green hills", "hills"),
    "sea": ("at sea", "sea"),
    "beach": ("on a beach", "beach"),
    "desert": ("in a desert", "desert"),
    "forest": ("in a forest", "forest"),
    "mountains": ("in the mountains", "mountains"),
    "snow": ("in the snow", "snow"),
    "sunset": ("at sunset", "sunset"),
    "night": ("at night", "night"),
    "city": ("in a city", "city"),
}

_PLACES = {"left": "on the left", "right": "on the right", "top": "at the top", "bottom": "at the bottom"}

_RELATIONS: dict[Relation, tuple[str, ...]] = {
    "left of": ("to the left of", "left of", "on the left of"),
    "right of": ("to the right of", "right of", "on the right of"),
    "above": ("above", "over"),
    "below": ("below", "under"),
    "inside": ("inside", "in"),
    "on top of": ("on top of", "standing on"),
}

_EXTRAS = {"sun": "the sun", "moon": "the moon", "clouds": "clouds", "stars": "stars", "rain": "rain", "snowfall": "falling snow"}

_LIGHTS = {
    "dark": ("dark", "dimly lit"),
    "bright": ("bright", "brightly lit"),
    "cool": ("cool", "cool colors"),
    "warm": ("warm", "warm colors"),
}

_PRAISE = ("good", "nice", "clean", "sharp", "high quality")
_MEDIA = ("picture", "image", "illustration", "drawing")


def _is_plural(word: str) -> bool:
    return word in _UNCOUNTED or (word.endswith("s") and not word.endswith(("ss", "us", "is", "as")))


def _split_head(words: str) -> tuple[str, str]:
    """ "cup of coffee" -> "cup", " of coffee"."""
    found = re.search(r" (of|with|in|on|behind|over|without|and) ", words)
    return (words[: found.start()], words[found.start() :]) if found else (words, "")


def with_article(words: str) -> str:
    """ "red circle" -> "a red circle"; names that are plurals stay."""
    if _is_plural(_split_head(words)[0].split()[-1]):
        return words
    return f"an {words}" if words[0] in "aeiou" and not words.startswith(("unicorn", "ufo", "one", "eu")) else f"a {words}"


def plural(words: str) -> str:
    """ "red circle" -> "red circles", "cup of coffee" -> "cups of coffee"."""
    phrase, rest = _split_head(words)
    head, _, last = phrase.rpartition(" ")
    if last in _PLURALS:
        many = _PLURALS[last]
    elif _is_plural(last):
        many = last
    elif last.endswith(("s", "x", "ch", "sh")):
        many = last + "es"
    elif last.endswith("y") and last[-2] not in "aeiou":
        many = last[:-1] + "ies"
    else:
        many = last + "s"
    return f"{head} {many}".strip() + rest


def name_thing(thing: Thing, *, colour: bool = True, size_word: str | None = None, alias: bool = False) -> str:
    """The noun phrase of a thing, without article: "small striped red circle"."""
    fill = {"solid": "", "outline": "outlined"}.get(thing.fill, thing.fill)
    name = _ALIASES.get(thing.name, thing.name) if alias and thing.is_pictogram else thing.name
    words = (size_word, fill, thing.colour if colour else None, name)
    return " ".join(word for word in words if word)


def name_backdrop(backdrop: Backdrop) -> str:
    """The noun phrase of a backdrop: "white background", "gradient background from blue to white", "desert landscape"."""
    if backdrop.kind == "plain":
        return f"{backdrop.colour} background"
    if backdrop.kind == "gradient":
        return f"gradient background from {backdrop.colour} to {backdrop.second}"
    return f"{_SCENERY[backdrop.kind][1]} landscape"


def _extras(backdrop: Backdrop) -> str:
    found = [_EXTRAS[extra] for extra in backdrop.extras]
    return " and ".join(found)


def _where(backdrop: Backdrop, dice: Dice) -> str:
    """ "on a white background", "in a desert with clouds"."""
    if backdrop.kind not in _SCENERY:
        return f"{dice.choice(('on', 'on', 'on', 'against', 'in front of'))} {with_article(name_backdrop(backdrop))}"
    extras = _extras(backdrop)
    return _SCENERY[backdrop.kind][0] + (f" with {extras}" if extras and dice.chance(0.6) else "")


@dataclass(frozen=True, slots=True)
class _Words:
    """The parts of a caption, each already in words.

    Attributes:
        subject: what is shown, with article; empty for scenery alone.
        tags: the same as separate tags.
        style, flaws, light: words or "".
    """

    subject: str
    tags: tuple[str, ...]
    style: str
    flaws: tuple[str, ...]
    light: str


def _subject(scene: Scene, dice: Dice, *, aliases: bool = True) -> tuple[str, tuple[str, ...]]:
    colour = styles[scene.style].keeps_colour
    alias = scene.seed % 5 < 2 and aliases
    names = [name_thing(thing, colour=colour, size_word=scene.size_word, alias=alias) for thing in scene.things]
    if not names:
        return "", ()
    if scene.relation:
        reference, subject = names
        relation = scene.relation
        if relation in OPPOSITES and dice.chance(0.3):
            reference, subject, relation = subject, reference, OPPOSITES[relation]
        phrase = dice.choice(_RELATIONS[relation])
        text = f"{with_article(subject)} {phrase} {with_article(reference)}"
        return text, (f"{subject} {phrase} {reference}",)
    if len(names) == 1:
        place = f" {_PLACES[scene.place]}" if scene.place else ""
        return with_article(names[0]) + place, (names[0], *([_PLACES[scene.place]] if scene.place else ()))
    if all(name == names[0] for name in names):
        many = f"{_NUMBERS[len(names)]} {plural(names[0])}"
        return many, (many,)
    order = dice.shuffled(names)
    return " and ".join(with_article(name) for name in order), tuple(order)


def _words(scene: Scene, dice: Dice) -> _Words:
    subject, tags = _subject(scene, dice)
    style = dice.choice(styles[scene.style].words)
    if scene.style == "flat" and dice.chance(0.7):
        style = ""
    flaws = tuple(dice.choice(defects[name].words) for name in scene.defects)
    light = dice.choice(_LIGHTS[scene.light]) if scene.light else ""
    if scene.size_word == "large" and dice.chance(0.15):
        tags = (*tags, "close-up")
    return _Words(subject, tags, style, flaws, light)


def _medium(words: _Words, dice: Dice) -> str:
    """ "a blurry pixel art picture of": everything that is said of the picture itself, before its content."""
    medium = dice.choice(_MEDIA)
    said = [*words.flaws, words.light, words.style]
    if not words.flaws and dice.chance(0.3):
        said.insert(0, dice.choice(_PRAISE))
    if words.style.split()[-1:] and words.style.split()[-1] in (
        "photo",
        "painting",
        "rendering",
        "rendition",
        "render",
        "sticker",
    ):
        medium = ""
    return with_article(" ".join(word for word in (*said, medium) if word)) + " of "


def _after(words: _Words, dice: Dice) -> str:
    """The same as tags at the end."""
    said = [*words.flaws, words.light, words.style]
    if not words.flaws and dice.chance(0.12):
        said.append(dice.choice(("sharp", "high quality", "best quality", "clean")))
    return "".join(f", {word}" for word in said if word)


def caption(scene: Scene, dice: Dice) -> str:
    """One caption of a scene in one of six phrasings, drawn with `dice`; what a style hides is not told."""
    words = _words(scene, dice)
    backdrop = name_backdrop(scene.backdrop)
    if not words.subject:
        extras = _extras(scene.backdrop)
        subject = with_article(backdrop) + (f" with {extras}" if extras else "")
        return subject + _after(words, dice) if dice.chance(0.5) else _medium(words, dice) + subject
    told = scene.backdrop.kind in _SCENERY or styles[scene.style].keeps_backdrop
    where = f" {_where(scene.backdrop, dice)}" if told else ""
    form = dice.weighted({0: 0.34, 1: 0.18, 2: 0.22, 3: 0.06, 4: 0.1, 5: 0.1})
    if form == 1:
        return ", ".join((*words.tags, backdrop) if told else words.tags) + _after(words, dice)
    if form == 2:
        return f"{_medium(words, dice)}{words.subject}{where}"
    if form == 3 and told:
        is_are = "are" if len(scene.things) > 1 and not scene.relation else "is"
        return f"there {is_are} {words.subject}, the background is {_bare(scene.backdrop)}{_after(words, dice)}"
    if form == 4 and told:
        return f"{with_article(backdrop)} with {words.subject}{_after(words, dice)}"
    return words.subject + ("" if form == 5 else where) + _after(words, dice)


def _bare(backdrop: Backdrop) -> str:
    return f"{backdrop.colour}" if backdrop.kind == "plain" else with_article(name_backdrop(backdrop))


def prompt(scene: Scene) -> str:
    """The plain sentence of a scene, the same every time: what tests ask a model for."""
    dice = Dice(0)
    subject, _ = _subject(scene, dice, aliases=False) if not scene.relation else (_ordered(scene), ())
    backdrop = scene.backdrop
    where = f" {_SCENERY[backdrop.kind][0]}" if backdrop.kind in _SCENERY else f" on {with_article(name_backdrop(backdrop))}"
    if backdrop.kind not in _SCENERY and not styles[scene.style].keeps_backdrop:
        where = ""
    style = f", {styles[scene.style].words[0]}" if scene.style != "flat" else ""
    return f"{subject}{where}{style}" if subject else with_article(name_backdrop(backdrop)) + style


def _ordered(scene: Scene) -> str:
    colour = styles[scene.style].keeps_colour
    reference, subject = (with_article(name_thing(thing, colour=colour)) for thing in scene.things)
    return f"{subject} {_RELATIONS[scene.relation or 'inside'][0]} {reference}"
