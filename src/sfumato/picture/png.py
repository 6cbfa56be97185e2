"""The text chunks of a PNG file, read with limits and without decoding the picture."""

from __future__ import annotations

import struct
import zlib

from sfumato.errors import CorruptFile, UnsafeFile

SIGNATURE = b"\x89PNG\r\n\x1a\n"
MAX_TEXT = 256 * 1024
MAX_CHUNKS = 100_000
MAX_TEXTS = 256


def texts(data: bytes) -> dict[str, str]:
    """Keyword and text of every tEXt, zTXt and iTXt chunk; the first of a keyword counts.

    Raises:
        CorruptFile: the file ends within a chunk or a text is malformed.
        UnsafeFile: the texts hold more than 256 KB, unpacked, or there are too many of them.
    """
    found: dict[str, str] = {}
    room = MAX_TEXT
    position = len(SIGNATURE)
    for _ in range(MAX_CHUNKS):
        if position + 8 > len(data):
            return found
        length, kind = struct.unpack_from(">I4s", data, position)
        start, position = position + 8, position + 12 + length
        if position > len(data) + 4:
            raise CorruptFile("The PNG file ends within a chunk.", advice="It was not copied or downloaded completely.")
        if kind == b"IEND":
            return found
        if kind in (b"tEXt", b"zTXt", b"iTXt"):
            if length > MAX_TEXT:
                raise _too_much()
            keyword, text = _READERS[kind](data[start : start + length], room)
            room -= len(text.encode("utf-8", "replace"))
            if room < 0 or len(found) >= MAX_TEXTS:
                raise _too_much()
            found.setdefault(keyword, text)
    raise UnsafeFile(f"The PNG file has more than {MAX_CHUNKS} chunks.")


def _too_much() -> UnsafeFile:
    return UnsafeFile(
        f"The picture carries more than {MAX_TEXT // 1024} KB of text.", advice="Save it again without its metadata."
    )


def _plain(chunk: bytes, room: int) -> tuple[str, str]:
    keyword, _, text = chunk.partition(b"\0")
    return keyword.decode("latin-1"), text.decode("latin-1")


def _compressed(chunk: bytes, room: int) -> tuple[str, str]:
    keyword, _, rest = chunk.partition(b"\0")
    return keyword.decode("latin-1"), _inflate(rest[1:], room).decode("latin-1")


def _international(chunk: bytes, room: int) -> tuple[str, str]:
    keyword, _, rest = chunk.partition(b"\0")
    if len(rest) < 2:
        raise CorruptFile("A text of the PNG file is malformed.")
    parts = rest[2:].split(b"\0", 2)
    if len(parts) < 3:
        raise CorruptFile("A text of the PNG file is malformed.")
    text = _inflate(parts[2], room) if rest[0] else parts[2]
    return keyword.decode("latin-1"), text.decode("utf-8", "replace")


def _inflate(data: bytes, room: int) -> bytes:
    """The unpacked bytes, as long as they fit into `room`."""
    unpacker = zlib.decompressobj()
    try:
        text = unpacker.decompress(data, room + 1)
    except zlib.error:
        raise CorruptFile("A compressed text of the PNG file is malformed.") from None
    if len(text) > room:
        raise _too_much()
    return text


_READERS = {b"tEXt": _plain, b"zTXt": _compressed, b"iTXt": _international}
