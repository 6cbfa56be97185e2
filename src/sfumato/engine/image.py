"""Source pictures brought to the size and shape that is asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from PIL import Image

ResizeMode = Literal["just resize", "crop and resize", "resize and fill", "latent"]
Resize = Callable[[Image.Image, int, int], Image.Image]
"""Brings a picture to exactly this width and height, whatever its shape was."""


def lanczos(image: Image.Image, width: int, height: int) -> Image.Image:
    """The picture resampled with Pillow's Lanczos filter."""
    return image if image.size == (width, height) else image.resize((width, height), Image.Resampling.LANCZOS)


def flatten(image: Image.Image, background: str = "#ffffff") -> Image.Image:
    """The picture as RGB, laid over a colour where it is transparent."""
    if "A" not in image.getbands() and "transparency" not in image.info:
        return image.convert("RGB")
    layer = image.convert("RGBA")
    solid = Image.new("RGB", image.size, background)
    solid.paste(layer, mask=layer.getchannel("A"))
    return solid


def fit(image: Image.Image, width: int, height: int, mode: ResizeMode, resize: Resize = lanczos) -> Image.Image:
    """A picture of `width` x `height`.

    Args:
        image: RGB, or L for a mask.
        mode: "just resize" changes the shape; "crop and resize" covers the size and cuts what stands over evenly;
            "resize and fill" fits inside and stretches the outermost rows or columns over the rest;
            "latent" leaves the picture as it is, for its latents are resized instead.
        resize: what enlarges and shrinks.
    """
    if mode == "latent":
        return image
    if mode == "just resize":
        return resize(image, width, height)
    wider = width / height > image.width / image.height
    by_width = wider if mode == "crop and resize" else not wider
    if width * image.height == height * image.width:
        inner = resize(image, width, height)
    elif by_width:
        inner = resize(image, width, max(image.height * width // image.width, 1))
    else:
        inner = resize(image, max(image.width * height // image.height, 1), height)
    left, top = width // 2 - inner.width // 2, height // 2 - inner.height // 2
    result = Image.new(image.mode, (width, height))
    result.paste(inner, (left, top))
    if mode == "resize and fill":
        _stretch_edges(result, inner, left, top)
    return result


def _stretch_edges(result: Image.Image, inner: Image.Image, left: int, top: int) -> None:
    """Fill what `inner`, pasted at (left, top), leaves free with its first and last row or column."""
    right, bottom = result.width - left - inner.width, result.height - top - inner.height
    for size, edge, place in (
        ((left, result.height), (0, 0, 0, inner.height), (0, 0)),
        ((right, result.height), (inner.width, 0, inner.width, inner.height), (left + inner.width, 0)),
        ((result.width, top), (0, 0, inner.width, 0), (0, 0)),
        ((result.width, bottom), (0, inner.height, inner.width, inner.height), (0, top + inner.height)),
    ):
        if min(size) > 0:
            result.paste(inner.resize(size, box=edge), place)
