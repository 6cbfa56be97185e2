"""Named styles: merged into prompts, recognised in them, and kept in A1111's styles.csv."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sfumato.errors import CorruptFile, InvalidRequest
from sfumato.files import write_atomic

PLACE = "{prompt}"
"""Where a style takes the prompt in; without it the style is appended."""

MAX_MERGED = 256 * 1024
"""Characters of a prompt with its styles: each that takes it in twice doubles it, so that a few more would fill any memory."""

_COLUMNS = ("name", "prompt", "negative_prompt")


@dataclass(frozen=True, slots=True)
class Style:
    """A named pair of texts."""

    name: str
    prompt: str = ""
    negative_prompt: str = ""


def merge(prompt: str, styles: Iterable[str]) -> str:
    """The prompt with style texts applied one after another.

    Raises:
        InvalidRequest: the result would be longer than `MAX_MERGED`.
    """
    for style in styles:
        if len(style) + max(1, style.count(PLACE)) * len(prompt) > MAX_MERGED:
            raise InvalidRequest(
                f"The prompt would be longer than {MAX_MERGED >> 10} KB with its styles.",
                advice="Use fewer styles, or ones that take the prompt in once.",
            )
        if PLACE in style:
            prompt = style.replace(PLACE, prompt)
        else:
            prompt = ", ".join(part for part in (prompt.strip(), style.strip()) if part)
    return prompt


def apply_styles(styles: Sequence[Style], names: Iterable[str], prompt: str, negative_prompt: str) -> tuple[str, str]:
    """Both prompts with the named styles applied in order; names that are not known do nothing."""
    known = {style.name: style for style in styles}
    chosen = [known.get(name, Style(name)) for name in names]
    return merge(prompt, [style.prompt for style in chosen]), merge(negative_prompt, [style.negative_prompt for style in chosen])


def extract(style: str, prompt: str) -> str | None:
    """The prompt as it was before the style text was applied, or None if the prompt does not carry it."""
    text, style = prompt.strip(), style.strip()
    if PLACE in style:
        left, _, right = style.partition(PLACE)
        if text.startswith(left) and text.endswith(right):
            return text[len(left) : len(text) - len(right)]
    elif text.endswith(style):
        return text[: len(text) - len(style)].removesuffix(", ")
    return None


def extract_styles(styles: Sequence[Style], prompt: str, negative_prompt: str) -> tuple[tuple[str, ...], str, str]:
    """The styles that both prompts carry, in the order they were applied, and the prompts without them."""
    remaining = [style for style in styles if style.prompt or style.negative_prompt]
    found: list[str] = []
    while (match := _outermost(remaining, prompt, negative_prompt)) is not None:
        style, prompt, negative_prompt = match
        remaining.remove(style)
        found.append(style.name)
    return tuple(reversed(found)), prompt, negative_prompt


def _outermost(styles: Sequence[Style], prompt: str, negative_prompt: str) -> tuple[Style, str, str] | None:
    for style in styles:
        positive = extract(style.prompt, prompt)
        negative = extract(style.negative_prompt, negative_prompt) if positive is not None else None
        if positive is not None and negative is not None:
            return style, positive, negative
    return None


def parse_styles(text: str) -> tuple[Style, ...]:
    """The styles of a CSV text. Rows whose name starts with # are comments; a later row of a name replaces an earlier one.

    Raises:
        CorruptFile: it is not CSV with a column "name".
    """
    found: dict[str, Style] = {}
    try:
        rows = csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline=""))
        if rows.fieldnames is not None and "name" not in rows.fieldnames:
            raise CorruptFile(
                "The styles file has no column named 'name'.", advice="Its first line must be name,prompt,negative_prompt."
            )
        for row in rows:
            name = row["name"] or ""
            if name and not name.startswith("#"):
                prompt = row["prompt"] if "prompt" in row else row.get("text")
                found[name] = Style(name, prompt or "", row.get("negative_prompt") or "")
    except csv.Error as error:
        raise CorruptFile(f"The styles file is not valid CSV: {error}.") from None
    return tuple(found.values())


def format_styles(styles: Iterable[Style]) -> str:
    """The CSV text of styles, with the byte order mark that spreadsheets need."""
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(_COLUMNS)
    writer.writerows((style.name, style.prompt, style.negative_prompt) for style in styles)
    return "\ufeff" + out.getvalue()


def load_styles(path: Path) -> tuple[Style, ...]:
    """The styles of a file; none if it does not exist.

    Raises:
        CorruptFile: it is not UTF-8 CSV with a column "name".
    """
    try:
        return parse_styles(path.read_bytes().decode("utf-8-sig"))
    except FileNotFoundError:
        return ()
    except UnicodeDecodeError:
        raise CorruptFile(f"{path.name} is not a UTF-8 text file.") from None


def save_styles(path: Path, styles: Iterable[Style]) -> None:
    """Write the styles; what was there before stays as `<name>.bak`.

    Raises:
        DiskFull: there is no room; the old file is untouched.
    """
    data = format_styles(styles).encode("utf-8")
    if path.exists():
        write_atomic(path.with_name(path.name + ".bak"), path.read_bytes())
    write_atomic(path, data)
