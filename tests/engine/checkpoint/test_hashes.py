"""Digests are remembered as long as the file stays as it was."""

import hashlib
import os

import pytest
import torch
from safetensors.torch import save_file

from sfumato.engine.checkpoint import hashes
from sfumato.engine.checkpoint.hashes import HashCache, network_hash, sha256
from sfumato.errors import NotFound


@pytest.fixture
def cache(tmp_path):
    return HashCache(tmp_path / "state" / "hashes.json")


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model.bin"
    path.write_bytes(b"x" * 3_000_000)
    return path


def test_a_digest_is_computed_once(cache, model, monkeypatch):
    expected = hashlib.sha256(model.read_bytes()).hexdigest()
    assert cache.known(model) is None
    assert cache.get(model) == expected
    monkeypatch.setattr(hashes, "KINDS", {})
    assert cache.get(model) == cache.known(model) == HashCache(cache.path).get(model) == expected
    assert [path.name for path in cache.path.parent.iterdir()] == ["hashes.json"]


def test_a_changed_file_is_read_again(cache, model):
    first = cache.get(model)
    model.write_bytes(b"y" * 3_000_000)
    os.utime(model, ns=(1, 1))
    assert cache.known(model) is None
    assert cache.get(model) != first


def test_kinds_do_not_push_each_other_out(cache, model, tmp_path):
    other = tmp_path / "other.bin"
    other.write_bytes(b"z")
    values = [cache.get(path, kind) for path in (model, other) for kind in ("sha256", "network", "legacy")]
    assert [cache.known(path, kind) for path in (model, other) for kind in ("sha256", "network", "legacy")] == values


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"[" * 100_000, b"\xff\xfe", b'{"a": 5}'])
def test_a_damaged_cache_is_an_empty_one(cache, model, content):
    cache.path.parent.mkdir()
    cache.path.write_bytes(content)
    assert cache.get(model) == sha256(model)
    assert cache.known(model) == sha256(model)


def test_a_cache_that_cannot_be_written_only_costs_time(model, tmp_path):
    assert HashCache(model / "not a folder" / "hashes.json").get(model) == sha256(model)


def test_metadata_does_not_change_the_network_hash(tmp_path):
    tensors = {"a": torch.arange(4.0)}
    save_file(tensors, tmp_path / "a.safetensors")
    save_file(tensors, tmp_path / "b.safetensors", metadata={"ss_note": "x"})
    assert network_hash(tmp_path / "a.safetensors") == network_hash(tmp_path / "b.safetensors")
    assert sha256(tmp_path / "a.safetensors") != sha256(tmp_path / "b.safetensors")


def test_a_missing_file_is_named(cache, tmp_path):
    for digest in (sha256, network_hash, cache.get):
        with pytest.raises(NotFound, match=r"gone\.bin"):
            digest(tmp_path / "gone.bin")
