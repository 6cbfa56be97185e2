"""Prompts from a file: one request per line, as A1111's script "Prompts from file or textbox" reads them."""

from __future__ import annotations

import difflib
import shlex
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sfumato.errors import InvalidRequest, NotFound
from sfumato.request import Generation, fields

MAX_BYTES = 16 * 1024 * 1024
# A1111's keys that say nothing about the picture itself.
IGNORED = frozenset({"outpath_samples", "outpath_grids", "prompt_for_display", "do_not_save_samples", "do_not_save_grid"})
OTHER_NAMES: Mapping[str, str] = {
    "sd_model": "model",
    "sampler_index": "sampler",
    "style": "styles",
    "negative": "negative_prompt",
}
TEXTS = ("prompt", "negative_prompt")


def read_lines(source: str) -> list[tuple[int, str]]:
    """The lines of a file, or of standard input for `-`, with their numbers; empty ones left out.

    Raises:
        NotFound: there is no such file.
        InvalidRequest: it is not text, or longer than 16 MB.
    """
    try:
        if source == "-":
            data = sys.stdin.buffer.read(MAX_BYTES + 1)
        else:
            with Path(source).expanduser().open("rb") as file:
                data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise NotFound(f"There is no file {source!r}.") from None
    if len(data) > MAX_BYTES:
        raise InvalidRequest(f"{source!r} is larger than {MAX_BYTES // 2**20} MB.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InvalidRequest(f"{source!r} is not a text in UTF-8.") from None
    return [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1) if line.strip()]


def read_line(line: str, cls: type[Generation]) -> dict[str, Any]:
    """The values that one line gives: a plain prompt, or `--key value` pairs where it begins with `--`.

    The words of `--prompt` and `--negative_prompt` reach to the next key, every other key takes one word.

    Raises:
        InvalidRequest: a key is unknown or lacks its value.
    """
    if not line.startswith("--"):
        return {"prompt": line}
    try:
        words = shlex.split(line)
    except ValueError:
        raise InvalidRequest("a quotation mark is without its partner.") from None
    known = {parameter.name: parameter for parameter in fields(cls)}
    names = {parameter.a1111: parameter.name for parameter in fields(cls) if parameter.a1111}
    names |= OTHER_NAMES
    values: dict[str, Any] = {}
    for key, given in _pairs(words):
        name = names.get(key, key)
        if key in IGNORED:
            continue
        if name not in known:
            near = difflib.get_close_matches(key[:100], [*known, *names], n=1)
            raise InvalidRequest(f"there is no parameter {key[:100]!r}.", advice=f"Did you mean {near[0]}?" if near else "")
        if not given:
            raise InvalidRequest(f"{key} lacks its value.")
        values[name] = tuple(part.strip() for part in given.split(",")) if known[name].kind == "texts" else given
    return values


def _pairs(words: list[str]) -> Iterator[tuple[str, str]]:
    """Keys (with underscores) and their values."""
    position = 0
    while position < len(words):
        word = words[position]
        if not word.startswith("--"):
            raise InvalidRequest(f"{word[:100]!r} stands where a --key is expected.")
        key, equals, value = word[2:].partition("=")
        key = key.replace("-", "_")
        position += 1
        if not equals:
            end = position + 1
            if OTHER_NAMES.get(key, key) in TEXTS:
                end = next((i for i in range(position, len(words)) if words[i].startswith("--")), len(words))
            value = " ".join(words[position:end])
            position = end
        yield key, value
