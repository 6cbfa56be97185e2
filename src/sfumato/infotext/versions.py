"""What pictures of older A1111 versions need to be made again."""

from __future__ import annotations

import re
from collections.abc import Mapping

_DESCRIBED = re.compile(r"([^-]+-[^-]+)-")
_VERSION = re.compile(
    r"\s*v?(\d{1,9}(?:\.\d{1,9}){0,9})"
    r"(?:[-_.]?(a|alpha|b|beta|c|rc|pre|preview)[-_.]?(\d{0,9}))?"
    r"(?:-(\d{1,9})|[-_.]?(?:post|rev|r)[-_.]?(\d{0,9}))?"
    r"(?:\+[a-z0-9]+(?:[-_.][a-z0-9]+)*)?\s*",
    re.IGNORECASE,
)

Version = tuple[tuple[int, ...], tuple[int, int], int]
"""Release numbers without trailing zeros, pre-release (rank, number), commits after the release."""


def parse_version(text: str) -> Version | None:
    """A version that sorts; None where `text` is not one of A1111's (other programs write their own name in front)."""
    described = _DESCRIBED.match(text[:100])
    match = _VERSION.fullmatch(described[1] if described else text[:100])
    if not match:
        return None
    release = tuple(int(part) for part in match[1].split("."))
    while release and release[-1] == 0:
        release = release[:-1]
    ranks = {"a": 0, "b": 1, "c": 2, "r": 2, "p": 2}
    pre = (ranks[match[2][0].lower()], int(match[3] or 0)) if match[2] else (3, 0)
    after = match[4] if match[4] is not None else match[5]
    return release, pre, -1 if after is None else int(after or 0)


def _known(text: str) -> Version:
    version = parse_version(text)
    if version is None:
        raise ValueError(text)
    return version


_NEW_TIMELINES = _known("1.6.0")
_FULL_ALPHAS = _known("1.7.0-225")
_REFINER_BY_MODEL = _known("1.8.0")
_HIRES_STYLES = _known("1.8.0-139")


def hires_prompts_have_styles(text: str | None) -> bool:
    """Whether that version wrote hires prompts with their styles merged in; versions that are not known did."""
    version = parse_version(text) if text is not None else None
    return version is None or version > _HIRES_STYLES


def compatibility(parameters: Mapping[str, object]) -> dict[str, object]:
    """The compatibility options that a picture of an older version was made with."""
    text = parameters.get("Version")
    version = parse_version(text) if isinstance(text, str) else None
    if version is None:
        return {}
    options: dict[str, object] = {}
    if version < _NEW_TIMELINES and "[" in str(parameters.get("Prompt", "")):
        options["Old prompt editing timelines"] = True
    if version < _NEW_TIMELINES and parameters.get("Sampler") in ("DDIM", "PLMS"):
        options["Pad conds v0"] = True
    if version < _FULL_ALPHAS:
        options["Downcast alphas_cumprod"] = True
    if version < _REFINER_BY_MODEL and parameters.get("Refiner"):
        options["Refiner switch by sampling steps"] = True
    return options
