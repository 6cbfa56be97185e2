"""The safetensors format, read strictly: an 8-byte length, a JSON header, then the tensors without gaps.

https://huggingface.co/docs/safetensors: what the specification forbids is refused here even where the usual library lets it pass.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NoReturn

import torch

from sfumato.engine.checkpoint.limits import MAX_HEADER, check_count, check_file_size, check_name, check_shape
from sfumato.engine.checkpoint.source import ByteSource
from sfumato.engine.checkpoint.table import StoredTensor, TensorTable
from sfumato.errors import CorruptFile, SfumatoError, UnsafeFile, Unsupported

DTYPES: Mapping[str, torch.dtype] = MappingProxyType(
    {
        "F64": torch.float64,
        "F32": torch.float32,
        "F16": torch.float16,
        "BF16": torch.bfloat16,
        "F8_E4M3": torch.float8_e4m3fn,
        "F8_E5M2": torch.float8_e5m2,
        "I64": torch.int64,
        "I32": torch.int32,
        "I16": torch.int16,
        "I8": torch.int8,
        "U64": torch.uint64,
        "U32": torch.uint32,
        "U16": torch.uint16,
        "U8": torch.uint8,
        "BOOL": torch.bool,
        "C64": torch.complex64,
    }
)
PACKED_DTYPES = frozenset({"F4", "F6_E2M3", "F6_E3M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"})
MAX_ENTRY = 4096
"""Characters of the description of one tensor."""
SPACES = re.compile(r"[ \t\n\r]*")
DECODER = json.JSONDecoder()
NUMBER = r"(?:0|[1-9][0-9]{0,18})"
USUAL_ENTRY = re.compile(
    rf'\{{"dtype":"(\w{{1,16}})","shape":\[((?:{NUMBER}(?:,{NUMBER}){{0,7}})?)\],"data_offsets":\[({NUMBER}),({NUMBER})\]\}}'
)
"""How every known writer spells an entry; anything else takes the slow way."""


def read_safetensors(path: Path) -> TensorTable:
    """The tensors of a safetensors file, none of them read yet.

    Raises:
        CorruptFile: the file is cut, or is not what the specification says.
        UnsafeFile: beyond the bounds of `limits`.
        Unsupported: a dtype that PyTorch has no tensors of.
    """
    check_file_size(path)
    source = ByteSource(path)
    try:
        text, start = _header(source)
        return _table(source, text, start)
    except SfumatoError as error:
        source.close()
        error.args = (f"{path.name}: {error.message}",)
        error.message = error.args[0]
        raise


def _header_range(source: ByteSource) -> int:
    if source.size < 8:
        raise CorruptFile(f"The file has {source.size} bytes.", advice="A safetensors file begins with a length of 8 bytes.")
    (length,) = struct.unpack("<Q", source.read(0, 8))
    if length > MAX_HEADER:
        raise UnsafeFile(
            f"The header is said to have {length} bytes.", advice=f"At most {MAX_HEADER} are allowed: not a safetensors file."
        )
    if length < 2:
        raise CorruptFile(f"The header is said to have {length} bytes.", advice="It needs at least 2: not a safetensors file.")
    if 8 + length > source.size:
        raise CorruptFile(
            f"The file is incomplete: its header alone needs {8 + length} bytes and it has {source.size}.",
            advice="Copy or download it again.",
        )
    return 8 + int(length)


def _header(source: ByteSource) -> tuple[str, int]:
    end = _header_range(source)
    try:
        text = source.read(8, end - 8).decode("utf-8")
    except UnicodeDecodeError as error:
        raise CorruptFile("The header is not UTF-8 text.", advice="The file is damaged, or not a safetensors file.") from error
    if not text.startswith("{"):
        raise CorruptFile("The header does not begin with '{'.", advice="The file is damaged, or not a safetensors file.")
    return text, end


def _table(source: ByteSource, text: str, start: int) -> TensorTable:
    entries: dict[str, tuple[str, tuple[int, ...], int, int]] = {}
    metadata: dict[str, str] = {}
    warnings: dict[str, None] = {}

    def member(name: str, position: int) -> int:
        if name == "__metadata__":
            return _object(text, position, lambda key, at: _metadata_value(text, metadata, key, at))
        check_name(name)
        check_count(len(entries) + 1)
        entries[name], position = _entry(text, position, name, warnings)
        return position

    end = _object(text, 0, member)
    if text[end:].strip(" "):
        _malformed("has something behind its end")
    if not entries:
        raise CorruptFile("The file holds no tensors.", advice="It carries metadata only, or was saved from an empty model.")
    _check_extents(entries, source.size - start)
    tensors = {
        name: StoredTensor(source, start + begin, shape, DTYPES[dtype]) for name, (dtype, shape, begin, _) in entries.items()
    }
    return TensorTable(source.path, tensors, metadata, tuple(warnings))


def _check_extents(entries: Mapping[str, tuple[str, tuple[int, ...], int, int]], size: int) -> None:
    """Tensors must fill the data exactly: no overlap, no hole, nothing left over."""
    reached = 0
    for name, (_, _, begin, end) in sorted(entries.items(), key=lambda item: item[1][2:]):
        if begin != reached:
            kind = "overlaps another" if begin < reached else "leaves a hole before it"
            raise CorruptFile(f"Tensor {name!r} {kind}.", advice="The file is damaged or was made by a faulty program.")
        reached = end
    if reached > size:
        raise CorruptFile(
            f"The file is incomplete: {reached - size} of {reached} bytes are missing.", advice="Copy or download it again."
        )
    if reached < size:
        raise CorruptFile(
            f"The file has {size - reached} bytes behind its last tensor.", advice="It is damaged or hides something."
        )


def _object(text: str, position: int, member: Callable[[str, int], int]) -> int:
    """Parse a JSON object member by member; `member(name, position of value)` returns where the value ends."""
    position = _expect(text, position, "{")
    seen: set[str] = set()
    position = _skip(text, position)
    if text[position : position + 1] == "}":
        return position + 1
    while True:
        name, position = _string(text, _skip(text, position))
        if name in seen:
            _malformed(f"has the key {name[:80]!r} twice")
        seen.add(name)
        position = _skip(text, _expect(text, _skip(text, position), ":"))
        position = _skip(text, member(name, position))
        if text[position : position + 1] == "}":
            return position + 1
        position = _expect(text, position, ",")


def _metadata_value(text: str, metadata: dict[str, str], key: str, position: int) -> int:
    if text[position : position + 1] != '"':
        raise CorruptFile(f"The metadata {key[:80]!r} is not text.", advice="The format allows text only.")
    metadata[key], position = _string(text, position)
    return position


def _entry(text: str, position: int, name: str, warnings: dict[str, None]) -> tuple[tuple[str, tuple[int, ...], int, int], int]:
    """dtype, shape, begin and end of a tensor, and where its description ends."""
    usual = USUAL_ENTRY.match(text, position)
    if usual:
        fields: dict[str, object] = {
            "dtype": usual[1],
            "shape": [int(size) for size in usual[2].split(",")] if usual[2] else [],
            "data_offsets": [int(usual[3]), int(usual[4])],
        }
        position = usual.end()
    else:
        fields, position = _unusual_entry(text, position, name)
        if fields.keys() - {"dtype", "shape", "data_offsets"}:
            warnings["The header has fields that the format does not know; they are ignored."] = None
    return _checked_entry(fields, name), position


def _unusual_entry(text: str, position: int, name: str) -> tuple[dict[str, object], int]:
    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        fields = dict(pairs)
        if len(fields) < len(pairs):
            _malformed(f"describes something of tensor {name!r} twice")
        return fields

    decoder = json.JSONDecoder(object_pairs_hook=unique, parse_constant=lambda word: _malformed(f"holds {word}"))
    window = text[position : position + MAX_ENTRY]
    try:
        fields, length = decoder.raw_decode(window)
    except (ValueError, RecursionError) as error:
        raise CorruptFile(
            f"The header's description of tensor {name!r} cannot be read.", advice="The file is damaged."
        ) from error
    if not isinstance(fields, dict):
        _malformed(f"does not describe tensor {name!r} as an object")
    return fields, position + length


def _checked_entry(fields: Mapping[str, object], name: str) -> tuple[str, tuple[int, ...], int, int]:
    dtype, sizes, offsets = fields.get("dtype"), fields.get("shape"), fields.get("data_offsets")
    if not isinstance(dtype, str) or not isinstance(sizes, list) or not isinstance(offsets, list):
        _malformed(f"lacks the dtype, shape or offsets of tensor {name!r}")
    if dtype in PACKED_DTYPES:
        raise Unsupported(f"Tensor {name!r} is stored as {dtype}.", advice="Convert the file to F8_E4M3, F16, BF16 or F32 first.")
    if dtype not in DTYPES:
        raise CorruptFile(f"Tensor {name!r} has the unknown dtype {dtype[:20]!r}.", advice="The file is damaged.")
    shape = check_shape(sizes)
    if len(offsets) != 2 or not all(isinstance(offset, int) and not isinstance(offset, bool) for offset in offsets):
        _malformed(f"gives tensor {name!r} no two whole numbers as offsets")
    begin, end = offsets
    if not 0 <= begin <= end or end - begin != math.prod(shape) * DTYPES[dtype].itemsize:
        raise CorruptFile(
            f"Tensor {name!r} of shape {list(shape)} and dtype {dtype} is said to lie at bytes {begin} to {end}.",
            advice="That does not fit its size: the file is damaged.",
        )
    return dtype, shape, begin, end


def _skip(text: str, position: int) -> int:
    match = SPACES.match(text, position)
    return match.end() if match else position


def _expect(text: str, position: int, character: str) -> int:
    if text[position : position + 1] != character:
        _malformed(f"should have {character!r} at character {position} and has {text[position : position + 1]!r}")
    return position + 1


def _string(text: str, position: int) -> tuple[str, int]:
    if text[position : position + 1] != '"':
        _malformed(f"should have a name in quotes at character {position}")
    try:
        value, end = DECODER.raw_decode(text, position)
    except ValueError as error:
        raise CorruptFile("The header is cut or malformed inside a text.", advice="The file is damaged.") from error
    return str(value), end


def _malformed(what: str) -> NoReturn:
    raise CorruptFile(f"The header {what}.", advice="The file is damaged, or was made by a faulty program.")
