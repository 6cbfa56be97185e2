"""The smallest EXIF block that carries a text, and the reading of such texts, whoever wrote them."""

from __future__ import annotations

import struct

_SOFTWARE, _EXIF_FOLDER, _USER_COMMENT = 0x0131, 0x8769, 0x9286
_ASCII, _LONG, _UNDEFINED = 2, 4, 7


def encode(comment: str, software: str = "") -> bytes:
    """A big-endian EXIF block with the text as UserComment in UTF-16, and the program's name."""
    value = b"UNICODE\0" + comment.encode("utf-16-be", "replace")
    name = software.encode("ascii", "replace") + b"\0" * (4 - len(software) if len(software) < 4 else 1)
    count = 2 if software else 1
    folder = 8 + 2 + 12 * count + 4
    name_at = folder + 2 + 12 + 4
    value_at = name_at + (len(name) if software else 0)
    entries = struct.pack(">HHII", _SOFTWARE, _ASCII, len(name), name_at) if software else b""
    entries += struct.pack(">HHII", _EXIF_FOLDER, _LONG, 1, folder)
    block = b"MM\0*" + struct.pack(">IH", 8, count) + entries + b"\0\0\0\0"
    block += struct.pack(">HHHII", 1, _USER_COMMENT, _UNDEFINED, len(value), value_at) + b"\0\0\0\0"
    return b"Exif\0\0" + block + (name if software else b"") + value


def decode_comment(value: bytes | str) -> str:
    """The text of a UserComment: UTF-16 in either byte order, ASCII, or UTF-8 without a mark."""
    if isinstance(value, str):
        value = value.encode("latin-1", "replace")
    mark, text = value[:8], value[8:]
    if mark == b"UNICODE\0":
        return _utf16(text)
    if mark in (b"ASCII\0\0\0", b"\0" * 8):
        value = text
    return value.decode("utf-8", "replace").strip("\0 ")


def _utf16(data: bytes) -> str:
    """UTF-16 by its byte order mark, else by the side on which the zero bytes of Latin letters lie."""
    if data[:2] in (b"\xfe\xff", b"\xff\xfe"):
        return data.decode("utf-16", "replace").rstrip("\0")
    little = data[1::2].count(0) > data[0::2].count(0)
    return data.decode("utf-16-le" if little else "utf-16-be", "replace").rstrip("\0")
