"""From pixels to the bytes of a picture file that says how it was made."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from sfumato.picture import exif, xmp
from sfumato.picture.xmp import Origin
from sfumato.version import __version__

if TYPE_CHECKING:
    from PIL import Image

Format = Literal["png", "jpeg", "webp", "avif", "gif"]
SOFTWARE = f"sfumato {__version__}"
RECORD = "sfumato"
"""Keyword of the PNG chunk that holds our own record."""

_EXTENSIONS: dict[Format, str] = {"png": ".png", "jpeg": ".jpg", "webp": ".webp", "avif": ".avif", "gif": ".gif"}
_MIMES: dict[Format, str] = {name: f"image/{name}" for name in _EXTENSIONS}
_LONGEST_SIDE: dict[Format, int] = {"jpeg": 65535, "webp": 16383, "avif": 65535, "gif": 65535}
# A JPEG segment holds 65533 bytes; Pillow puts EXIF and XMP into one segment each.
_SEGMENT = 65_000


@dataclass(frozen=True, slots=True)
class Encoded:
    """The bytes of a picture file, and the format they are in, which may not be the one that was asked for."""

    data: bytes
    format: Format

    @property
    def extension(self) -> str:
        """The file extension with its dot."""
        return _EXTENSIONS[self.format]

    @property
    def mime(self) -> str:
        """The media type."""
        return _MIMES[self.format]


def format_of(name: str) -> Format:
    """The format that a word or file extension names ("jpg", ".jpeg", "PNG").

    Raises:
        InvalidRequest: it names none that is written.
    """
    from sfumato.errors import InvalidRequest

    word = name.lower().lstrip(".")
    found = {extension.lstrip("."): format for format, extension in _EXTENSIONS.items()} | {name: name for name in _EXTENSIONS}
    if word not in found:
        raise InvalidRequest(f"Pictures cannot be written as {name[:30]!r}.", advice=f"Use one of: {', '.join(_EXTENSIONS)}.")
    return found[word]


def encode(
    image: Image.Image,
    format: Format = "png",
    *,
    infotext: str = "",
    record: Mapping[str, object] | None = None,
    origin: Origin | None = "generated",
    quality: int = 80,
    lossless: bool = False,
) -> Encoded:
    """Encode one picture.

    What a format cannot hold (a side that is too long, a text that does not fit into a JPEG) is written as PNG instead.

    Args:
        image: RGB, RGBA, L or LA; transparency is laid over white where the format has none.
        infotext: A1111's parameters text.
        record: our own lossless record of the request, any JSON object.
        origin: the machine-readable mark that a model made this picture; None leaves it out.
        quality: 1 to 100, for JPEG, WebP and AVIF.
        lossless: for WebP.
    """
    return _encode([image], format, infotext, record, origin, {"quality": quality, "lossless": lossless})


def animate(
    frames: Sequence[Image.Image],
    format: Literal["webp", "gif", "png"] = "webp",
    *,
    duration: int = 200,
    infotext: str = "",
    record: Mapping[str, object] | None = None,
    origin: Origin | None = "generated",
    quality: int = 80,
) -> Encoded:
    """An endless animation of frames of one size, each shown for `duration` milliseconds (the last one five times as long).

    Raises:
        ValueError: there are no frames.
    """
    if not frames:
        raise ValueError("An animation needs at least one frame.")
    durations = [duration] * (len(frames) - 1) + [duration * 5]
    options = {"save_all": True, "append_images": list(frames[1:]), "duration": durations, "loop": 0, "quality": quality}
    return _encode(frames, format, infotext, record, origin, options)


def _encode(
    frames: Sequence[Image.Image],
    format: Format,
    infotext: str,
    record: Mapping[str, object] | None,
    origin: Origin | None,
    options: dict[str, object],
) -> Encoded:
    image = frames[0]
    said = "" if record is None else json.dumps(record, ensure_ascii=False, separators=(",", ":"))
    infotext = infotext.replace("\0", "").encode("utf-8", "replace").decode()
    if max(image.size) > _LONGEST_SIDE.get(format, max(image.size)) or (
        format == "jpeg" and len(infotext.encode("utf-16-be")) > _SEGMENT
    ):
        format = "png"
    arguments = _metadata(format, infotext, said, origin)
    if "save_all" in options:
        arguments |= options | ({"default_image": False} if format == "png" else {})
    elif format in ("jpeg", "webp", "avif"):
        arguments |= options
    out = io.BytesIO()
    _prepared(image, format).save(out, format.upper(), **arguments)
    return Encoded(out.getvalue(), format)


def _prepared(image: Image.Image, format: Format) -> Image.Image:
    """The picture in a mode that the format holds, without metadata of its own."""
    from PIL import Image

    if format == "jpeg" and image.mode not in ("RGB", "L"):
        solid = Image.new("RGB", image.size, "white")
        layer = image.convert("RGBA")
        solid.paste(layer, mask=layer.getchannel("A"))
        return solid
    image = image.copy()
    image.info = {}
    return image if image.mode in ("RGB", "RGBA", "L") else image.convert("RGBA" if "A" in image.mode else "RGB")


def _metadata(format: Format, infotext: str, record: str, origin: Origin | None) -> dict[str, object]:
    """The arguments of Pillow's `save` that carry the texts."""
    if format == "gif":
        return {"comment": infotext.encode()} if infotext else {}
    if format == "png":
        return {"pnginfo": _png_texts(infotext, record, origin)}
    arguments: dict[str, object] = {}
    if infotext:
        arguments["exif"] = exif.encode(infotext, SOFTWARE)
    packet = xmp.encode(origin, SOFTWARE, record)
    if format == "jpeg" and len(packet) > _SEGMENT:
        packet = xmp.encode(origin, SOFTWARE)
    if packet:
        arguments["xmp"] = packet
    return arguments


def _png_texts(infotext: str, record: str, origin: Origin | None) -> object:
    from PIL.PngImagePlugin import PngInfo

    texts = PngInfo()
    if infotext:
        texts.add_text("parameters", infotext)
    if record:
        texts.add_text(RECORD, record)
    if origin is not None:
        texts.add_text("Software", SOFTWARE)
        texts.add_itxt("XML:com.adobe.xmp", xmp.encode(origin, SOFTWARE).decode())
    return texts
