"""Tags like `<lora:name:0.8>`: found, parsed and taken out of the prompt. What they stand for is applied elsewhere."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sfumato.errors import InvalidRequest

_OPENING = re.compile(r"<(\w+):")
_KINDS = {"lora": "lora", "lyco": "lora", "hypernet": "hypernet"}


@dataclass(frozen=True, slots=True)
class NetworkTag:
    """One tag as it was written.

    Attributes:
        type: the word before the first colon: "lora", "lyco", "hypernet", or one that an extension brings.
        items: everything behind it, split at the colons; never empty, but an item may be.
    """

    type: str
    items: tuple[str, ...]

    @property
    def positional(self) -> tuple[str, ...]:
        """The items that are not of the form `key=value`, in order."""
        return tuple(item for item in self.items if item.count("=") != 1)

    @property
    def named(self) -> dict[str, str]:
        """The items of the form `key=value`; of a key given twice the last one counts."""
        return dict(item.split("=") for item in self.items if item.count("=") == 1)

    def __str__(self) -> str:
        return f"<{self.type}:{':'.join(self.items)}>"


@dataclass(frozen=True, slots=True)
class NetworkUse:
    """What a `lora`, `lyco` or `hypernet` tag asks for.

    Attributes:
        kind: "lora" (also for `lyco`, its older name) or "hypernet".
        name: the network's file name without suffix, or its alias.
        text_encoder: strength on the text encoder.
        unet: strength on the UNet; the text encoder's unless given.
        rank: cut the network to this rank, or None for its own.
    """

    kind: str
    name: str
    text_encoder: float = 1.0
    unet: float = 1.0
    rank: int | None = None


def extract_tags(prompt: str) -> tuple[str, tuple[NetworkTag, ...]]:
    """Take the tags out of a prompt.

    A tag is `<`, a word directly behind it, a colon, at least one character and the next `>`. Everything else that looks
    similar stays in the text. Linear in the length of the prompt.

    Returns:
        the text without the tags, and the tags grouped by type: types in order of first use, tags in order of appearance.
    """
    kept: list[str] = []
    tags: dict[str, list[NetworkTag]] = {}
    done = 0
    opening = _OPENING.search(prompt)
    while opening:
        end = prompt.find(">", opening.end())
        if end < 0:
            break
        if end == opening.end():
            opening = _OPENING.search(prompt, end)
            continue
        kept.append(prompt[done : opening.start()])
        tags.setdefault(opening[1], []).append(NetworkTag(opening[1], tuple(prompt[opening.end() : end].split(":"))))
        done = end + 1
        opening = _OPENING.search(prompt, done)
    kept.append(prompt[done:])
    return "".join(kept), tuple(tag for group in tags.values() for tag in group)


def extract_batch(prompts: Iterable[str]) -> tuple[list[str], tuple[NetworkTag, ...]]:
    """Take the tags out of all prompts of a batch; only the tags of the *first* prompt are returned.

    Networks change weights, which all pictures of a batch share; that the first prompt decides is A1111's rule.
    """
    texts: list[str] = []
    first: tuple[NetworkTag, ...] = ()
    for index, prompt in enumerate(prompts):
        text, tags = extract_tags(prompt)
        texts.append(text)
        if index == 0:
            first = tags
    return texts, first


def network_uses(tags: Sequence[NetworkTag]) -> list[NetworkUse]:
    """The networks that the tags ask for; tags of types that belong to others are left out.

    Raises:
        InvalidRequest: a strength or rank is not a number.
    """
    return [_network_use(tag) for tag in tags if tag.type in _KINDS]


def _network_use(tag: NetworkTag) -> NetworkUse:
    kind, positional, named = _KINDS[tag.type], tag.positional, tag.named
    name = positional[0] if positional else ""
    if not name:
        raise InvalidRequest(f"The tag {_shown(tag)} names no network.", advice=f"Write <{tag.type}:name:0.8>.")
    text_encoder = _number(tag, named.get("te", positional[1] if len(positional) > 1 else "1"))
    if kind == "hypernet":
        return NetworkUse(kind, name, text_encoder, text_encoder)
    unet = named.get("unet", positional[2] if len(positional) > 2 else None)
    rank = named.get("dyn", positional[3] if len(positional) > 3 else None)
    return NetworkUse(
        kind,
        name,
        text_encoder,
        text_encoder if unet is None else _number(tag, unet),
        None if rank is None else _rank(tag, rank),
    )


def _number(tag: NetworkTag, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InvalidRequest(
            f"{text[:40]!r} in the tag {_shown(tag)} is not a number.",
            advice=f"Write a strength such as <{tag.type}:name:0.8>, or leave it out for 1.",
        )
    return value


def _rank(tag: NetworkTag, text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 0 < len(text) < 7 and int(text) > 0):
        raise InvalidRequest(
            f"{text[:40]!r} in the tag {_shown(tag)} is not a rank.",
            advice="A rank is a whole number from 1, such as dyn=16.",
        )
    return int(text)


def _shown(tag: NetworkTag) -> str:
    text = str(tag)
    return text if len(text) <= 100 else text[:97] + "..."
