"""Picture files: written so that they say how they were made, read without trusting what they say."""

from __future__ import annotations

from sfumato.picture.encode import Encoded, Format, animate, encode, format_of
from sfumato.picture.grid import grid, grid_rows, strip
from sfumato.picture.read import MAX_PIXELS, PictureInfo, open_image, read
from sfumato.picture.record import from_record, to_record
from sfumato.picture.xmp import Origin

__all__ = [
    "MAX_PIXELS",
    "Encoded",
    "Format",
    "Origin",
    "PictureInfo",
    "animate",
    "encode",
    "format_of",
    "from_record",
    "grid",
    "grid_rows",
    "open_image",
    "read",
    "strip",
    "to_record",
]
