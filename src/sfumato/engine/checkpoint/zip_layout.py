"""The directory of a zip file that torch wrote, read strictly.

Two zip readers that disagree about an archive are how hostile files hide, so nothing is accepted that torch does not write:
entries are stored, unencrypted, in file order, without gaps, each named once, all under one root.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

from sfumato.engine.checkpoint.limits import MAX_TENSORS
from sfumato.engine.checkpoint.source import ByteSource
from sfumato.errors import CorruptFile, UnsafeFile, Unsupported

MAX_DIRECTORY = 24 << 20
MAX_PICKLE = 64 << 20
LOCAL = struct.Struct("<IHHHHHIIIHH")
CENTRAL = struct.Struct("<IHHHHHHIIIHHHHHII")
END = struct.Struct("<IHHHHIIH")
END64 = struct.Struct("<IQHHIIQQQQ")
LOCATOR64 = struct.Struct("<IIQI")
SIGNATURES = {"local": 0x04034B50, "central": 0x02014B50, "end": 0x06054B50, "end64": 0x06064B50, "locator64": 0x07064B50}
DESCRIPTOR_SIZES = (0, 12, 16, 20, 24)
"""Bytes between an entry's data and the next entry: nothing, or a data descriptor."""
ENTRY = re.compile(
    r"([^/]{1,200})/(data\.pkl|data/\d{1,9}|version|byteorder|\.data/serialization_id|\.format_version|\.storage_alignment)"
)
SCRIPTED = re.compile(r"[^/]{1,200}/(code/|constants\.pkl|model\.json)")


@dataclass(frozen=True, slots=True)
class Entry:
    """A stored record: where its bytes are, how many, and their checksum."""

    offset: int
    size: int
    crc: int


@dataclass(frozen=True, slots=True)
class _Listed:
    name: str
    local: int
    size: int
    crc: int


def read_zip(source: ByteSource) -> tuple[bytes, Mapping[str, Entry]]:
    """The pickle and the storages of a torch zip file.

    Returns:
        the bytes of `data.pkl`, and storages by key.

    Raises:
        CorruptFile: cut, or its parts contradict each other.
        UnsafeFile: compressed or encrypted entries, duplicate names, several roots, entries that torch does not write,
            something hidden between entries, a pickle above 64 MiB.
        Unsupported: TorchScript, or a big-endian file.
    """
    listed, directory = _directory(source)
    _check_names(listed)
    entries = _placed(source, listed, directory)
    pickle = next((entry for name, entry in entries.items() if name.endswith("/data.pkl")), None)
    if pickle is None:
        raise CorruptFile("The archive has no data.pkl.", advice="It is a zip file, but not one that PyTorch wrote.")
    if pickle.size > MAX_PICKLE:
        raise UnsafeFile(
            f"The pickle in the file has {pickle.size >> 20} MiB.", advice=f"At most {MAX_PICKLE >> 20} MiB are read."
        )
    order = next((entry for name, entry in entries.items() if name.endswith("/byteorder")), None)
    if order and source.read(order.offset, min(order.size, 10)) != b"little":
        raise Unsupported("The file was written on a big-endian machine.", advice="Convert it to safetensors there.")
    data = source.read(pickle.offset, pickle.size)
    if zlib.crc32(data) != pickle.crc:
        raise CorruptFile("The checksum of data.pkl is wrong.", advice="The file is damaged: copy or download it again.")
    return data, {name.rpartition("/")[2]: entry for name, entry in entries.items() if "/data/" in name}


def _directory(source: ByteSource) -> tuple[list[_Listed], int]:
    """The central directory's entries, and its offset."""
    count, size, offset, end = _end_record(source)
    if count > MAX_TENSORS + 10 or size > MAX_DIRECTORY:
        raise UnsafeFile(f"The archive lists {count} entries.", advice=f"At most {MAX_TENSORS} tensors are read.")
    if offset + size != end:
        raise CorruptFile("The archive's directory is not where its end says.", advice="The file is cut or was tampered with.")
    data = source.read(offset, size)
    listed: list[_Listed] = []
    position = 0
    while position < size:
        if position + CENTRAL.size > size or len(listed) >= count:
            raise CorruptFile("The archive's directory is cut.", advice="Copy or download the file again.")
        record = CENTRAL.unpack_from(data, position)
        listed.append(_listed(record, data, position + CENTRAL.size))
        position += CENTRAL.size + record[10] + record[11] + record[12]
    if len(listed) != count or position != size:
        raise CorruptFile("The archive's directory contradicts itself.", advice="The file is cut or was tampered with.")
    return listed, offset


def _end_record(source: ByteSource) -> tuple[int, int, int, int]:
    """Entries, size and offset of the directory, and the offset of what follows it."""
    end = source.size - END.size
    if end < 0:
        raise CorruptFile(f"The file has only {source.size} bytes.", advice="It was cut: copy or download it again.")
    record = END.unpack(source.read(end, END.size))
    if record[0] != SIGNATURES["end"]:
        raise CorruptFile("The archive has no end.", advice="The file is incomplete: copy or download it again.")
    if record[1] or record[2] or record[3] != record[4] or record[7]:
        raise UnsafeFile("The archive has several volumes or a comment.", advice="PyTorch does not write such files.")
    count, size, offset = record[4], record[5], record[6]
    wide = end - LOCATOR64.size
    if wide >= END64.size:
        locator = LOCATOR64.unpack(source.read(wide, LOCATOR64.size))
        if locator[0] == SIGNATURES["locator64"]:
            end = locator[2]
            if end + END64.size != wide:
                raise CorruptFile("The archive's end is not where it says.", advice="The file is cut or was tampered with.")
            record64 = END64.unpack(source.read(end, END64.size))
            if record64[0] != SIGNATURES["end64"] or record64[6] != record64[7]:
                raise CorruptFile("The archive's end contradicts itself.", advice="The file is cut or was tampered with.")
            wide_values = (record64[7], record64[8], record64[9])
            narrow = (count, size, offset)
            for value, exact, unset in zip(narrow, wide_values, (0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF), strict=True):
                if value not in (exact, unset):
                    raise UnsafeFile("The archive has two directories that differ.", advice="It was tampered with.")
            count, size, offset = wide_values
    return count, size, offset, end


def _listed(record: tuple[int, ...], data: bytes, position: int) -> _Listed:
    flags, method, crc, packed, size, name_length, extra_length, local = (record[i] for i in (3, 4, 7, 8, 9, 10, 11, 16))
    try:
        name = data[position : position + name_length].decode("utf-8")
    except UnicodeDecodeError as error:
        raise CorruptFile("An entry of the archive has an unreadable name.", advice="The file is damaged.") from error
    if flags & ~0x0808:  # a data descriptor follows; the name is UTF-8
        raise UnsafeFile(
            f"The entry {name[:80]!r} is encrypted or has unusual flags.", advice="PyTorch does not write such files."
        )
    if method != 0:
        raise UnsafeFile(
            f"The entry {name[:80]!r} is compressed.",
            advice="PyTorch never compresses; small files that grow huge are an attack.",
        )
    extra = data[position + name_length : position + name_length + extra_length]
    size, packed, local = _widened(extra, size, packed, local)
    if size != packed:
        raise UnsafeFile(f"The entry {name[:80]!r} has two sizes.", advice="The file was tampered with.")
    return _Listed(name, local, size, crc)


def _widened(extra: bytes, size: int, packed: int, local: int) -> tuple[int, int, int]:
    """Replace values that do not fit 32 bits by those of the zip64 field, which holds them in this order."""
    values = {"size": size, "packed": packed, "local": local}
    position = 0
    while position + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, position)
        field = extra[position + 4 : position + 4 + length]
        if kind == 1:
            for name, value in values.items():
                if value == 0xFFFFFFFF and len(field) >= 8:
                    values[name] = struct.unpack_from("<Q", field)[0]
                    field = field[8:]
        position += 4 + length
    return values["size"], values["packed"], values["local"]


def _check_names(listed: list[_Listed]) -> None:
    roots: set[str] = set()
    seen: set[str] = set()
    for item in listed:
        if SCRIPTED.match(item.name):
            raise Unsupported("This is a TorchScript program, not weights.", advice="Get the model's weights as safetensors.")
        match = ENTRY.fullmatch(item.name)
        if match is None or match[1] in (".", ".."):
            raise UnsafeFile(f"The archive holds {item.name[:80]!r}.", advice="PyTorch does not write such an entry.")
        if item.name in seen:
            raise UnsafeFile(f"The archive holds {item.name[:80]!r} twice.", advice="PyTorch does not write such files.")
        seen.add(item.name)
        roots.add(match[1])
    if len(roots) > 1:
        raise UnsafeFile(f"The archive has {len(roots)} root folders.", advice="PyTorch writes one.")


def _placed(source: ByteSource, listed: list[_Listed], directory: int) -> dict[str, Entry]:
    """Where each entry's data is; entries must follow one another from the first byte to the directory."""
    entries: dict[str, Entry] = {}
    reached = 0
    for item in sorted(listed, key=lambda entry: entry.local):
        if item.local - reached not in (DESCRIPTOR_SIZES if entries else (0,)):
            raise UnsafeFile(
                f"There is something between the entries before {item.name[:80]!r}.", advice="PyTorch does not write such files."
            )
        start = _check_local(source, item)
        reached = start + item.size
        if reached > directory:
            raise CorruptFile(
                f"The entry {item.name[:80]!r} does not fit the file.", advice="The file is cut or was tampered with."
            )
        entries[item.name] = Entry(start, item.size, item.crc)
    if directory - reached not in DESCRIPTOR_SIZES:
        raise UnsafeFile(
            "There is something between the last entry and the directory.", advice="PyTorch does not write such files."
        )
    return entries


def _check_local(source: ByteSource, item: _Listed) -> int:
    """Offset of the entry's data, after comparing the entry's own header with the directory."""
    record = LOCAL.unpack(source.read(item.local, LOCAL.size))
    name = source.read(item.local + LOCAL.size, record[9])
    flags, method, crc, packed, size = record[2], record[3], record[6], record[7], record[8]
    deferred = bool(flags & 8)
    agree = (
        record[0] == SIGNATURES["local"]
        and name == item.name.encode()
        and flags & ~0x0808 == 0
        and method == 0
        and crc in ((item.crc, 0) if deferred else (item.crc,))
        and packed == size
        and size in ((item.size, 0, 0xFFFFFFFF) if deferred else (item.size, 0xFFFFFFFF))
    )
    if not agree:
        raise UnsafeFile(
            f"The entry {item.name[:80]!r} differs from the archive's directory.", advice="The file was tampered with."
        )
    return int(item.local + LOCAL.size + record[9] + record[10])
