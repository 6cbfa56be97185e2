"""Emphasis: examples, against a plain implementation of its definition, and what holds for any text."""

import math
import re
from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from tests.engine.prompt.words import PROMPTS

from sfumato.engine.prompt.attention import parse_attention
from sfumato.errors import InvalidRequest


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("an (important) word", [("an ", 1.0), ("important", 1.1), (" word", 1.0)]),
        ("(unbalanced", [("unbalanced", 1.1)]),
        ("\\(literal\\]", [("(literal]", 1.0)]),
        ("(unnecessary)(parens)", [("unnecessaryparens", 1.1)]),
        ("(a\\):1.3)", [("a)", 1.3)]),
        ("(a\\)", [("a)", 1.1)]),
        ("a BREAK b", [("a", 1.0), ("BREAK", -1), ("b", 1.0)]),
        ("(a:1.5:1.2)", [("a:1.5", 1.2)]),
        ("(a: ١.٥ )", [("a", 1.5)]),
        ("[[[[a", [("a", 1 / 1.1 / 1.1 / 1.1 / 1.1)]),
    ],
)
def test_examples(text, expected):
    got = parse_attention(text)
    assert [piece for piece, _ in got] == [piece for piece, _ in expected]
    assert [weight for _, weight in got] == pytest.approx([weight for _, weight in expected], rel=1e-12)


def test_many_brackets():
    got = parse_attention("a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).")
    assert [piece for piece, _ in got] == ["a ", "house", " ", "on", " a ", "hill", ", sun, ", "sky", "."]
    weights = [1.0, 1.5730000000000004, 1.1, 1.0, 1.1, 0.55, 1.1, 1.4641000000000006, 1.1]
    assert [weight for _, weight in got] == pytest.approx(weights, rel=1e-12)


@pytest.mark.parametrize("number", ["1.2.3", ".", "..", "-.", "1" * 400])
def test_a_weight_that_is_no_number(number):
    with pytest.raises(InvalidRequest, match=r"not a number\. Write \(word:1\.2\)"):
        parse_attention(f"a (b:{number}) c")


def test_a_thousand_brackets():
    depth = 1000
    assert parse_attention("(" * depth + "a" + ")" * depth) == [("a", pytest.approx(math.exp(depth * math.log(1.1)), rel=1e-9))]
    got = parse_attention("(a" * depth)
    assert [weight for _, weight in got] == pytest.approx([1.1**n for n in range(1, depth + 1)], rel=1e-9)


@given(PROMPTS)
def test_any_text(text):
    try:
        got = parse_attention(text)
    except InvalidRequest:
        assert re.search(r"[.\d]", text)
        return
    assert got
    assert all(weight != other for (_, weight), (_, other) in pairwise(got))
    assert len("".join(piece for piece, _ in got)) <= len(text)


@given(st.text(st.characters(exclude_characters="\\()[]", codec="utf-8")))
def test_plain_text_has_weight_one(text):
    assume("BREAK" not in text)
    assert parse_attention(text) == [(text, 1.0)]


@given(st.text(st.characters(codec="utf-8")))
def test_escaped_text_comes_back(text):
    assume("BREAK" not in text)
    assert parse_attention(re.sub(r"([\\()\[\]])", r"\\\1", text)) == [(text, 1.0)]


@given(PROMPTS)
def test_against_its_definition(text):
    try:
        got = parse_attention(text)
    except InvalidRequest:
        return
    assert got == defined(text)


def defined(text: str) -> list[tuple[str, float]]:
    """Multiply the pieces behind an opening bracket whenever it closes: the definition, in quadratic time."""
    pieces: list[list] = []
    starts: dict[str, list[int]] = {"(": [], "[": []}

    def scale(start, factor):
        for piece in pieces[start:]:
            piece[1] *= factor

    for word, number, plain in re.findall(r"(\\[\\()\[\]]?|[()\[\]]|:\s*([+-]?[.\d]+)\s*\)|:)|([^\\()\[\]:]+)", text):
        if word in starts:
            starts[word].append(len(pieces))
        elif number and starts["("]:
            scale(starts["("].pop(), float(number))
        elif word == ")" and starts["("]:
            scale(starts["("].pop(), 1.1)
        elif word == "]" and starts["["]:
            scale(starts["["].pop(), 1 / 1.1)
        elif word.startswith("\\"):
            pieces.append([word[1:], 1.0])
        else:
            for index, part in enumerate(re.split(r"\s*\bBREAK\b\s*", word + plain)):
                if index:
                    pieces.append(["BREAK", -1])
                pieces.append([part, 1.0])
    for start in starts["("]:
        scale(start, 1.1)
    for start in starts["["]:
        scale(start, 1 / 1.1)
    joined: list[list] = []
    for piece in pieces or [["", 1.0]]:
        if joined and joined[-1][1] == piece[1]:
            joined[-1][0] += piece[0]
        else:
            joined.append(piece)
    return [(piece, weight) for piece, weight in joined]
