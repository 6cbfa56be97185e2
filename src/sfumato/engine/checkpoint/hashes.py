"""The digests by which the community names model files, each computed only when it is asked for, and remembered.

* sha256 of the whole file; its first 10 digits are the hash shown for checkpoints (AutoV2).
* the old hash (AutoV1): sha256 of 64 KiB at offset 1 MiB, first 8 digits; cheap and full of collisions.
* the network hash ("addnet", AutoV3): sha256 of what follows a safetensors header, so that editing metadata does not change it;
  its first 12 digits stand in generation texts.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from sfumato.errors import NotFound

SHORT = 10
NETWORK_SHORT = 12
PIECE = 1 << 20
MAX_CACHE = 64 << 20


def sha256(path: Path) -> str:
    """SHA-256 of the whole file, 64 digits; NotFound where it cannot be read."""
    return _digest(path, 0)


def short_hash(path: Path) -> str:
    """The first 10 digits of `sha256`."""
    return sha256(path)[:SHORT]


def legacy_hash(path: Path) -> str:
    """The old 8-digit hash; "NOFILE" where there is no such file, as ever."""
    try:
        with path.open("rb") as file:
            file.seek(0x100000)
            return hashlib.sha256(file.read(0x10000)).hexdigest()[:8]
    except OSError:
        return "NOFILE"


def network_hash(path: Path) -> str:
    """SHA-256 of what follows the safetensors header, 64 digits; NotFound where the file cannot be read."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
    except OSError as error:
        raise NotFound(f"{path} cannot be read: {error.strerror}.", advice="Check the name and its permissions.") from error
    return _digest(path, 8 + length)


def _digest(path: Path, start: int) -> str:
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(PIECE))
    try:
        with path.open("rb", buffering=0) as file:
            file.seek(min(start, path.stat().st_size))
            while count := file.readinto(buffer):
                digest.update(buffer[:count])
    except OSError as error:
        raise NotFound(f"{path} cannot be read: {error.strerror}.", advice="Check the name and its permissions.") from error
    return digest.hexdigest()


KINDS: Mapping[str, Callable[[Path], str]] = MappingProxyType({"sha256": sha256, "network": network_hash, "legacy": legacy_hash})


class HashCache:
    """Digests remembered in one JSON file, valid while a file's size and modification time stay as they were.

    Several processes may share the file: each write is atomic and starts from what is there. An unreadable cache is empty.

    Args:
        path: of the cache file; made, with its folder, by the first write.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def get(self, path: Path, kind: str = "sha256") -> str:
        """A digest of `path`, computed if need be.

        Args:
            kind: "sha256", "network" or "legacy".

        Raises:
            NotFound: there is no such file.
        """
        known = self.known(path, kind)
        if known is not None:
            return known
        before = _stamp(path)
        value = KINDS[kind](path)
        if before is not None and before == _stamp(path):
            self._remember(path, kind, before, value)
        return value

    def known(self, path: Path, kind: str = "sha256") -> str | None:
        """The digest if it is remembered and still valid; never reads the file itself."""
        entry = self._read().get(str(path.absolute()))
        stamp = _stamp(path)
        if stamp is None or not isinstance(entry, dict) or [entry.get("size"), entry.get("mtime_ns")] != list(stamp):
            return None
        value = entry.get(kind)
        return value if isinstance(value, str) else None

    def _read(self) -> dict[str, object]:
        try:
            if self.path.stat().st_size > MAX_CACHE:
                return {}
            content = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return {}
        return content if isinstance(content, dict) else {}

    def _remember(self, path: Path, kind: str, stamp: tuple[int, int], value: str) -> None:
        content = self._read()
        entry: dict[str, object] = {"size": stamp[0], "mtime_ns": stamp[1]}
        old = content.get(str(path.absolute()))
        if isinstance(old, dict) and (old.get("size"), old.get("mtime_ns")) == stamp:
            entry = old
        content[str(path.absolute())] = entry | {kind: value}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            descriptor, temporary = tempfile.mkstemp(dir=self.path.parent, prefix=self.path.name, suffix=".part")
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(content, file)
            Path(temporary).replace(self.path)
        except OSError:
            return  # a cache that cannot be written only costs time


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns
