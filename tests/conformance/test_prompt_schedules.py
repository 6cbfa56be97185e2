"""Prompt editing and alternation against what A1111 gave."""

import pytest
from tests.conformance.vectors import by_id, load

from sfumato.engine.prompt.timeline import Clock, timeline

_, CASES = load("prompt_schedules")


@pytest.mark.parametrize("case", by_id(CASES))
def test_schedule(case):
    clock = Clock(case["base_steps"], case["hires_steps"], case["use_old_scheduling"])
    got = [[last, text] for last, text in timeline(case["prompt"], clock)]
    assert got in case.get("expected_any_of", [case.get("expected")])
