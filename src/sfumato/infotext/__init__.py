"""A request and what became of it, as A1111's parameters text, in both directions."""

from __future__ import annotations

from sfumato.infotext.build import Facts, Resource, build, civitai_hashes, compose
from sfumato.infotext.parse import Parameters, StyleHandling, explicit, parse, split
from sfumato.infotext.paste import split_hashes, to_request
from sfumato.infotext.scan import quote, scan, unquote
from sfumato.infotext.settings import sampler_choices, setting_overrides

__all__ = [
    "Facts",
    "Parameters",
    "Resource",
    "StyleHandling",
    "build",
    "civitai_hashes",
    "compose",
    "explicit",
    "parse",
    "quote",
    "sampler_choices",
    "scan",
    "setting_overrides",
    "split",
    "split_hashes",
    "to_request",
    "unquote",
]
