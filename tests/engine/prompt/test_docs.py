"""Every example of the page on the prompt language."""

import re
from pathlib import Path

import pytest

from sfumato.engine.models.tokenizer import Tokenizer
from sfumato.engine.prompt.attention import parse_attention
from sfumato.engine.prompt.chunks import Chunker
from sfumato.engine.prompt.comments import strip_comments
from sfumato.engine.prompt.compose import split_parts
from sfumato.engine.prompt.extra_networks import extract_tags, network_uses
from sfumato.engine.prompt.timeline import Clock, timeline

PAGE = Path(__file__).resolve().parents[3] / "docs" / "reference" / "prompts.md"


def rows():
    """(what is checked, cells) of each row in a table below a `check` mark."""
    for mark, table in re.findall(r"<!-- check: (.+?) -->\n\n((?:\|.*\n)+)", PAGE.read_text(encoding="utf-8")):
        for line in table.splitlines()[2:]:
            cells = [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            yield pytest.param(mark, cells[0].strip("`"), cells[1:], id=f"{mark}-{cells[0]}")


def weighted(pairs):
    return ", ".join(f"`{text}` {round(weight, 3):g}" for text, weight in pairs)


def shown(mark: str, prompt: str) -> list[str]:
    """The other cells of a row, as they should be."""
    kind, *numbers = mark.split()
    if kind == "emphasis":
        return [weighted(parse_attention(prompt))]
    if kind == "parts":
        return [weighted(split_parts(prompt))]
    if kind == "comments":
        return [f"`{strip_comments(prompt.replace('⏎', chr(10)))}`".replace("\n", "⏎")]
    if kind == "chunks":
        chunks = Chunker(Tokenizer())(prompt).chunks
        return [", ".join(str(chunk.tokens[1:].index(Tokenizer.eos)) for chunk in chunks)]
    if kind == "networks":
        text, tags = extract_tags(prompt)
        uses = [
            f"{use.kind} `{use.name}` te {use.text_encoder:g} unet {use.unet:g}" + (f" rank {use.rank}" if use.rank else "")
            for use in network_uses(tags)
        ]
        return [f"`{text}`", ", ".join(uses)]
    assert kind == "schedule"
    base, *more = (int(number) for number in numbers if number.isdecimal())
    line = timeline(prompt, Clock(base, more[0] if more else None, old_scheduling="old" in numbers))
    firsts = [1, *(last + 1 for last in line.until)]
    return [", ".join(f"{first}-{last} `{text}`" for first, (last, text) in zip(firsts, line, strict=False))]


@pytest.mark.parametrize(("mark", "prompt", "cells"), [*rows()])
def test_example(mark, prompt, cells):
    assert cells == shown(mark, prompt)


def test_every_table_with_prompts_is_checked():
    tables = re.findall(r"((?:.*\n){2})\| Prompt \|", PAGE.read_text(encoding="utf-8"))
    assert len(tables) == 10
    assert all("<!-- check: " in table for table in tables)
