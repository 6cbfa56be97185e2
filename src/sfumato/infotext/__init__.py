"""A request and what became of it, as A1111's parameters text, in both directions."""

from __future__ import annotations

from sfumato.infotext.parse import Parameters, StyleHandling, explicit, parse, split
from sfumato.infotext.scan import quote, scan, unquote
from sfumato.infotext.settings import sampler_choices, setting_overrides

__all__ = [
    "Parameters",
    "StyleHandling",
    "explicit",
    "parse",
    "quote",
    "sampler_choices",
    "scan",
    "setting_overrides",
    "split",
    "unquote",
]
