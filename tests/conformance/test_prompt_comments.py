"""Comments in prompts against what A1111 gave."""

import pytest
from tests.conformance.vectors import by_id, load

from sfumato.engine.prompt.comments import strip_comments

_, CASES = load("prompt_comments")


@pytest.mark.parametrize("case", by_id(CASES))
def test_comments(case):
    assert strip_comments(case["text"]) == case["expected"]
