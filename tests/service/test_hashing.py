"""Files are hashed beside the work."""

import hashlib
import threading
from concurrent.futures import CancelledError

import pytest

from sfumato.engine.checkpoint.hashes import HashCache
from sfumato.errors import NotFound
from sfumato.service.hashing import Hasher


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"weights")
    return path


@pytest.fixture
def cache(tmp_path):
    return HashCache(tmp_path / "cache" / "hashes.json")


def test_the_digest(cache, file):
    expected = hashlib.sha256(b"weights").hexdigest()
    assert Hasher(cache).start(file).result(10) == expected
    assert cache.known(file) == expected
    before = threading.active_count()
    assert Hasher(cache).start(file).result(0) == expected
    assert threading.active_count() == before


def test_nothing_to_hash(cache, tmp_path):
    for path in (None, tmp_path, tmp_path / "none"):
        assert Hasher(cache).start(path).result(0) == ""


def held(monkeypatch, error):
    release = threading.Event()

    def get(self, path, kind="sha256"):
        release.wait(10)
        raise error

    monkeypatch.setattr(HashCache, "get", get)
    return release


def test_one_thread_for_one_file(cache, file, monkeypatch):
    release, hasher = held(monkeypatch, NotFound("It is gone.")), Hasher(cache)
    first = hasher.start(file)
    assert hasher.start(file) is first
    release.set()
    with pytest.raises(NotFound, match="gone"):
        first.result(10)
    assert hasher.start(file) is not first


def test_whoever_waits_is_not_left_waiting(cache, file, monkeypatch):
    monkeypatch.setattr(threading, "excepthook", lambda arguments: None)
    release, hasher = held(monkeypatch, RuntimeError("a mistake of ours")), Hasher(cache)
    result = hasher.start(file)
    release.set()
    with pytest.raises(CancelledError):
        result.result(10)
