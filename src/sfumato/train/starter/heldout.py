"""What training never shows, so that tests can ask for it: pairs of colour and shape, pictograms and styles.

The pictograms are those of tier "held" in `pictograms.tsv`; the styles are those registered with `held_out=True`.
"""

from __future__ import annotations

from sfumato.train.starter.pictograms import names_of
from sfumato.train.starter.styles import styles

HELD_COMBINATIONS: frozenset[tuple[str, str]] = frozenset(
    {
        ("red", "hexagon"),
        ("blue", "heart"),
        ("green", "star"),
        ("yellow", "square"),
        ("purple", "triangle"),
        ("orange", "crescent"),
        ("pink", "ring"),
        ("brown", "drop"),
        ("black", "diamond"),
        ("white", "arrow"),
        ("grey", "oval"),
        ("red", "semicircle"),
    }
)
"""Pairs of colour and shape, 12 of 154."""


def held_pictograms() -> tuple[str, ...]:
    """Names of the pictograms that are never taught."""
    return names_of("held")


def held_styles() -> tuple[str, ...]:
    """Names of the styles that are never taught."""
    return tuple(name for name, style in styles.items() if style.held_out)


def is_held(colour: str | None, name: str) -> bool:
    """Whether a shape of this colour, or a pictogram (no colour), is kept for tests."""
    return name in held_pictograms() if colour is None else (colour, name) in HELD_COMBINATIONS
