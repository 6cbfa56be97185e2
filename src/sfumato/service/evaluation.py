"""Measure how well a model knows the starter world."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from sfumato.service.folders import Folders
from sfumato.service.library import Library

if TYPE_CHECKING:
    from sfumato.train.starter.evaluate import Row


def evaluate(
    model: str,
    folders: Folders,
    library: Library,
    *,
    device: str = "auto",
    prompts: int = 64,
    seeds: int = 3,
    steps: int = 20,
    guidance: float = 7.0,
    sampler: str = "DPM++ 2M",
    size: int = 0,
) -> Iterator[Row]:
    """The quality table of a checkpoint, row by row as it is measured.

    Args:
        model: a file, or anything the library finds a checkpoint by.
        prompts: of each row.
        seeds: pictures of each prompt.
        size: side of the pictures; 0 for the model's own.

    Raises:
        SfumatoError: the model cannot be found or loaded, or pictures cannot be made.
    """
    entry = library.find(model)

    from sfumato.engine.checkpoint.load import load
    from sfumato.engine.device import choose_device
    from sfumato.train.starter.evaluate import evaluate as rows
    from sfumato.train.starter.pictograms import load_atlas

    atlas = load_atlas(folders.cache / "pictograms.safetensors")
    loaded = load(entry.path, device=choose_device(device))
    yield from rows(loaded, atlas=atlas, prompts=prompts, seeds=seeds, steps=steps, guidance=guidance, sampler=sampler, size=size)
