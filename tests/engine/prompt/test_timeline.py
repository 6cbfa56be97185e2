"""Prompt editing and alternation: examples, the grammar against its definition, and what holds for any text."""

import re
from functools import cache
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.engine.prompt.words import PROMPTS

from sfumato.engine.prompt.grammar import Alternate, Edit, parse
from sfumato.engine.prompt.timeline import Clock, active_entry, timeline
from sfumato.errors import InvalidRequest


def entries(text, steps=10, hires=None, old=False):
    return list(timeline(text, Clock(steps, hires, old)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a [b:3]", [(3, "a "), (10, "a b")]),
        ("a [[[b]]:2]", [(2, "a "), (10, "a [[b]]")]),
        ("[(a:2):3]", [(3, ""), (10, "(a:2)")]),
        ("a [b : c : 1] d", [(1, "a b  d"), (10, "a  c  d")]),
        ("a[b:[c:d:2]:1]e", [(1, "abe"), (2, "ace"), (10, "ade")]),
        ("a [unbalanced", [(10, "a [unbalanced")]),
        ("[a:b|c:2]", [(10, "[a:b|c:2]")]),
        ("[(a|b):2]", [(10, "[(a|b):2]")]),
        ("[a:b:3] \\", [(10, "[a:b:3] \\")]),
        ("[a:b:3] \\\n", [(10, "[a:b:3] \\\n")]),
        ("[a:b:3] \\|", [(3, "a \\|"), (10, "b \\|")]),
        ("[[a:b:c:2]:d:3]", [(10, "[[a:b:c:2]:d:3]")]),
        ("[x [a:b:2] ( :d:3]", [(2, "[x a ( :d:3]"), (10, "[x b ( :d:3]")]),
        ("[a:b:1e999]", [(10, "a")]),
        ("[a:b:-1e999]", [(10, "b")]),
        ("[a:b:1.e999]", [(10, "a")]),
        ("[a:b:٣]", [(10, "[a:b:٣]")]),
        ("[a:b:\u2003 3\n]", [(3, "a"), (10, "b")]),
    ],
)
def test_examples(text, expected):
    assert entries(text) == expected


def test_a_hundred_steps():
    text = (
        "fantasy landscape with a [mountain:lake:0.25] and [an oak:a christmas tree:0.75][ in foreground::0.6]"
        "[: in background:0.25] [shoddy:masterful:0.5]"
    )
    got = entries(text, 100)
    assert [last for last, _ in got] == [25, 50, 60, 75, 100]
    assert got[0][1] == "fantasy landscape with a mountain and an oak in foreground shoddy"
    assert got[1][1] == "fantasy landscape with a lake and an oak in foreground in background shoddy"
    assert got[-1][1] == "fantasy landscape with a lake and a christmas tree in background masterful"


def test_alternation_starts_over_after_the_last_option():
    assert [text for _, text in entries("[fe|||]male", 6)] == ["female", "male", "male", "male", "female", "male"]


def test_second_pass():
    assert entries("a [b:.5] c", 10, 10) == [(10, "a b c")]
    assert entries("a [b:1.5] c", 10, 10) == [(5, "a  c"), (10, "a b c")]
    assert entries("a [b:13] c", 10, 10) == [(3, "a  c"), (10, "a b c")]
    assert entries("a [b:3] c", 10, 20, old=True) == [(3, "a  c"), (10, "a b c")]


@pytest.mark.parametrize("steps", [0, -3])
def test_no_steps(steps):
    with pytest.raises(InvalidRequest, match="at least 1 step"):
        Clock(steps)
    with pytest.raises(InvalidRequest, match="at least 1 step"):
        Clock(10, steps)


def test_a_huge_number_of_steps_costs_nothing():
    line = timeline("[a|b] [c:d:0.5]", Clock(10**12))
    assert len(line) == 10**12
    assert line[0] == (1, "a c")
    assert line[-1] == (10**12, "b d")


def test_which_entry_is_active():
    assert [active_entry([3, 10], calls) for calls in (0, 3, 4, 10, 11)] == [0, 0, 1, 1, 0]
    line = timeline("[a|b|c]", Clock(4))
    assert [line[line.active(calls)][1] for calls in range(6)] == ["a", "a", "b", "c", "a", "a"]


def test_slices_and_indexes():
    line = timeline("[a:b:3]", Clock(5))
    assert line[0:1] == [(3, "a")]
    assert line[-1] == (5, "b")
    with pytest.raises(IndexError):
        line[2]


@given(PROMPTS, st.integers(1, 12), st.one_of(st.none(), st.integers(1, 12)), st.booleans())
def test_any_text(text, steps, hires, old):
    clock = Clock(steps, hires, old)
    line = timeline(text, clock)
    until = [last for last, _ in line]
    assert until == sorted(set(until))
    assert until[0] >= 1
    assert until[-1] == clock.steps
    assert all(len(shown) <= len(text) for _, shown in line)
    assert line.text_at(clock.steps) == line[-1][1]
    if "[" not in text:
        assert list(line) == [(clock.steps, text)]


@given(st.text(st.sampled_from("a [](): "), max_size=30))
def test_text_without_numbers_or_pipes_is_left_alone(text):
    assert entries(text) == [(10, text)]


@given(st.text(st.sampled_from("a[]()|:3\\"), max_size=14), st.integers(1, 5))
def test_grammar_against_its_definition(text, step):
    assert timeline(text, Clock(5)).text_at(step) == defined(text, step)


@given(PROMPTS)
def test_the_lists_of_nodes_are_complete(text):
    prompt = parse(text)
    found = []
    waiting = [prompt.pieces]
    while waiting:
        for piece in waiting.pop():
            if isinstance(piece, Edit):
                waiting += [piece.before, piece.after]
            elif isinstance(piece, Alternate):
                waiting += piece.options
            if not isinstance(piece, str):
                found.append(piece)
    assert set(found) == {*prompt.edits, *prompt.alternates}


def defined(text: str, step: int) -> str:
    """What shows at a step, straight from the definition in `grammar`, trying every cut of the text: short texts only."""

    @cache
    def plain(i, j):
        return re.fullmatch(r"(?:[^\\\[\]():|]|\\.)*", text[i:j]) is not None

    @cache
    def prompt(i, j):
        """Text and complete constructs only."""
        return plain(i, j) or any(
            plain(i, k) and any(construct(k, m) and prompt(m, j) for m in range(k + 2, j + 1)) for k in range(i, j)
        )

    @cache
    def construct(i, j):
        """The kind of construct and the cuts between its parts; None if it is none."""
        if j - i < 2 or text[i] + text[j - 1] not in ("()", "[]"):
            return None
        for separators in cuts(i + 1, j - 1):
            kinds = "".join(text[k] for k in separators)
            edges = [i, *separators, j - 1]
            parts = [(a + 1, b) for a, b in pairwise(edges)]
            if text[i] == "(" and kinds in ("", ":"):
                return "emphasis", parts
            if text[i] == "[" and kinds == "":
                return "emphasis", parts
            if text[i] == "[" and set(kinds) == {"|"}:
                return "alternate", parts
            if text[i] == "[" and kinds in (":", "::") and re.fullmatch(r"\s*\d+\s*", text[slice(*parts[-1])]):
                return "edit", parts
        return None

    @cache
    def cuts(i, j):
        """All ways to cut into prompts at separators."""
        found = [()] if prompt(i, j) else []
        for k in range(i, j):
            if text[k] in ":|" and prompt(i, k):
                found += [(k, *rest) for rest in cuts(k + 1, j)]
        return found

    def shown(i, j, top):
        out = ""
        while i < j:
            if text[i] == "\\" and (i + 1 == j or text[i + 1] == "\n"):
                return None
            end = next((m for m in range(j, i + 1, -1) if construct(i, m)), None)
            if end is not None:
                kind, parts = construct(i, end)
                if kind == "alternate":
                    inner = shown(*parts[(step - 1) % len(parts)], False)
                elif kind == "edit":
                    before, after = (parts[0] if len(parts) == 3 else (0, 0)), parts[-2]
                    inner = shown(*(before if step <= int(text[slice(*parts[-1])]) else after), False)
                else:
                    inner = text[i]
                    for number, part in enumerate(parts):
                        inner += ":" * (number > 0) + shown(*part, False)
                    inner += text[end - 1]
                out, i = out + inner, end
            elif text[i] == "\\":
                out, i = out + text[i : i + 2], i + 2
            elif text[i] == "|" and top:
                return None
            else:
                out, i = out + text[i], i + 1
        return out

    result = shown(0, len(text), True)
    return text if result is None else result
