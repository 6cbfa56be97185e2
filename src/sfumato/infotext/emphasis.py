"""Whether a prompt weighs any of its words."""

from __future__ import annotations

import re

_TOKEN = re.compile(r"\\[()\[\]\\]?|[(\[]|:\s*+([+-]?[.\d]++)\s*+\)|[)\]]|[^\\()\[\]:]++|:")
_BREAK = re.compile(r"\bBREAK\b")

# Weights are multiplied out exactly while that takes less work than this; a prompt that needs more is taken as weighted.
_WORK = 50_000


def uses_emphasis(prompt: str) -> bool:
    """Whether reading `prompt` gives any piece a weight other than 1."""
    if "(" not in prompt and "[" not in prompt:
        return False
    pieces, ranges = _pieces(prompt)
    weights = [1.0] * pieces
    work = _WORK
    for start, end, factor in ranges:
        work -= end - start
        if work < 0:
            return True
        for index in range(start, end):
            weights[index] *= factor
    return any(weight != 1.0 for weight in weights)


def _pieces(prompt: str) -> tuple[int, list[tuple[int, int, float]]]:
    """The number of text pieces (BREAK apart), and the ranges of pieces that brackets weigh, in the order of their closing."""
    pieces = 0
    round_open: list[int] = []
    square_open: list[int] = []
    ranges: list[tuple[int, int, float]] = []
    for match in _TOKEN.finditer(prompt):
        token, weight = match[0], match[1]
        if token == "(":
            round_open.append(pieces)
        elif token == "[":
            square_open.append(pieces)
        elif weight is not None and round_open:
            ranges.append((round_open.pop(), pieces, _number(weight)))
        elif token == ")" and round_open:
            ranges.append((round_open.pop(), pieces, 1.1))
        elif token == "]" and square_open:
            ranges.append((square_open.pop(), pieces, 1 / 1.1))
        else:
            pieces += 1 + len(_BREAK.findall(token)) if "BREAK" in token else 1
    ranges += [(start, pieces, 1.1) for start in round_open]
    ranges += [(start, pieces, 1 / 1.1) for start in square_open]
    return pieces, ranges


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0
