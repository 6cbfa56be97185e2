"""Pictures for tests: made, never read from anywhere."""

import io

import numpy as np
from PIL import Image


def gradient(width: int, height: int) -> Image.Image:
    """Every pixel is different, no side looks like another."""
    y, x = np.mgrid[0:height, 0:width]
    red, green = x * 255 / max(width - 1, 1), y * 255 / max(height - 1, 1)
    blue = 128 + 127 * np.sin(x / 5 + y / 9)
    return Image.fromarray(np.stack([red, green, blue], axis=-1).astype(np.uint8))


def png(image: Image.Image) -> bytes:
    """The picture as a file."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
