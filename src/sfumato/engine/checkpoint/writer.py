"""Writing safetensors: one tensor in memory at a time, and the file appears under its name only when it is whole."""

from __future__ import annotations

import errno
import json
import os
import shutil
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from sfumato.engine.checkpoint.limits import check_count, check_name
from sfumato.engine.checkpoint.safetensors import DTYPES
from sfumato.engine.checkpoint.table import LazyTensor
from sfumato.errors import DiskFull, InvalidRequest, NotFound

FULL = (errno.ENOSPC, errno.EDQUOT)
RESERVE = 16 << 20
"""Bytes that stay free on the disk."""


def write_safetensors(
    path: Path, tensors: Mapping[str, LazyTensor], *, metadata: Mapping[str, str] | None = None, dtype: torch.dtype | None = None
) -> None:
    """Write tensors to a file that replaces `path` in one step.

    Args:
        path: of the file.
        tensors: by name.
        metadata: texts for the header.
        dtype: of all floating-point tensors; None keeps each as it is. Values beyond the range of an 8-bit format are clamped.

    Raises:
        DiskFull: found before anything is written where possible; nothing is left behind.
        InvalidRequest: no tensors, or a dtype that the format has no name for.
        NotFound: the folder does not exist or may not be written to.
    """
    if not tensors:
        raise InvalidRequest("There are no tensors to save.", advice="The format does not allow an empty file.")
    check_count(len(tensors))
    kinds = {name: _final(tensor, dtype) for name, tensor in tensors.items()}
    order = sorted(tensors, key=lambda name: -kinds[name].itemsize)  # wide ones first: then all stay aligned
    header = _header(tensors, order, kinds, metadata or {})
    size = len(header) + sum(tensors[name].numel * kinds[name].itemsize for name in order)
    with replacing(path, size) as file:
        file.write(header)
        for name in order:
            file.write(_bytes(tensors[name], kinds[name]))


def _final(tensor: LazyTensor, dtype: torch.dtype | None) -> torch.dtype:
    return dtype if dtype is not None and tensor.dtype.is_floating_point else tensor.dtype


def _header(
    tensors: Mapping[str, LazyTensor], order: list[str], kinds: Mapping[str, torch.dtype], metadata: Mapping[str, str]
) -> bytes:
    names = {dtype: name for name, dtype in DTYPES.items()}
    content: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    position = 0
    for name in order:
        check_name(name)
        if kinds[name] not in names:
            raise InvalidRequest(f"{kinds[name]} cannot be saved.", advice=f"Possible are {', '.join(names.values())}.")
        end = position + tensors[name].numel * kinds[name].itemsize
        content[name] = {"dtype": names[kinds[name]], "shape": list(tensors[name].shape), "data_offsets": [position, end]}
        position = end
    text = json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def _bytes(tensor: LazyTensor, dtype: torch.dtype) -> memoryview:
    value = cast(tensor.read(), dtype).contiguous()
    return memoryview(value.reshape(-1).view(torch.uint8).numpy())  # type: ignore[arg-type]


def cast(value: Tensor, dtype: torch.dtype) -> Tensor:
    """`value` in another dtype; for 8-bit floats values beyond their range become the largest there is, not NaN."""
    if value.dtype == dtype or not dtype.is_floating_point or dtype.itemsize > 1:
        return value.to(dtype)
    bound = torch.finfo(dtype).max
    return value.float().clamp_(-bound, bound).to(dtype)


@contextmanager
def replacing(path: Path, size: int = 0) -> Iterator[BinaryIO]:
    """A new file that takes the name `path` when the block ends well, and vanishes when it does not.

    Args:
        path: the final name.
        size: bytes that will be written, to find out beforehand whether there is room.

    Raises:
        DiskFull, NotFound: as `write_safetensors` says.
    """
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    with _disk_errors(path):
        free = shutil.disk_usage(path.parent).free
        if size + RESERVE > free:
            raise DiskFull(
                f"{path.name} needs {size >> 20} MiB and {free >> 20} MiB are free in {path.parent}.",
                advice="Make room, save with a smaller dtype, or choose another folder.",
            )
        try:
            with part.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        _sync_folder(path.parent)


@contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise DiskFull(f"The disk became full while {path.name} was written.", advice="Make room and save again.") from error
        raise NotFound(f"{path} cannot be written: {error.strerror}.", advice="Check the folder and its permissions.") from error


def _sync_folder(folder: Path) -> None:
    """Make the new name durable; not every system can open a folder."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Write a text file that replaces `path` in one step; errors as for `write_safetensors`."""
    with replacing(path) as file:
        file.write(text.encode("utf-8"))
