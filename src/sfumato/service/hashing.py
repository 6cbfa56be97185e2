"""Hashing model files beside the work: large files take seconds, and the text of a picture wants their digests."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING

from sfumato.errors import SfumatoError

if TYPE_CHECKING:
    from sfumato.engine.checkpoint.hashes import HashCache


class Hasher:
    """Computes the sha256 of files, each once, in a thread of its own.

    A job that is cancelled does not wait for it, nor does a process that ends; what is finished is remembered for the next job.

    Args:
        cache: where digests are remembered.
    """

    def __init__(self, cache: HashCache) -> None:
        self._cache = cache
        self._running: dict[Path, Future[str]] = {}

    def start(self, path: Path | None) -> Future[str]:
        """The sha256 of a file, when it is known; "" for a folder or nothing. The file vanishing meanwhile is `NotFound`."""
        if path is None or not path.is_file():
            return _done("")
        if (known := self._cache.known(path)) is not None:
            return _done(known)
        running = self._running.get(path)
        if running is None or running.done():
            running = self._running[path] = Future()
            threading.Thread(target=self._compute, args=(path, running), name=f"hash {path.name}", daemon=True).start()
        return running

    def _compute(self, path: Path, result: Future[str]) -> None:
        try:
            result.set_result(self._cache.get(path))
        except SfumatoError as error:
            result.set_exception(error)
        finally:
            result.cancel()  # no one waits for ever, whatever happened; it does nothing where there is a result


def _done(text: str) -> Future[str]:
    future: Future[str] = Future()
    future.set_result(text)
    return future
