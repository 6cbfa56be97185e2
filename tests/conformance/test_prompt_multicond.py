"""Prompts joined with AND, and their weights, against what A1111 gave."""

import pytest
from tests.conformance.vectors import by_id, load

from sfumato.engine.prompt.compose import compose

HEADER, CASES = load("multicond")


@pytest.mark.parametrize("case", by_id(CASES))
def test_multicond(case):
    got = compose(case["prompts"])
    expected = case["expected"]
    assert list(got.texts) == expected["flat"]
    assert len(got.parts) == len(expected["indexes"])
    rel = HEADER["tolerance"]["weight_rel"]
    for parts, expected_parts in zip(got.parts, expected["indexes"], strict=True):
        assert [index for index, _ in parts] == [index for index, _ in expected_parts]
        assert [weight for _, weight in parts] == pytest.approx([weight for _, weight in expected_parts], rel=rel, abs=0)
