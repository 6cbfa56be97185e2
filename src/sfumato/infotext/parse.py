"""From A1111's parameters text to a dictionary with the keys A1111 knows."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Literal

from sfumato.infotext.emphasis import uses_emphasis
from sfumato.infotext.scan import scan, unquote
from sfumato.infotext.versions import compatibility, hires_prompts_have_styles
from sfumato.sizes import old_first_pass
from sfumato.styles import Style, extract_styles

Parameters = dict[str, object]
StyleHandling = Literal["Apply if any", "Apply", "Discard", "Ignore"]

NEGATIVE = "Negative prompt:"

_SIZE = re.compile(r"(\d+)x(\d+)$")

_DEFAULTS: tuple[tuple[str, object], ...] = (
    ("Clip skip", "1"),
    ("Hires resize-1", 0),
    ("Hires resize-2", 0),
    ("Hires sampler", "Use same sampler"),
    ("Hires schedule type", "Use same scheduler"),
    ("Hires checkpoint", "Use same checkpoint"),
    ("Hires prompt", ""),
    ("Hires negative prompt", ""),
    ("Mask mode", "Inpaint masked"),
    ("Masked content", "original"),
    ("Inpaint area", "Whole picture"),
    ("Masked area padding", 32),
    ("RNG", "GPU"),
    ("Schedule type", "Automatic"),
    ("Schedule max sigma", 0),
    ("Schedule min sigma", 0),
    ("Schedule rho", 0),
    ("VAE Encoder", "Full"),
    ("VAE Decoder", "Full"),
    ("FP8 weight", "Disable"),
    ("Refiner switch by sampling steps", False),
)


def split(text: str) -> tuple[str, str, list[tuple[str, str]]]:
    """Prompt, negative prompt and the pairs of the parameter line.

    The last line is the parameter line when it holds at least three pairs; otherwise it belongs to the prompt.
    """
    *lines, last = text.strip().split("\n")
    pairs = list(scan(last))
    if len(pairs) < 3:
        lines.append(last)
        pairs = []
    lines = [line.strip() for line in lines]
    first = next((index for index, line in enumerate(lines) if line.startswith(NEGATIVE)), len(lines))
    # Every line may repeat the marker; what is before it belongs to nothing.
    negative = [line[len(NEGATIVE) :].strip() if line.startswith(NEGATIVE) else line for line in lines[first:]]
    return _join(lines[:first]), _join(negative), pairs


def explicit(text: str) -> Parameters:
    """What the text itself says, without defaults: sizes split in two, quotes removed, empty values left out."""
    prompt, negative, pairs = split(text)
    result: Parameters = {}
    for key, raw in pairs:
        if not raw:
            continue
        value = unquote(raw)
        if size := _SIZE.match(value):
            result[f"{key}-1"], result[f"{key}-2"] = size[1], size[2]
        else:
            result[key] = value
    result["Prompt"], result["Negative prompt"] = prompt, negative
    return result


def parse(
    text: str,
    *,
    styles: Sequence[Style] = (),
    style_handling: StyleHandling = "Apply if any",
    back_compatible: bool = True,
    old_hires_sizes: bool = False,
    skip: Collection[str] = (),
) -> Parameters:
    """Everything A1111 would read from `text`: the pairs, the prompts, and defaults for what is absent.

    Args:
        styles: the named styles that may be recognised in the prompts.
        style_handling: what is done with recognised styles (A1111's option infotext_styles).
        back_compatible: whether texts of older versions get the options that repeat their pictures.
        old_hires_sizes: whether "Hires resize" is the size to ask for (option use_old_hires_fix_width_height).
        skip: keys to leave out of the result.
    """
    result = explicit(text)
    if style_handling != "Ignore":
        _lift_styles(result, styles, style_handling)
    prompts = f"{result['Prompt']}", f"{result['Negative prompt']}"
    if "Hypernet" in result:
        result["Prompt"] = f"{prompts[0]}<hypernet:{result['Hypernet']}:{result.get('Hypernet strength', '1.0')}>"
    for key, value in _DEFAULTS:
        result.setdefault(key, value)
    if result["FP8 weight"] != "Disable":
        result.setdefault("Cache FP16 weight for LoRA", False)
    _convert_old_hires(result, old_hires_sizes)
    if "Emphasis" not in result and any(uses_emphasis(prompt) for prompt in prompts):
        result["Emphasis"] = "Original"
    if back_compatible:
        result.update(compatibility(result))
    for key in skip:
        result.pop(key, None)
    return result


def _join(lines: Sequence[str]) -> str:
    """Lines joined; empty ones at the start vanish."""
    first = next((index for index, line in enumerate(lines) if line), len(lines))
    return "\n".join(lines[first:])


def _lift_styles(result: Parameters, styles: Sequence[Style], handling: StyleHandling) -> None:
    """Take recognised styles out of the prompts, when first and second pass agree about them."""
    prompt, negative = str(result["Prompt"]), str(result["Negative prompt"])
    names, plain, plain_negative = extract_styles(styles, prompt, negative)
    version = result.get("Version")
    if ("Hires prompt" in result or "Hires negative prompt" in result) and hires_prompts_have_styles(
        str(version) if version is not None else None
    ):
        hires = extract_styles(
            styles, str(result.get("Hires prompt", prompt)), str(result.get("Hires negative prompt", negative))
        )
        if hires[0] != names:
            return
        result["Hires prompt"] = "" if hires[1] == plain else hires[1]
        result["Hires negative prompt"] = "" if hires[2] == plain_negative else hires[2]
    result["Prompt"], result["Negative prompt"] = plain, plain_negative
    if handling == "Apply" or (handling == "Apply if any" and names):
        result["Styles array"] = list(names)


def _convert_old_hires(result: Parameters, old_hires_sizes: bool) -> None:
    """Sizes of texts from before (or of users who prefer) the first hires fix."""
    width, height = _whole(result.get("Hires resize-1")), _whole(result.get("Hires resize-2"))
    if old_hires_sizes and width and height:
        result["Size-1"], result["Size-2"] = width, height
        return
    first_width, first_height = _whole(result.get("First pass size-1")), _whole(result.get("First pass size-2"))
    width, height = _whole(result.get("Size-1", 512)), _whole(result.get("Size-2", 512))
    if first_width is None or first_height is None or not width or not height:
        return
    if first_width == 0 or first_height == 0:
        first_width, first_height = old_first_pass(width, height)
    result["Size-1"], result["Size-2"] = first_width, first_height
    result["Hires resize-1"], result["Hires resize-2"] = width, height


def _whole(value: object) -> int | None:
    """The value as a whole number below a million, or None."""
    text = str(value)
    return int(text) if text.isdecimal() and len(text) < 7 else None
