"""Composable prompts: `one AND another :0.6`, and their weights (Liu et al. 2022, Compositional Visual Generation)."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from sfumato.errors import InvalidRequest

_AND = re.compile(r"\bAND\b")
_WEIGHT = re.compile(r"[-+]?(?:\d+\.?|\d*\.\d+)")


@dataclass(frozen=True, slots=True)
class MulticondPrompt:
    """The parts of several prompts, every different text once.

    Attributes:
        parts: for each prompt its parts as (index into `texts`, weight).
        texts: the different texts in order of first use.
    """

    parts: tuple[tuple[tuple[int, float], ...], ...]
    texts: tuple[str, ...]


def split_parts(prompt: str) -> list[tuple[str, float]]:
    """Split a prompt at the upper-case word `AND` into (text, weight).

    A part may end in `:number`, its weight, otherwise 1. White space behind a part goes, white space before it stays:
    it does not reach the tokens, but texts are compared as they are. A prompt without `AND` has one part, and it may
    have a weight too. Linear in the length of the prompt.

    Raises:
        InvalidRequest: a weight is too large for a number.
    """
    return [_weighted(part) for part in _AND.split(prompt)]


def compose(prompts: Sequence[str]) -> MulticondPrompt:
    """Split several prompts and number their texts; see `split_parts`."""
    numbers: dict[str, int] = {}
    parts = tuple(
        tuple((numbers.setdefault(text, len(numbers)), weight) for text, weight in split_parts(prompt)) for prompt in prompts
    )
    return MulticondPrompt(parts, tuple(numbers))


def _weighted(part: str) -> tuple[str, float]:
    text = part.rstrip()
    head, colon, tail = text.rpartition(":")
    number = tail.lstrip()
    if not colon or not _WEIGHT.fullmatch(number):
        return text, 1.0
    weight = float(number)
    if not math.isfinite(weight):
        raise InvalidRequest("The weight of a part joined with AND is too large.", advice="Usual weights lie between -2 and 2.")
    return head.rstrip(), weight
