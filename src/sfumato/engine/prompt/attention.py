"""Emphasis: `(more)`, `[less]`, `(exactly:1.3)` and the word BREAK, from text to weighted pieces of text."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from sfumato.errors import InvalidRequest

BREAK = "BREAK"
"""The word that ends a chunk of tokens; among the pieces it has the weight -1, times the emphasis around it."""

_ROUND = 1.1
_SQUARE = 1 / 1.1
_EXACT_DEPTH = 32

_WEIGHT_TAIL = r"\s*+[+-]?[.\d]++\s*+\)"
_TOKEN = re.compile(rf"\\[\\()\[\]]?|[()\[\]]|:{_WEIGHT_TAIL}|(?:[^\\()\[\]:]|:(?!{_WEIGHT_TAIL}))++")
_BREAK_WORD = re.compile(r"\bBREAK\b")


@dataclass(slots=True, eq=False)
class _Bracket:
    """An opened bracket, linked to the one of the same shape around it.

    Attributes:
        factor: what it multiplies its content by.
        closed_at: position among all closing brackets; multiplication goes in this order.
        total: the product of its factor and those of all brackets around it.
    """

    outer: _Bracket | None
    factor: float
    depth: int
    closed_at: float = math.inf
    total: float = 1.0


@dataclass(slots=True)
class _Piece:
    text: str
    sign: float
    round: _Bracket | None
    square: _Bracket | None


def parse_attention(text: str) -> list[tuple[str, float]]:
    """Split a prompt into pieces of text and their weights.

    `(x)` multiplies by 1.1, `[x]` divides by 1.1, `(x:1.3)` multiplies by the number; nested brackets multiply. Brackets
    left open end with the text. A closing bracket that closes nothing, and `:1.3)` without an opening one, are plain text.
    A backslash makes the bracket or backslash behind it plain text; before anything else it disappears. The word BREAK
    becomes a piece of its own, of weight -1 times the emphasis around it, and the white space around it goes.

    Neighbours of equal weight are joined; there is always at least one piece. Linear in the length of the text.

    Raises:
        InvalidRequest: an explicit weight is not a number (`(x:1.2.3)`) or too large for one.
    """
    pieces = _read(text)
    weighted: list[tuple[str, float]] = []
    run: list[str] = []
    run_weight = 1.0
    for piece, weight in zip(pieces, _weights(pieces), strict=True):
        if run and weight != run_weight:
            weighted.append(("".join(run), run_weight))
            run = []
        if not run:
            run_weight = weight
        run.append(piece.text)
    weighted.append(("".join(run), run_weight))
    return weighted


def _read(text: str) -> list[_Piece]:
    """The pieces of the text, each with the innermost bracket of either shape around it."""
    pieces: list[_Piece] = []
    brackets: list[_Bracket] = []
    round_: _Bracket | None = None
    square: _Bracket | None = None
    closings = 0
    for word in _TOKEN.findall(text):
        if word == "(":
            round_ = _opened(round_, _ROUND, brackets)
        elif word == "[":
            square = _opened(square, _SQUARE, brackets)
        elif word[0] == "\\":
            pieces.append(_Piece(word[1:], 1.0, round_, square))
        elif round_ and word[-1] == ")":
            if word != ")":
                round_.factor = _explicit_weight(word[1:-1].strip())
            round_.closed_at = closings = closings + 1
            round_ = round_.outer
        elif square and word == "]":
            square.closed_at = closings = closings + 1
            square = square.outer
        else:
            _add_text(word, pieces, round_, square)
    # From the outermost inwards, which is the order of opening, so that every total can be built on the one around it.
    for bracket in brackets:
        bracket.total = bracket.factor * (bracket.outer.total if bracket.outer else 1.0)
    return pieces


def _opened(outer: _Bracket | None, factor: float, brackets: list[_Bracket]) -> _Bracket:
    bracket = _Bracket(outer, factor, outer.depth + 1 if outer else 1)
    brackets.append(bracket)
    return bracket


def _add_text(text: str, pieces: list[_Piece], round_: _Bracket | None, square: _Bracket | None) -> None:
    """Append text, cut at every BREAK."""
    parts = _BREAK_WORD.split(text)
    last = len(parts) - 1
    for number, part in enumerate(parts):
        if number:
            pieces.append(_Piece(BREAK, -1.0, round_, square))
            part = part.lstrip()
        pieces.append(_Piece(part.rstrip() if number < last else part, 1.0, round_, square))


def _explicit_weight(number: str) -> float:
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InvalidRequest(
            f"The weight {number[:40]!r} in the prompt is not a number.",
            advice="Write (word:1.2), or \\( and \\) for brackets that are plain text.",
        )
    return value


def _weights(pieces: list[_Piece]) -> list[float]:
    weights: list[float] = []
    before: _Piece | None = None
    product = 1.0
    for piece in pieces:
        if before is None or piece.round is not before.round or piece.square is not before.square:
            product = _product(piece.round, piece.square)
        weights.append(piece.sign * product)
        before = piece
    return weights


def _product(round_: _Bracket | None, square: _Bracket | None) -> float:
    """The product of all brackets around a piece, in the order in which they close.

    The order decides the last bit of the result, hence which neighbours count as equal. For brackets nested deeper than
    anybody writes it is given up, so that the time stays linear.
    """
    if (round_.depth if round_ else 0) + (square.depth if square else 0) > _EXACT_DEPTH:
        return (round_.total if round_ else 1.0) * (square.total if square else 1.0)
    product = 1.0
    while round_ or square:
        if square is None or (round_ is not None and round_.closed_at <= square.closed_at):
            assert round_ is not None
            product *= round_.factor
            round_ = round_.outer
        else:
            product *= square.factor
            square = square.outer
    return product
