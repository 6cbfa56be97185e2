"""Emphasis against what A1111 gave.

Where A1111 ends in a ValueError, we refuse the prompt with an error that says what is wrong.
"""

import pytest
from tests.conformance.vectors import by_id, load

from sfumato.engine.prompt.attention import parse_attention
from sfumato.errors import InvalidRequest

HEADER, CASES = load("prompt_attention")


@pytest.mark.parametrize("case", by_id(CASES))
def test_attention(case):
    if "raises" in case:
        with pytest.raises(InvalidRequest, match="not a number"):
            parse_attention(case["text"])
        return
    got = parse_attention(case["text"])
    assert [text for text, _ in got] == [text for text, _ in case["expected"]]
    rel = HEADER["tolerance"]["weight_rel"]
    assert [weight for _, weight in got] == pytest.approx([weight for _, weight in case["expected"]], rel=rel, abs=0)
