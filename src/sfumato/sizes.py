"""Sizes that follow from other sizes: the second pass of hires fix, the area to inpaint."""

from __future__ import annotations

import math
from dataclasses import dataclass

Box = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels; right and bottom exclusive."""

CELL = 8
"""Pixels per latent cell, each way."""


@dataclass(frozen=True, slots=True)
class HiresSizes:
    """The sizes of a generation in two passes, in pixels.

    Attributes:
        width, height: of the first pass.
        target_width, target_height: that the first picture is enlarged to.
        cut_x, cut_y: latent columns and rows cut off afterwards, both sides together.
        resize_x, resize_y: the size asked for, 0 where it follows from the scale or the other side.
    """

    width: int
    height: int
    target_width: int
    target_height: int
    cut_x: int = 0
    cut_y: int = 0
    resize_x: int = 0
    resize_y: int = 0

    @property
    def final(self) -> tuple[int, int]:
        """Width and height of the finished picture."""
        return (self.target_width // CELL - self.cut_x) * CELL, (self.target_height // CELL - self.cut_y) * CELL


def old_first_pass(width: int, height: int) -> tuple[int, int]:
    """The first-pass size of early hires fix: the shape of the picture at the area of 512x512, in steps of 64."""
    scale = math.sqrt(512 * 512 / (width * height))
    return math.ceil(scale * width / 64) * 64, math.ceil(scale * height / 64) * 64


def hires_sizes(
    width: int,
    height: int,
    *,
    scale: float = 2.0,
    resize_x: int = 0,
    resize_y: int = 0,
    first_pass: tuple[int, int] | None = None,
    old: bool = False,
) -> HiresSizes:
    """The sizes of both passes.

    Args:
        width, height: size of the first pass, or of the finished picture with `first_pass` or `old`.
        scale: enlargement when neither `resize_x` nor `resize_y` is given.
        resize_x, resize_y: size to reach; with both, the picture covers them and the surplus is cut.
        first_pass: size of the first pass, when `width` and `height` are those of the finished picture.
        old: take the first-pass size from `old_first_pass`.
    """
    if first_pass or old:
        resize_x, resize_y = width, height
        width, height = first_pass or old_first_pass(width, height)
    if not resize_x and not resize_y:
        return HiresSizes(width, height, int(width * scale), int(height * scale))
    by_width = HiresSizes(width, height, resize_x, resize_x * height // width, 0, 0, resize_x, resize_y)
    by_height = HiresSizes(width, height, resize_y * width // height, resize_y, 0, 0, resize_x, resize_y)
    if not resize_y:
        return by_width
    if not resize_x:
        return by_height
    cover = by_width if width / height < resize_x / resize_y else by_height
    cut_x, cut_y = (cover.target_width - resize_x) // CELL, (cover.target_height - resize_y) // CELL
    return HiresSizes(width, height, cover.target_width, cover.target_height, cut_x, cut_y, resize_x, resize_y)


def pad_box(box: Box, width: int, height: int, padding: int) -> Box:
    """The box with `padding` pixels around it, kept inside a picture of that size."""
    left, top, right, bottom = box
    return max(left - padding, 0), max(top - padding, 0), min(right + padding, width), min(bottom + padding, height)


def expand_box(box: Box, shape: tuple[int, int], width: int, height: int) -> Box:
    """The box grown to the aspect of `shape` (width, height) as far as a picture of that size allows.

    Raises:
        ValueError: the box is empty.
    """
    left, top, right, bottom = box
    if left >= right or top >= bottom:
        raise ValueError(f"The box {box} is empty.")
    aspect = shape[0] / shape[1]
    if (right - left) / (bottom - top) > aspect:
        top, bottom = _grow(top, bottom, (right - left) / aspect, height)
    else:
        left, right = _grow(left, right, (bottom - top) * aspect, width)
    return left, top, right, bottom


def _grow(start: int, end: int, length: float, limit: int) -> tuple[int, int]:
    """An interval grown evenly to `length`, shifted into [0, limit), cut if it is still too long."""
    extra = int(length - (end - start))
    start, end = start - extra // 2, end + extra - extra // 2
    if end >= limit:
        start, end = start - (end - limit), limit
    if start < 0:
        start, end = 0, end - start
    return start, min(end, limit)
