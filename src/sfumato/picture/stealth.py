"""NovelAI's hidden copy of the metadata: the lowest bit of the alpha channel, column by column."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

_MARK = b"stealth_pngcomp"
_HEAD = len(_MARK) + 4
_LIMIT = 256 * 1024
_BITS = bytes(48 + (value & 1) for value in range(256))


def extract(image: Image.Image) -> str:
    """The hidden JSON text; empty if there is none, or if what is there is broken or longer than 256 KB."""
    from PIL import Image

    if image.mode != "RGBA":
        return ""
    column = image.getchannel("A").transpose(Image.Transpose.TRANSPOSE).tobytes()
    head = _bytes(column[: _HEAD * 8])
    if not head.startswith(_MARK):
        return ""
    bits = int.from_bytes(head[len(_MARK) :], "big")
    if bits > min(_LIMIT * 8, len(column) - _HEAD * 8):
        return ""
    try:
        unpacker = zlib.decompressobj(wbits=31)
        text = unpacker.decompress(_bytes(column[_HEAD * 8 : _HEAD * 8 + bits]), _LIMIT)
    except zlib.error:
        return ""
    return text.decode("utf-8", "replace") if unpacker.eof else ""


def _bytes(values: bytes) -> bytes:
    """The lowest bits of the values, eight to a byte."""
    values = values[: len(values) // 8 * 8]
    return int(values.translate(_BITS), 2).to_bytes(len(values) // 8, "big") if values else b""
