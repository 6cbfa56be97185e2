"""Reading picture files that somebody sent: what they are and say, and their pixels, within limits."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from sfumato.errors import CorruptFile, NotFound, UnsafeFile, Unsupported
from sfumato.infotext import Parameters, explicit
from sfumato.picture import exif, png, stealth, xmp
from sfumato.picture.encode import RECORD
from sfumato.picture.tools import identify, load_object
from sfumato.request.image_data import MAX_IMAGE_BYTES

if TYPE_CHECKING:
    from PIL import Image

# What Pillow's readers raise on files that are not what they should be.
_BROKEN = (
    *(OSError, ValueError, SyntaxError, ArithmeticError, LookupError, TypeError, EOFError, RuntimeError, AssertionError),
    *(struct.error, zlib.error),
)

FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "GIF")
MAX_PIXELS = 64 * 1024 * 1024

_EXIF_FOLDER, _USER_COMMENT, _MAKE, _MODEL = 0x8769, 0x9286, 0x010F, 0x0110
# Values of Pillow's `info` that say nothing about how the picture was made.
_TECHNICAL = frozenset(
    {"jfif", "jfif_version", "jfif_unit", "jfif_density", "dpi", "exif", "xmp", "loop", "background", "timestamp", "duration"}
    | {"progressive", "progression", "icc_profile", "chromaticity", "photoshop", "adobe", "adobe_transform", "mp", "mpoffset"}
    | {"gamma", "srgb", "transparency", "interlace", "aspect", "extension", "XML:com.adobe.xmp"}
)


@dataclass(frozen=True, slots=True)
class PictureInfo:
    """What a picture file says about itself.

    Attributes:
        format: "PNG", "JPEG", "WEBP", "AVIF" or "GIF".
        infotext: A1111's parameters text; put together from the metadata of other programs; empty if there is none.
        tool: the program that made the picture, as far as it can be told.
        origin: the IPTC digital source type, such as "trainedAlgorithmicMedia".
        record: Sfumato's own record of the request, or None.
        extra: every other text in the file.
    """

    format: str
    width: int
    height: int
    infotext: str = ""
    tool: str = ""
    origin: str = ""
    record: Mapping[str, object] | None = None
    extra: Mapping[str, str] = field(default_factory=dict)

    @property
    def parameters(self) -> Parameters:
        """The infotext as a dictionary with A1111's keys; empty if there is no infotext."""
        return explicit(self.infotext) if self.infotext else {}


def read(source: bytes | Path) -> PictureInfo:
    """What is written in a picture file.

    Raises:
        NotFound: there is no such file.
        Unsupported: it is no picture, or one of another format than PNG, JPEG, WebP, AVIF, GIF.
        CorruptFile: it is cut or malformed.
        UnsafeFile: it is too large: 64 MB, 64 megapixels, or 256 KB of text.
    """
    data = _bytes(source)
    texts = png.texts(data) if data.startswith(png.SIGNATURE) else {}
    with _opened(data) as image:
        texts |= {key: text for key, text in _texts(image).items() if key not in texts}
        hidden = stealth.extract(image) if "parameters" not in texts else ""
    if sum(map(len, texts.values())) > png.MAX_TEXT:
        raise UnsafeFile(f"The picture carries more than {png.MAX_TEXT // 1024} KB of text.", advice="Save it again without it.")
    texts |= {key: value for key, value in (load_object(hidden) or {}).items() if isinstance(value, str)}
    tool, infotext = identify(texts, image.size)
    packet = texts.get("XML:com.adobe.xmp", "")
    return PictureInfo(
        format=str(image.format),
        width=image.width,
        height=image.height,
        infotext=infotext,
        tool=tool,
        origin=xmp.source_type(packet),
        record=load_object(texts.get(RECORD) or xmp.record(packet)),
        extra={key: text for key, text in texts.items() if key not in _TECHNICAL | {"parameters", RECORD}},
    )


def open_image(source: bytes | Path) -> Image.Image:
    """The pixels of a picture file, turned upright, as RGB or RGBA; the first frame of an animation.

    Raises:
        NotFound, Unsupported, CorruptFile, UnsafeFile: as `read` does.
    """
    from PIL import ImageOps

    with _opened(_bytes(source)) as image:
        image.load()
        upright = ImageOps.exif_transpose(image)
        clear = "A" in upright.getbands() or "transparency" in upright.info
        return upright.convert("RGBA" if clear else "RGB")


def _bytes(source: bytes | Path) -> bytes:
    if isinstance(source, Path):
        if not source.is_file():
            raise NotFound(f"There is no file {source}.")
        size = source.stat().st_size
    else:
        size = len(source)
    if size > MAX_IMAGE_BYTES:
        raise UnsafeFile(f"The picture file has {size} bytes.", advice=f"At most {MAX_IMAGE_BYTES} are read.")
    return source.read_bytes() if isinstance(source, Path) else source


@contextmanager
def _opened(data: bytes) -> Iterator[Image.Image]:
    """The picture, opened and within limits; whatever Pillow says about a bad file becomes one of our errors."""
    from PIL import Image, UnidentifiedImageError

    try:
        # Pillow also warns of what it skips in damaged metadata; the picture itself can still be used.
        with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise _too_large(f"{image.width} x {image.height}")
            yield image
    except UnidentifiedImageError:
        raise Unsupported("This is not a picture that can be read.", advice="Use PNG, JPEG, WebP, AVIF or GIF.") from None
    except Image.DecompressionBombError:
        raise _too_large("far more") from None
    except _BROKEN as error:
        raise CorruptFile(f"The picture file is damaged: {str(error)[:200]}.") from None


def _too_large(size: str) -> UnsafeFile:
    return UnsafeFile(f"The picture has {size} pixels.", advice=f"At most {MAX_PIXELS // 1024**2} megapixels are read.")


def _texts(image: Image.Image) -> dict[str, str]:
    """The texts that Pillow finds, by keyword; "parameters" is the one that A1111 writes, wherever the format puts it."""
    found: dict[str, str] = {}
    if image.format != "PNG":
        found = {str(key): _decoded(value) for key, value in image.info.items() if isinstance(value, (str, bytes))}
        packet = found.get("xmp", "")
        found = {key: text for key, text in found.items() if key not in _TECHNICAL}
        if packet:
            found["XML:com.adobe.xmp"] = packet
    found |= {key: text for key, text in _exif_texts(image).items() if key not in found}
    if image.format == "GIF" and "comment" in found:
        found.setdefault("parameters", found["comment"])
    return found


def _exif_texts(image: Image.Image) -> dict[str, str]:
    """The comment in EXIF, and what ComfyUI keeps in the fields of the camera's maker."""
    block = image.info.get("exif", b"")
    if not block:
        return {}
    if len(block) > 4 * png.MAX_TEXT:
        raise UnsafeFile(f"The EXIF data has {len(block)} bytes.", advice="Save the picture again without it.")
    data = image.getexif()
    found: dict[str, str] = {}
    comment = data.get_ifd(_EXIF_FOLDER).get(_USER_COMMENT)
    if isinstance(comment, (bytes, str)) and (text := exif.decode_comment(comment)):
        found["parameters"] = text
    for tag in (_MAKE, _MODEL):
        keyword, colon, text = str(data.get(tag, "")).partition(":")
        if colon and keyword.lower() in ("prompt", "workflow"):
            found[keyword.lower()] = text.strip("\0")
    return found


def _decoded(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("utf-8", "replace").strip("\0")
