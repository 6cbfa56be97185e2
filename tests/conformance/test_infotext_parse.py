import pytest
from vectors import by_id, load

from sfumato.engine.sampling.samplers import resolve_a1111
from sfumato.infotext import parse, quote, sampler_choices, setting_overrides, unquote
from sfumato.styles import Style

_, CASES = load("infotext_parse")
# Reading never fails here, on purpose (docs/reference/compatibility.md): what ended in an exception has no result to compare.
PARSE = [case for case in CASES if "raises" not in case]
_, QUOTE = load("infotext_quote")


def parsed(case):
    options = case["options"]
    return parse(
        case["text"],
        styles=[Style(**style) for style in case["styles"]],
        style_handling=options.get("infotext_styles", "Apply if any"),
        back_compatible=options.get("auto_backcompat", True),
        old_hires_sizes=options.get("use_old_hires_fix_width_height", False),
        skip=options.get("infotext_skip_pasting", ()),
    )


@pytest.mark.parametrize("case", by_id(PARSE))
def test_parameters(case):
    assert parsed(case) == case["expected"]


@pytest.mark.parametrize("case", by_id(PARSE))
def test_setting_overrides(case):
    assert [list(item) for item in setting_overrides(parsed(case), case["options"])] == case["expected_overrides"]


@pytest.mark.parametrize("case", by_id(PARSE))
def test_sampler_choices(case):
    assert sampler_choices(parsed(case), resolve_a1111) == case["expected_samplers"]


def test_reading_never_fails():
    assert all(parsed(case) for case in CASES)


@pytest.mark.parametrize("case", by_id(QUOTE))
def test_quoting(case):
    assert {"quote": quote, "unquote": unquote}[case["kind"]](case["value"]) == case["expected"]
