"""Bytes of a weights file, read at an offset.

Files are read (`pread`), not mapped: a file that shrinks while it is mapped kills the process with SIGBUS, and mapped pages
count as resident. Reading straight into the final tensor is one copy, as with a map.
"""

from __future__ import annotations

import os
import weakref
from pathlib import Path

from sfumato.errors import CorruptFile, NotFound

READ_LIMIT = 1 << 30
"""Bytes asked of the system at once; some systems refuse more than 2 GiB."""


class ByteSource:
    """An open file, closed when nothing refers to it any more.

    Raises:
        NotFound: there is no such file, or it is not a plain file that may be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0))
        except OSError as error:
            raise NotFound(f"{path} cannot be read: {error.strerror}.", advice="Check the name and its permissions.") from error
        self.close = weakref.finalize(self, os.close, self._descriptor)
        self.size = os.fstat(self._descriptor).st_size

    def read(self, offset: int, length: int) -> bytes:
        """`length` bytes from `offset`; CorruptFile where the file ends before that."""
        buffer = bytearray(length)
        self.read_into(offset, memoryview(buffer))
        return bytes(buffer)

    def read_into(self, offset: int, target: memoryview) -> None:
        """Fill `target` (bytes, writable, contiguous) from `offset`; CorruptFile where the file ends before that."""
        done = 0
        while done < len(target):
            count = self._read_some(offset + done, target[done : done + READ_LIMIT])
            if count == 0:
                raise CorruptFile(
                    f"{self.path.name} ends at byte {offset + done}, before the data that it declares.",
                    advice="It was cut or is being replaced: copy or download it again.",
                )
            done += count

    def _read_some(self, offset: int, target: memoryview) -> int:
        if hasattr(os, "preadv"):
            return os.preadv(self._descriptor, [target], offset)
        os.lseek(self._descriptor, offset, os.SEEK_SET)
        data = os.read(self._descriptor, len(target))
        target[: len(data)] = data
        return len(data)

    def read_ahead(self, offset: int, length: int) -> None:
        """Tell the system that this part will be wanted soon; a hint, ignored where there is none."""
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._descriptor, offset, length, os.POSIX_FADV_WILLNEED)
