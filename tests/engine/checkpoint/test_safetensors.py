"""The 45 well-formed and malformed inputs, each with its verdict; and what is read is what was written."""

import contextlib
import json
import os
import pickle
import struct

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.engine.checkpoint.bounds import bounded

from sfumato.engine.checkpoint.inspect import inspect
from sfumato.engine.checkpoint.load import load
from sfumato.engine.checkpoint.open import open_table
from sfumato.engine.checkpoint.safetensors import DTYPES, read_safetensors
from sfumato.engine.checkpoint.table import GivenTensor, LazyTensor
from sfumato.engine.checkpoint.writer import replacing, write_safetensors
from sfumato.errors import CorruptFile, DiskFull, InvalidRequest, NotFound, SfumatoError, UnsafeFile, Unsupported

REFUSED = (CorruptFile, UnsafeFile, Unsupported)


def entry(shape=(2,), begin=0, end=8, dtype="F32", **more):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end], **more}


def pack(header, data=bytes(8), length=None):
    text = header if isinstance(header, bytes) else json.dumps(header, separators=(",", ":")).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def many(count):
    return pack({f"tensor.number.{i}": entry((0,), 0, 0) for i in range(count)}, b"")


GOOD = pack({"a": entry()})
A = pack({"a": entry()})[8:-8]
REJECTED = {
    "01 empty file": (b"", "empty"),
    "02 seven bytes": (b"1234567", "7 bytes"),
    "03 header length 0": (pack(b"", b"{}" + bytes(8)), "header"),
    "04 length 2^63": (pack({"a": entry()}, length=1 << 63), "not a safetensors"),
    "05 length beyond the cap": (pack({"a": entry()}, length=100_000_001), "not a safetensors"),
    "06 length beyond the file": (pack({"a": entry()}, length=5000), "incomplete"),
    "07 invalid UTF-8": (pack(b'{"\xff":1}'), "UTF-8"),
    "08 not an object": (pack(b"[1,2]"), "begin with"),
    "09 cut JSON": (pack(A[:-9]), "header"),
    "10 no tensors": (pack({}, b""), "no tensors"),
    "11 no tensors but data": (pack({}), "no tensors"),
    "12 one byte short": (GOOD[:-1], "1 of 8 bytes"),
    "13 one byte long": (GOOD + b"\0", "behind its last"),
    "14 overlap": (pack({"a": entry(), "b": entry((2,), 4, 12)}, bytes(12)), "overlaps"),
    "15 hole": (pack({"a": entry(), "b": entry((2,), 12, 20)}, bytes(20)), "hole"),
    "16 begin behind end": (pack({"a": entry((2,), 8, 0)}), "bytes 8 to 0"),
    "17 negative offset": (pack({"a": entry((2,), -8, 0)}), "bytes -8 to 0"),
    "18 size and extent differ": (pack({"a": entry((3,))}), "does not fit its size"),
    "19 shape overflows": (pack({"a": entry((1 << 62, 4))}), "dimension"),
    "20 shape wraps to its size": (pack({"a": entry((1 << 62, 4, 2), 0, 0)}, b""), "dimension"),
    "21 unknown dtype": (pack({"a": entry(dtype="F13")}), "F13"),
    "22 duplicate key": (pack(b'{"a":' + json.dumps(entry()).encode() + b',"a":' + json.dumps(entry()).encode() + b"}"), "twice"),
    "23 metadata number": (pack({"__metadata__": {"a": 1}, "a": entry()}), "not text"),
    "24 metadata nested": (pack({"__metadata__": {"a": {}}, "a": entry()}), "not text"),
    "25 no shape": (pack({"a": {"dtype": "F32", "data_offsets": [0, 8]}}), "lacks"),
    "26 fractional shape": (pack({"a": entry((2.0,))}), "whole numbers"),
    "28 deep JSON": (pack(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"), "cannot be read"),
    "29 rank 10000": (pack({"a": entry((1,) * 10_000, 0, 4)}, bytes(4)), "cannot be read"),
    "29b rank 9": (pack({"a": entry((1,) * 9, 0, 4)}, bytes(4)), "9 dimensions"),
    "30 empty name": (pack({"": entry()}), "0 characters"),
    "31 name like a path": (pack({"../../x\0y": entry()}), "named"),
    "31b name with two dots": (pack({"a/../b": entry()}), "named"),
    "31c long name": (pack({"a" * 513: entry()}), "513 characters"),
    "33 huge empty shape": (pack({"a": entry((0, 1 << 40), 0, 0)}, b""), "dimension"),
    "36 200 k tensors": (many(200_000), "50000 tensors"),
    "37 pickle renamed": (pickle.dumps({"a": 1}), "pickle"),
    "41 leading space": (pack(b" " + A), "begin with"),
    "42 garbage in the header": (pack(A + b"x"), "behind its end"),
    "43 F4 with an odd count": (pack({"a": entry((3,), 0, 2, "F4")}, bytes(2)), "F4"),
    "truth as a dimension": (pack({"a": entry((True, 2))}), "dimension"),
    "truth as an offset": (pack({"a": {**entry((0,)), "data_offsets": [False, False]}}, b""), "offsets"),
    "NaN in an entry": (pack(b'{"a":{"dtype":"F32","shape":[NaN],"data_offsets":[0,8]}}'), "NaN"),
    "huge number": (pack(b'{"a":{"dtype":"F32","shape":[' + b"9" * 3000 + b'],"data_offsets":[0,8]}}'), "dimension"),
    "one field twice": (pack(b'{"a":{"dtype":"F32","dtype":"F16","shape":[2],"data_offsets":[0,8]}}'), "twice"),
    "entry is a list": (pack(b'{"a":[1]}'), "object"),
    "no comma": (pack(A[:-1] + b' "b":1}'), "should have"),
    "name without quotes": (pack(b"{a:1}"), "quotes"),
    "metadata twice": (pack(b'{"__metadata__":{},"__metadata__":{}}'), "twice"),
    "unclosed text": (pack(b'{"a'), "text"),
}
ACCEPTED = {
    "27 unknown field": pack({"a": entry(note=[1, {"b": None}])}),
    "32 shape [0]": pack({"a": entry((0,), 0, 0), "b": entry()}),
    "34 misaligned start": pack({"a": entry((1,), 0, 1, "U8"), "b": entry((2,), 1, 9)}, bytes(9)),
    "35 NaN": pack({"a": entry()}, struct.pack("<2f", float("nan"), 1.0)),
    "39 BOOL byte 7": pack({"a": entry((2,), 0, 2, "BOOL")}, b"\x07\x00"),
    "40 trailing spaces": pack(A + b"   "),
    "44 two cases": pack({"A": entry(), "a": entry((2,), 8, 16)}, bytes(16)),
    "spaces between tokens": pack(json.dumps({"a": entry()}, indent=2).encode()),
    "scalar": pack({"a": entry((), 0, 4)}, bytes(4)),
    "metadata": pack({"__metadata__": {"k": "v\n"}, "a": entry()}),
}


@pytest.mark.parametrize("name", REJECTED)
def test_refused_with_a_reason(name, tmp_path):
    content, reason = REJECTED[name]
    path = tmp_path / "file.safetensors"
    path.write_bytes(content)
    for read in (open_table, inspect):
        with bounded(seconds=1, mebibytes=256), pytest.raises(REFUSED, match=reason) as caught:
            read(path)
        assert caught.value.advice
        assert "file.safetensors" in caught.value.message


@pytest.mark.parametrize("name", ACCEPTED)
def test_accepted(name, tmp_path):
    path = tmp_path / "file.safetensors"
    path.write_bytes(ACCEPTED[name])
    table = open_table(path)
    assert bool(table.warnings) == name.startswith("27")
    values = {key: tensor.read() for key, tensor in table.items()}
    assert all(tuple(values[key].shape) == table[key].shape for key in table)
    if name.startswith("39"):
        assert values["a"].view(torch.uint8).tolist() == [1, 0]
    if name.startswith("35"):
        assert inspect(path, check_values=True).not_finite == ("a",)
        assert inspect(path).not_finite is None
    if name == "metadata":
        assert table.metadata == {"k": "v\n"}


NAMES = {
    "numbered blocks": "model.diffusion_model.input_blocks.{}.0.op.weight",
    "dots": "a{}" + "." * 400,
    "numbers": "model.diffusion_model.{}" + ".1" * 200,
    "keys of a network": "{}" + ".attn2.to_k.attn2_to_k." * 15,
    "parts of a network": "{}" + ".lora" * 80 + "_",
    "levels of diffusers": "down_blocks.{}.resnets.0.norm1.weight",
}


@pytest.mark.parametrize("kind", NAMES)
def test_fifty_thousand_hostile_names_take_linear_time(kind, tmp_path):
    path = tmp_path / "file.safetensors"
    count = 30_000 if kind in ("dots", "numbers", "keys of a network", "parts of a network") else 50_000
    path.write_bytes(pack({NAMES[kind].format(i): entry((0,), 0, 0) for i in range(count)}, b""))
    assert path.stat().st_size < 16 << 20
    with bounded(seconds=4, mebibytes=256):
        for read in (inspect, load):
            with contextlib.suppress(*REFUSED):
                read(path)


def test_38_checkpoint_renamed(tmp_path):
    path = tmp_path / "file.safetensors"
    for zipped in (True, False):
        torch.save({"a": torch.zeros(2)}, path, _use_new_zipfile_serialization=zipped)
        with pytest.raises(UnsafeFile, match=r"is a \.ckpt"):
            open_table(path)
        with pytest.raises(REFUSED):
            read_safetensors(path)


def test_45_sparse_file_of_four_terabytes(tmp_path):
    path = tmp_path / "file.safetensors"
    count = 1 << 31
    header = {f"t{i}": entry((count, 512), i * count * 512, (i + 1) * count * 512, "U8") for i in range(4)}
    try:
        with path.open("wb") as file:
            file.write(pack(header, b""))
            file.truncate(file.tell() + 4 * count * 512)
    except OSError:
        pytest.skip("the file system has no sparse files of this size")
    with bounded(seconds=1, mebibytes=256), pytest.raises(UnsafeFile, match="GiB"):
        open_table(path)


def test_header_of_a_hundred_megabytes(tmp_path):
    path = tmp_path / "file.safetensors"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", 100 << 20) + b"{")
        file.truncate(100 << 20)
    with bounded(seconds=1, mebibytes=256), pytest.raises(UnsafeFile, match="header"):
        open_table(path)


def test_cut_after_it_was_opened(tmp_path):
    """A map would end the process here; reading gives an error."""
    path = tmp_path / "file.safetensors"
    save_file({"a": torch.zeros(100_000)}, path)
    table = open_table(path)
    with path.open("r+b") as file:
        file.truncate(5000)
    with pytest.raises(CorruptFile, match="before the data"):
        table["a"].read()


def test_every_single_byte_of_a_header_may_be_wrong(tmp_path):
    """Changing bytes gives a typed error or a table, never anything else."""
    path = tmp_path / "file.safetensors"
    data = pack({"__metadata__": {"a": "b"}, "one": entry(), "two": entry((2, 2), 8, 24)}, bytes(24))
    for position in range(len(data) - 24):
        for flip in (0x01, 0x5D, 0x80):
            changed = bytearray(data)
            changed[position] ^= flip
            path.write_bytes(bytes(changed))
            try:
                table = open_table(path)
            except REFUSED:
                continue
            assert 1 <= len(table) <= 3


# --- values -----------------------------------------------------------------------------------------------------------


def samples():
    torch.manual_seed(0)
    result = {}
    for name, dtype in DTYPES.items():
        value = torch.randn(5, 4, 3, 3) * 4
        result[name] = (value.abs() if name[0] in "UB" else value).to(dtype)
    return result | {"scalar": torch.tensor(2.5), "none": torch.zeros(0, 3), "long": torch.randn(3_000_000)}


def test_every_dtype_both_ways(tmp_path):
    values = samples()
    save_file(values, tmp_path / "theirs.safetensors")
    write_safetensors(
        tmp_path / "ours.safetensors", {name: GivenTensor(value) for name, value in values.items()}, metadata={"k": "é"}
    )
    theirs = load_file(tmp_path / "ours.safetensors")
    table, ours = read_safetensors(tmp_path / "theirs.safetensors"), read_safetensors(tmp_path / "ours.safetensors")
    assert ours.metadata == {"k": "é"}
    for name, value in values.items():
        for got in (table[name].read(), ours[name].read(), theirs[name]):
            assert got.dtype == value.dtype
            assert torch.equal(got.reshape(-1).view(torch.uint8), value.reshape(-1).view(torch.uint8))


@pytest.mark.parametrize("name", ["F16", "BF16", "F32", "F64", "F8_E4M3", "F8_E5M2", "long", "scalar"])
def test_read_converts_into_any_layout(name, tmp_path):
    value = samples()[name]
    save_file({name: value}, tmp_path / "a.safetensors")
    lazy = read_safetensors(tmp_path / "a.safetensors")[name]
    layout = torch.channels_last if value.ndim == 4 else torch.contiguous_format
    target = torch.empty(value.shape, dtype=torch.float32, memory_format=layout)
    assert lazy.read(into=target) is target
    assert torch.equal(target, value.float())
    with pytest.raises(CorruptFile, match="does not fit"):
        lazy.read(into=torch.empty(7))


def test_systems_without_pread(tmp_path, monkeypatch):
    values = samples()
    save_file(values, tmp_path / "a.safetensors")
    for name in ("preadv", "posix_fadvise"):
        monkeypatch.delattr(os, name, raising=False)
    table = read_safetensors(tmp_path / "a.safetensors")
    for name, value in values.items():
        assert torch.equal(table[name].read().reshape(-1).view(torch.uint8), value.reshape(-1).view(torch.uint8))


def test_parts_of_tensors(tmp_path):
    value = torch.arange(24.0).reshape(6, 4)
    save_file({"a": value}, tmp_path / "a.safetensors")
    lazy: LazyTensor = read_safetensors(tmp_path / "a.safetensors")["a"]
    assert torch.equal(lazy.rows(2, 5).read(), value[2:5])
    assert torch.equal(lazy.transposed().read(), value.t())
    assert torch.equal(lazy.transposed().rows(1, 3).read(), value.t()[1:3])
    assert torch.equal(lazy.reshaped((6, 4, 1, 1)).read(), value[..., None, None])
    assert torch.equal(lazy.transposed().reshaped((2, 12)).read(), value.t().reshape(2, 12))


# --- writing ----------------------------------------------------------------------------------------------------------


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    tensors = {"a": GivenTensor(torch.zeros(10))}
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 100})())
    with pytest.raises(DiskFull, match="free"):
        write_safetensors(tmp_path / "a.safetensors", tensors)
    assert list(tmp_path.iterdir()) == []


def fail(path):
    with replacing(path) as file:
        file.write(b"new")
        raise OSError(28, "No space left on device")


def test_a_disk_that_becomes_full_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"old")
    with pytest.raises(DiskFull):
        fail(path)
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("a.safetensors", b"old")]


def test_what_cannot_be_written(tmp_path):
    with pytest.raises(InvalidRequest, match="no tensors"):
        write_safetensors(tmp_path / "a.safetensors", {})
    with pytest.raises(InvalidRequest, match="complex128"):
        write_safetensors(tmp_path / "a.safetensors", {"a": GivenTensor(torch.zeros(1, dtype=torch.complex128))})
    with pytest.raises(NotFound):
        write_safetensors(tmp_path / "no" / "a.safetensors", {"a": GivenTensor(torch.zeros(1))})
    with pytest.raises(SfumatoError):
        write_safetensors(tmp_path / "a.safetensors", {"../a": GivenTensor(torch.zeros(1))})
    assert list(tmp_path.iterdir()) == []
