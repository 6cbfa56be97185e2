"""Bounds that every weights file must keep, whatever its format. They are far above real files and far below trouble."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import psutil

from sfumato.errors import CorruptFile, UnsafeFile

MAX_TENSORS = 50_000
MAX_RANK = 8
MAX_DIMENSION = 1 << 31
MAX_NAME = 512
MAX_HEADER = 16 << 20
"""Bytes of a safetensors header."""


def check_name(name: str) -> None:
    """Refuse names that could be mistaken for a path or break a terminal.

    Raises:
        UnsafeFile: empty, longer than 512 characters, unprintable characters, a backslash, or a component "..".
    """
    if not 0 < len(name) <= MAX_NAME:
        raise UnsafeFile(f"A tensor has a name of {len(name)} characters.", advice=f"1 to {MAX_NAME} are allowed.")
    if not name.isprintable() or "\\" in name or ".." in name.split("/"):
        raise UnsafeFile(
            f"A tensor is named {name[:80]!r}.", advice="Names hold printable characters, no backslash and no '..' part."
        )


def check_count(count: int) -> None:
    """Refuse more than 50,000 tensors (UnsafeFile)."""
    if count > MAX_TENSORS:
        raise UnsafeFile(f"The file declares more than {MAX_TENSORS} tensors.", advice="No image model has so many.")


def check_shape(shape: Sequence[object]) -> tuple[int, ...]:
    """The shape as integers.

    Raises:
        CorruptFile: not whole numbers of at least 0.
        UnsafeFile: more than 8 dimensions, or one above 2**31.
    """
    if len(shape) > MAX_RANK:
        raise UnsafeFile(f"A tensor has {len(shape)} dimensions.", advice=f"At most {MAX_RANK} are allowed.")
    sizes: list[int] = []
    for size in shape:
        if not isinstance(size, int) or isinstance(size, bool) or size < 0:
            raise CorruptFile(f"A tensor has the dimension {str(size)[:40]!r}.", advice="Dimensions are whole numbers from 0.")
        if size > MAX_DIMENSION:
            raise UnsafeFile("A tensor has a dimension above 2147483648.", advice="No image model has such a tensor.")
        sizes.append(size)
    return tuple(sizes)


def check_file_size(path: Path) -> None:
    """Refuse files that no machine of this size can hold: sparse files pretend to be of any size.

    Raises:
        UnsafeFile: larger than memory and disk together, or larger than memory and mostly holes.
    """
    status = path.stat()
    memory = psutil.virtual_memory().total + psutil.swap_memory().total
    stored = getattr(status, "st_blocks", status.st_size) * 512
    if status.st_size > memory + shutil.disk_usage(path.parent).total or (
        status.st_size > memory and stored < status.st_size // 2
    ):
        raise UnsafeFile(
            f"{path.name} says that it holds {status.st_size >> 30} GiB.",
            advice="That is more than this machine has room for, and the file is mostly empty: it is not a real model.",
        )
