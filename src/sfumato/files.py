"""Writing files so that a crash or a full disk leaves either the old file or the new one, never half of one."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from pathlib import Path

from sfumato.errors import DiskFull

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG} if hasattr(errno, "EDQUOT") else {errno.ENOSPC, errno.EFBIG}


def write_atomic(path: Path, data: bytes, *, replace: bool = True) -> None:
    """Write `data` to a temporary file beside `path`, flush it to the disk, and give it its name.

    Args:
        replace: whether a file of that name may be replaced.

    Raises:
        DiskFull: no room is left; nothing was changed.
        FileExistsError: the name is taken and `replace` is false.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{secrets.token_hex(8)}.part")
    try:
        with open(part, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            part.replace(path)
        else:
            _claim(part, path)
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise DiskFull(f"There is no room left to write {path.name}.", advice=f"Free some space in {path.parent}.") from None
        if error.filename == str(part):
            error.filename = str(path)  # the name that its reader knows
        raise
    finally:
        part.unlink(missing_ok=True)
    _sync_folder(path.parent)


def _claim(part: Path, path: Path) -> None:
    """Give `part` its name only if that name is free: by a hard link, or by reserving the name where there are none."""
    try:
        os.link(part, path)
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise
        with open(path, "xb"):
            pass
        part.replace(path)


def _sync_folder(folder: Path) -> None:
    """Make the new name itself durable, where the system lets a folder be opened."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
