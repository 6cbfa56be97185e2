"""Picture upscalers: a name, a factor, and a function; those without weights are here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image

from sfumato.registry import Registry

PASSES = 3
"""A model with a fixed factor is run at most this often to reach the size asked for (A1111's rule)."""


@dataclass(frozen=True, slots=True)
class Upscaler:
    """Enlarges a picture by `scale`; a fixed factor comes from a model's weights, None means any factor will do."""

    enlarge: Callable[[Image.Image, float], Image.Image]
    scale: float | None = None


def resample(filter_: Image.Resampling) -> Callable[[Image.Image, float], Image.Image]:
    """An enlarging function that resamples with one of Pillow's filters."""

    def enlarge(image: Image.Image, scale: float) -> Image.Image:
        return image.resize((int(image.width * scale), int(image.height * scale)), filter_)

    return enlarge


UPSCALERS: Registry[Upscaler] = Registry("upscaler")
UPSCALERS.add("None", Upscaler(lambda image, scale: image))
UPSCALERS.add("Lanczos", Upscaler(resample(Image.Resampling.LANCZOS)))
UPSCALERS.add("Nearest", Upscaler(resample(Image.Resampling.NEAREST)))
UPSCALERS.add("Bicubic", Upscaler(resample(Image.Resampling.BICUBIC)))


def upscale_to(image: Image.Image, width: int, height: int, upscaler: Upscaler) -> Image.Image:
    """The picture at exactly `width` x `height`.

    The upscaler runs until both sides are reached (at most `PASSES` times), then Lanczos makes the size exact.
    """
    factor = max(width / image.width, height / image.height)
    if factor > 1:
        target = (int(image.width * factor) // 8 * 8, int(image.height * factor) // 8 * 8)
        for _ in range(PASSES):
            before = image.size
            image = upscaler.enlarge(image, upscaler.scale or factor)
            if image.size == before or (image.width >= target[0] and image.height >= target[1]):
                break
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.LANCZOS)
    return image
