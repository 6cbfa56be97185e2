"""Prompts joined with AND."""

import re

import pytest
from hypothesis import given
from tests.engine.prompt.words import PROMPTS

from sfumato.engine.prompt.compose import compose, split_parts
from sfumato.errors import InvalidRequest


def test_weights():
    assert split_parts("a cat :1.2 AND a dog AND a penguin :2.2") == [("a cat", 1.2), (" a dog", 1.0), (" a penguin", 2.2)]
    assert split_parts("a:-0.5 AND b:1.") == [("a", -0.5), (" b", 1.0)]
    assert split_parts("aANDb") == [("aANDb", 1.0)]


def test_texts_are_numbered_once():
    got = compose(["a AND b", "b :2", " b"])
    assert got.texts == ("a", " b", "b")
    assert got.parts == (((0, 1.0), (1, 1.0)), ((2, 2.0),), ((1, 1.0),))


def test_no_prompts():
    assert compose([]).texts == ()


def test_a_weight_too_large():
    with pytest.raises(InvalidRequest, match="too large"):
        split_parts("a AND b :" + "9" * 400)


@given(PROMPTS)
def test_any_text(text):
    parts = split_parts(text)
    assert len(parts) == len(re.findall(r"\bAND\b", text)) + 1
    for part, _ in parts:
        assert part == part.rstrip()
        assert part in text
    # A weight is taken off once; what is left is the same however often it is read.
    assert compose([text]).texts == tuple(dict.fromkeys(part for part, _ in parts))
