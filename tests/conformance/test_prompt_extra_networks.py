"""Tags of extra networks against what A1111 gave."""

import pytest
from tests.conformance.vectors import by_id, load

from sfumato.engine.prompt.extra_networks import extract_batch, extract_tags

_, CASES = load("extra_networks")


@pytest.mark.parametrize("case", by_id(CASES))
def test_extra_networks(case):
    expected = case["expected"]
    if "prompts" in case:
        texts, tags = extract_batch(case["prompts"])
        assert texts == expected["prompts"]
    else:
        text, tags = extract_tags(case["prompt"])
        assert text == expected["prompt"]
    got = [{"type": t.type, "items": list(t.items), "positional": list(t.positional), "named": t.named} for t in tags]
    assert got == expected["networks"]
