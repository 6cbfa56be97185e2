"""The parameter line: `Key: value, Key: "quoted, value"`, scanned in one pass.

A key is a word character followed by at least one more word character, blank, `-` or `/`; a value runs to the next comma,
or is a JSON string. That is the language A1111's reader accepts, in linear time for any input.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

_RUN = re.compile(r"[\w \-/]++")
_BLANK = re.compile(r"\s*+")
_QUOTED = re.compile(r'"(?:\\.|[^\\"])++"')


def quote(value: object) -> object:
    """The value as it is, or a JSON string when it holds a comma, a colon or a line break."""
    text = str(value)
    return json.dumps(value, ensure_ascii=False) if "," in text or ":" in text or "\n" in text else value


def unquote(text: str) -> str:
    """What `quote` was given; text that is not a JSON string stays as it is."""
    if len(text) < 2 or text[0] != '"' or text[-1] != '"':
        return text
    try:
        return str(json.loads(text))
    except ValueError:
        return text


def scan(line: str) -> Iterator[tuple[str, str]]:
    """Keys and raw values of a parameter line, from left to right.

    Keys of one letter are passed over, as is everything between a value and the next key.
    """
    position = 0
    while run := _RUN.search(line, position):
        position = run.end()
        key = run[0].lstrip(" -/")
        if len(key) < 2 or not line.startswith(":", position):
            continue
        start = _end(_BLANK, line, position + 1)
        end = _end(_QUOTED, line, start)
        if end == start or (end < len(line) and line[end] != ","):
            comma = line.find(",", start)
            end = comma if comma >= 0 else len(line)
        yield key, line[start:end]
        position = end + 1


def _end(pattern: re.Pattern[str], text: str, start: int) -> int:
    match = pattern.match(text, start)
    return match.end() if match else start
