"""Comments in prompts."""

from hypothesis import given
from tests.engine.prompt.words import PROMPTS

from sfumato.engine.prompt.comments import strip_comments


def test_examples():
    assert strip_comments("a # c\nb") == "a \nb"
    assert strip_comments("# only\na") == "\na"
    assert strip_comments("a\n# c\nb") == "a\nb"


@given(PROMPTS)
def test_any_text(text):
    stripped = strip_comments(text)
    assert "#" not in stripped
    assert strip_comments(stripped) == stripped
    if "#" not in text:
        assert stripped == text
