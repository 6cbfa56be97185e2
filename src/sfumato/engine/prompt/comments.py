"""Comments in prompts: `#` and the rest of its line.

A line that is nothing but a comment disappears together with one of the line breaks around it; a comment behind text leaves
the text and the line break. The removal happens before anything else looks at the prompt.
"""

from __future__ import annotations

import re

_WHOLE_LINES = re.compile(r"(?:\A|\n)#[^\n]*(?:\n|\Z)")
_ENDS_OF_LINES = re.compile(r"#[^\n]*(?:\n|\Z)")


def strip_comments(text: str) -> str:
    """`text` without its comments; linear in its length.

    Whole-line comments go first and take the line break before them along. Directly below another whole-line comment that
    line break is gone already, and an empty line stays: A1111's rule, kept so that recorded prompts are the same text.
    """
    return _ENDS_OF_LINES.sub("\n", _WHOLE_LINES.sub("\n", text))
