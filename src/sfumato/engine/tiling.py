"""Seamless pictures: the convolutions of every model that takes part wrap around, for as long as the job lasts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

from sfumato.engine.material import Material
from sfumato.engine.models.diffusion import DiffusionModel
from sfumato.engine.models.layers import set_tiling


@contextmanager
def wrapped(model: DiffusionModel) -> Iterator[DiffusionModel]:
    """The model with opposite edges joined."""
    set_tiling(model, x=True, y=True)
    try:
        yield model
    finally:
        set_tiling(model, x=False, y=False)


def tiled(material: Material, borrowed: ExitStack) -> Material:
    """The material with every model wrapped, those loaded later too.

    Args:
        material: see `Material`.
        borrowed: its closing leaves the models as they were.
    """
    return replace(
        material,
        model=borrowed.enter_context(wrapped(material.model)),
        load=lambda name: borrowed.enter_context(wrapped(material.load(name))),
    )
