"""Many pictures in one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image


def grid_rows(count: int, rows: int = -1, *, batch_size: int = 1, no_gaps: bool = False) -> int:
    """How many rows a grid of `count` pictures has.

    Args:
        rows: -1 for a square, 0 for the batch size, else the number itself (at most `count`).
        no_gaps: lowers the rows of a square until every row is full.

    Raises:
        ValueError: there are no pictures.
    """
    if count < 1:
        raise ValueError("A grid needs at least one picture.")
    if rows > 0:
        return min(rows, count)
    if rows == 0:
        return min(max(batch_size, 1), count)
    if not no_gaps:
        return min(round(math.sqrt(count)), count)
    return next(number for number in range(math.isqrt(count), 0, -1) if count % number == 0)


def grid(
    images: Sequence[Image.Image],
    rows: int = -1,
    *,
    batch_size: int = 1,
    no_gaps: bool = False,
    background: str = "#ffffff",
) -> Image.Image:
    """The pictures in rows, from left to right and top to bottom, in cells of the largest width and height.

    `rows`, `batch_size` and `no_gaps` are those of `grid_rows`.
    """
    from PIL import Image

    columns = math.ceil(len(images) / (count := grid_rows(len(images), rows, batch_size=batch_size, no_gaps=no_gaps)))
    width, height = max(image.width for image in images), max(image.height for image in images)
    sheet = Image.new("RGB", (columns * width, count * height), background)
    for index, image in enumerate(images):
        sheet.paste(image, (index % columns * width, index // columns * height))
    return sheet


def strip(images: Sequence[Image.Image]) -> Image.Image:
    """The pictures side by side in one row."""
    return grid(images, rows=1)
