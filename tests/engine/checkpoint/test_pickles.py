"""Pickles: honest ones of every layout are read bit-equal, hostile and broken ones are refused, with a reason and no effect."""

import argparse
import collections
import hashlib
import io
import os
import pickle
import struct
import subprocess
import tarfile
import zipfile

import numpy
import pytest
import torch
from tests.engine.checkpoint.bounds import bounded

from sfumato.engine.checkpoint.inspect import inspect
from sfumato.engine.checkpoint.open import open_table
from sfumato.engine.checkpoint.pickle_reader import read_pickle
from sfumato.engine.checkpoint.pickle_vm import Inert
from sfumato.engine.checkpoint.table import LazyTensor
from sfumato.errors import CorruptFile, UnsafeFile, Unsupported

REFUSED = (CorruptFile, UnsafeFile, Unsupported)

# --- honest files -----------------------------------------------------------------------------------------------------


def honest():
    torch.manual_seed(0)
    base = torch.randn(6, 4)
    state = collections.OrderedDict(
        plain=base,
        transposed=base.t(),
        rows=base[2:4],
        half=torch.randn(3, 4, 3, 3).half(),
        bfloat=torch.randn(7).bfloat16(),
        eight=torch.randn(9).to(torch.float8_e4m3fn),
        double=torch.randn(3).double(),
        whole=torch.arange(5),
        small=torch.arange(5, dtype=torch.int8),
        truth=torch.tensor([True, False, True]),
        scalar=torch.tensor(3.5),
        nothing=torch.zeros(0, 4),
        parameter=torch.nn.Parameter(torch.randn(3)),
        last=torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last),
    )
    state._metadata = {"version": 1}  # as nn.Module.state_dict attaches it
    return state


def save(value, path, layout="zip", protocol=2):
    torch.save(value, path, _use_new_zipfile_serialization=layout == "zip", pickle_protocol=protocol)
    return path


def bits(tensor):
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).tolist()


@pytest.mark.parametrize("layout", ["zip", "legacy"])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_state_dicts(layout, protocol, tmp_path):
    state = honest()
    path = save({"state_dict": state, "epoch": 3, "note": "x"}, tmp_path / "a.ckpt", layout, protocol)
    table = open_table(path)
    assert set(table) == set(state)
    for name, value in state.items():
        got = table[name].read()
        assert got.dtype == value.dtype
        assert tuple(got.shape) == tuple(value.shape)
        assert bits(got) == bits(value), name
    assert table.metadata == {"epoch": "3", "note": "x"}
    assert set(open_table(save(state, tmp_path / "bare.pt", layout, protocol))) == set(state)


@pytest.mark.parametrize("layout", ["zip", "legacy"])
def test_bit_equal_to_torch(layout, tmp_path):
    state = honest()
    if layout == "legacy":
        del state["eight"]  # torch writes it and cannot read it again
    path = save(state, tmp_path / "a.pt", layout)
    reference = torch.load(path, weights_only=True)
    table = open_table(path)
    assert reference.keys() == set(table)
    assert all(bits(table[name].read()) == bits(value) for name, value in reference.items())


class ModelCheckpoint:
    """Stands for Lightning's class of this name, which is written to training checkpoints."""


ModelCheckpoint.__module__ = "pytorch_lightning.callbacks.model_checkpoint"


def renamed_pickle(value, tmp_path, *renames):
    """A torch file whose pickle mentions other modules than the ones it was made with."""
    made = save(value, tmp_path / "made.pt", protocol=2)
    return rewritten(made, tmp_path / "renamed.ckpt", lambda data: replace_all(data, renames))


def replace_all(data, renames):
    for old, new in renames:
        assert old in data
        data = data.replace(old, new)
    return data


def test_a_training_checkpoint_like_the_first_stable_diffusion(tmp_path):
    value = {
        "epoch": 0,
        "global_step": 470000,
        "pytorch-lightning_version": "1.4.2",
        "state_dict": {"model.a": torch.ones(3)},
        "callbacks": {argparse.Namespace: {"best": torch.tensor(1.0), "score": numpy.float64(0.5), "array": numpy.arange(3)}},
        "hyper": argparse.Namespace(lr=1),
        "optimizer_states": [
            {"state": {0: {"step": 5, "exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 1e-4, "betas": (0.9, 0.99)}]}
        ],
        "lr_schedulers": [collections.Counter()],
    }
    for module in (b"pytorch_lightning.callbacks.model_checkpoint\nModelCheckpoint", b"omegaconf.dictconfig\nDictConfig"):
        path = renamed_pickle(value, tmp_path, (b"argparse\nNamespace", module))
        root = read_pickle(path)
        assert isinstance(root["hyper"], Inert)
        assert list(open_table(path)) == ["model.a"]
        assert open_table(path).metadata["global_step"] == "470000"
        assert torch.equal(open_table(path)["model.a"].read(), torch.ones(3))


@pytest.mark.parametrize("layout", ["zip", "legacy"])
def test_embeddings(layout, tmp_path):
    vectors = torch.randn(3, 768)
    kinds = {
        "plain": {"string_to_token": {"*": 265}, "string_to_param": {"*": vectors}, "name": "x", "step": 9},
        "module": {"string_to_token": {"*": 265}, "string_to_param": torch.nn.ParameterDict({"*": vectors}), "name": "x"},
        "diffusers": {"<x>": vectors},
    }
    for name, value in kinds.items():
        path = save(value, tmp_path / f"{name}.pt", layout)
        report = inspect(path)
        assert (report.kind, report.base, report.vectors) == ("embedding", "sd1", 3), name
        (tensor,) = open_table(path).values()
        assert torch.equal(tensor.read(), vectors)


def test_hypernetwork(tmp_path):
    half = {"linear.0.weight": torch.randn(4, 4), "linear.0.bias": torch.randn(4)}
    path = save({768: (half, half), 320: (half, half), "step": 5, "layer_structure": [1, 2, 1]}, tmp_path / "h.pt")
    root = read_pickle(path)
    assert torch.equal(root[768][1]["linear.0.bias"].read(), half["linear.0.bias"])
    assert root["layer_structure"] == [1, 2, 1]
    report = inspect(path)
    assert (report.kind, report.base, report.tensors) == ("hypernetwork", "sd1", 8)


def test_nested_dicts_are_joined(tmp_path):
    path = save(
        {"image_proj": {"proj.weight": torch.ones(2, 2)}, "ip_adapter": {"1.to_k_ip.weight": torch.ones(2, 2)}},
        tmp_path / "ip.bin",
    )
    assert set(open_table(path)) == {"image_proj.proj.weight", "ip_adapter.1.to_k_ip.weight"}
    assert inspect(path).kind == "ip-adapter"


# --- hostile files ----------------------------------------------------------------------------------------------------

CANARY = "canary"


def run(command=f"touch {CANARY}"):
    class Payload:
        def __reduce__(self):
            return os.system, (command,)

    return Payload()


def zipped(pickled, records=(), *, root="archive", compression=zipfile.ZIP_STORED, extra=()):
    """A zip file like torch's around any pickle."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as file:
        file.writestr(f"{root}/data.pkl", pickled)
        file.writestr(f"{root}/version", "3\n")
        for name, data in (*records, *extra):
            file.writestr(name if "/" in name else f"{root}/data/{name}", data)
    return buffer.getvalue()


def legacy(pickled, keys=(), numbers=b""):
    head = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2)
    system = pickle.dumps({"protocol_version": 1001, "little_endian": True, "type_sizes": {}}, 2)
    return head + system + pickled + pickle.dumps(list(keys), 2) + numbers


def rewritten(path, target, change):
    """A copy of a torch zip file with another pickle."""
    with zipfile.ZipFile(path) as file:
        root = file.namelist()[0].partition("/")[0]
        data = change(file.read(f"{root}/data.pkl"))
        records = [(name, file.read(name)) for name in file.namelist() if "/data/" in name]
    target.write_bytes(zipped(data, records, root=root))
    return target


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def number(value):
    return b"J" + struct.pack("<i", value) if abs(value) < 1 << 31 else b"\x8a\x08" + struct.pack("<q", value)


def numbers(*values):
    return b"(" + b"".join(map(number, values)) + b"t"


def tensor(shape=(2,), stride=(1,), offset=0, count=2, key="0", kind=b"ctorch\nFloatStorage\n"):
    """The pickled description of one tensor."""
    storage = b"(" + text("storage") + kind + text(key) + text("cpu") + number(count) + b"tQ"
    inner = storage + number(offset) + numbers(*shape) + numbers(*stride) + b"\x89" + b"ccollections\nOrderedDict\n)R"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + inner + b"tR"


def state(*described):
    items = b"".join(text(f"t{i}") + one for i, one in enumerate(described))
    return b"\x80\x02}(" + items + b"u."


EIGHT = [("0", bytes(8))]
TOUCH = text(f"touch {CANARY}")
CALLS = {
    "reduce": b"cos\nsystem\n(" + TOUCH + b"tR",
    "posix": b"cposix\nsystem\n(" + TOUCH + b"tR",
    "subprocess": b"csubprocess\nPopen\n(]" + text("touch") + b"a" + text(CANARY) + b"atR",
    "eval": b"cbuiltins\neval\n(" + text(f"open('{CANARY}','w')") + b"tR",
    "exec of python 2": b"c__builtin__\nexec\n(" + text(f"open('{CANARY}','w')") + b"tR",
    "open": b"cbuiltins\nopen\n(" + text(CANARY) + text("w") + b"tR",
    "getattr chain": b"cbuiltins\ngetattr\n(cbuiltins\n__import__\n("
    + text("os")
    + b"tR"
    + text("system")
    + b"tR("
    + TOUCH
    + b"tR",
    "inst": b"(" + TOUCH + b"ios\nsystem\n",
    "obj": b"(cos\nsystem\n" + TOUCH + b"o",
    "newobj": b"csubprocess\nPopen\n" + TOUCH + b"\x85\x81",
    "newobj_ex": b"csubprocess\nPopen\n" + TOUCH + b"\x85}\x92",
    "build with a state": b"ctorch.nn.modules.module\nModule\n)\x81}" + text("__class__") + b"cos\nsystem\nsb",
    "setstate of an allowed class": b"ccollections\nOrderedDict\n)R}" + text("__setstate__") + b"cos\nsystem\nsb",
    "stack global": b"\x8c\x02os\x8c\x06system\x93" + TOUCH + b"\x85R",
    "stack global with a dotted name": b"\x8c\x05torch\x8c\x09os.system\x93" + TOUCH + b"\x85R",
    "extension registry": b"\x82\x01" + TOUCH + b"\x85R",
    "pickle in a pickle": b"ctorch.storage\n_load_from_bytes\n(C\x02N.tR",
    "torch.load": b"ctorch\nload\n(" + text(CANARY) + b"tR",
    "numpy.load": b"cnumpy\nload\n(" + text(CANARY) + b"tR",
    "partial": b"cfunctools\npartial\n(cos\nsystem\n" + TOUCH + b"tR",
    "operator": b"coperator\nmethodcaller\n(" + text("system") + TOUCH + b"tR",
    "runpy": b"crunpy\nrun_path\n(" + text(CANARY) + b"tR",
    "pip": b"cpip\nmain\n(]" + text("install") + b"atR",
    "logging": b"clogging\nFileHandler\n(" + text(CANARY) + b"tR",
    "whole module": b"cultralytics.nn.tasks\nDetectionModel\n)\x81",
    "import by a lookalike": b"cpytorch_lightning\nos\n(" + TOUCH + b"tR",
    "typing trick": b"ctyping\nget_type_hints\n(" + TOUCH + b"tR",
    "type function of a tensor": b"ctorch._tensor\n_rebuild_from_type_v2\n(cos\nsystem\nctorch\nTensor\n(" + TOUCH + b"tNtR",
    "token as function of a tensor": b"ctorch._tensor\n_rebuild_from_type_v2\n(cargparse\nNamespace\nctorch\nTensor\n)NtR",
    "call of a text": text("os.system") + TOUCH + b"\x85R",
    "sparse tensor": b"ctorch._utils\n_rebuild_sparse_tensor\n)R",
    "persistent id of another kind": b"(" + text("module") + b"cos\nsystem\ntQ",
    "text persistent id": b"Pos.system\n",
    "out-of-band buffer": b"\x97",
}
BOMBS = {
    "memo index": b"\x80\x02Nr\xff\xff\xff\x7f0" * 1 + b"Nr\xff\xff\xff\xff" + b"h\x05.",
    "memo of a million": b"\x80\x02N" + b"".join(b"r" + struct.pack("<I", i) for i in range(1_000_000)) + b".",
    "a million dicts": b"\x80\x02" + b"}" * 1_000_000 + b".",
    "sets": b"\x80\x04" + b"\x8f" * 1_000_000 + b".",
    "four million instructions": b"\x80\x02" + b"N0" * 2_000_000 + b"N.",
    "texts": b"\x80\x02" + (text("x" * 1_000_000) + b"0") * 20 + b"N.",
    "deep lists": b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".",
    "deep tuples as a key": b"\x80\x02})" + b"\x85" * 100_000 + b"Ns.",
    "list in itself": b"\x80\x02]q\x00h\x00a.",
    "doubling lists": b"\x80\x02]q\x00"
    + b"".join(b"](h" + bytes([i]) + b"h" + bytes([i]) + b"eq" + bytes([i + 1]) for i in range(200))
    + b".",
    "colliding keys": b"\x80\x02}("
    + b"".join(b"\x8a\x0f" + ((i + 1) * ((1 << 61) - 1)).to_bytes(15, "little") + b"N" for i in range(9000))
    + b"u.",
    "long number": b"\x80\x02\x8b" + struct.pack("<i", 1_000_000) + b"\x7f" * 1_000_000 + b".",
    "many names": b"\x80\x02" + b"".join(b"comegaconf.a\nx%d\n0" % i for i in range(2000)) + b"N.",
    "endless name": b"\x80\x02c" + b"x" * 1_000_000,
    "declared text of 4 GiB": b"\x80\x02X\xff\xff\xff\xff",
    "declared bytes of 2^63": b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.",
    "50001 tensors": state(*[tensor()] * 50_001),
}
TENSORS = {
    "stride 0": tensor((1 << 20, 1 << 20), (0, 0)),
    "stride 0 in one dimension": tensor((2, 2), (0, 1)),
    "negative stride": tensor((2,), (-1,)),
    "gaps": tensor((2,), (2,), count=4),
    "beyond the storage": tensor((3,), (1,)),
    "offset beyond the storage": tensor((2,), (1,), offset=1),
    "negative offset": tensor((1,), (1,), offset=-1),
    "negative size": tensor((-1,), (1,)),
    "overflow": tensor((1 << 31, 1 << 31, 4), (1 << 33, 4, 1)),
    "huge dimension": tensor((1 << 40,), (1,)),
    "rank 9": tensor((1,) * 9, (1,) * 9),
    "fewer strides": tensor((2, 1), (1,)),
    "storage larger than its record": tensor(count=3),
    "storage smaller than its record": tensor((1,), count=1),
    "missing record": tensor(key="7"),
    "record elsewhere": tensor(key="../../etc/passwd"),
    "number as storage kind": tensor(kind=number(5)),
    "class as storage kind": tensor(kind=b"ccollections\nOrderedDict\n"),
}
GOOD = state(tensor())


def broken_zip(change):
    data = bytearray(zipped(GOOD, EIGHT))
    change(data)
    return bytes(data)


def patch(data, find, offset, value, last=False):
    at = data.rfind(find) if last else data.find(find)
    data[at + offset : at + offset + len(value)] = value


def bomb_of_zeros():
    return zipped(state(tensor((50 << 20,), (1,), count=50 << 20)), [("0", bytes(200 << 20))], compression=zipfile.ZIP_DEFLATED)


def tar():
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as file:
        info = tarfile.TarInfo("pickle")
        info.size = 10
        file.addfile(info, io.BytesIO(bytes(10)))
    return buffer.getvalue()


def second_directory():
    """Two archives behind one another: readers that look from the front and from the back see different ones."""
    return zipped(b"\x80\x02" + CALLS["reduce"] + b".") + zipped(GOOD, EIGHT)


CENTRAL, LOCAL, END = b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06"
CONTAINERS = {
    "deflated records": bomb_of_zeros,
    "deflated pickle": lambda: zipped(GOOD, EIGHT, compression=zipfile.ZIP_DEFLATED),
    "duplicate entry": lambda: duplicated(),
    "two roots": lambda: zipped(GOOD, EIGHT, extra=[("other/data/1", b"x")]),
    "strange entry": lambda: zipped(GOOD, EIGHT, extra=[("archive/payload.py", b"x")]),
    "path out of the archive": lambda: zipped(GOOD, EIGHT, extra=[("../data/1", b"x")]),
    "torchscript": lambda: zipped(GOOD, EIGHT, extra=[("archive/code/a.py", b"x")]),
    "torchscript constants": lambda: zipped(GOOD, EIGHT, extra=[("archive/constants.pkl", b"x")]),
    "no pickle": lambda: zipped(GOOD, EIGHT).replace(b"data.pkl", b"data/999"),
    "big endian": lambda: zipped(GOOD, EIGHT, extra=[("archive/byteorder", b"big")]),
    "wrong checksum": lambda: broken_zip(lambda data: patch(data, b"FloatStorage", 0, b"HalfStorage_")),
    "encryption flag": lambda: broken_zip(lambda data: patch(data, CENTRAL, 8, b"\x01\x00")),
    "name differs in the entry": lambda: broken_zip(lambda data: patch(data, LOCAL, 30, b"x")),
    "size differs in the entry": lambda: broken_zip(lambda data: patch(data, LOCAL, 22, b"\x01\x00\x00\x00")),
    "method differs in the entry": lambda: broken_zip(lambda data: patch(data, LOCAL, 8, b"\x08\x00")),
    "two sizes": lambda: broken_zip(lambda data: patch(data, CENTRAL, 20, b"\x01\x00\x00\x00")),
    "entry elsewhere": lambda: broken_zip(lambda data: patch(data, CENTRAL, 42, b"\x09\x00\x00\x00")),
    "entry beyond the file": lambda: broken_zip(lambda data: patch(data, CENTRAL, 42, b"\xff\xff\xff\x7f")),
    "more entries than there are": lambda: broken_zip(lambda data: patch(data, END, 8, b"\x09\x00\x09\x00")),
    "directory elsewhere": lambda: broken_zip(lambda data: patch(data, END, 16, b"\x09\x00\x00\x00")),
    "comment": lambda: broken_zip(lambda data: (patch(data, END, 20, b"\x02\x00"), data.extend(b"xx"))),
    "something in front": lambda: b"PK\x03\x04" + zipped(GOOD, EIGHT),
    "two archives": second_directory,
    "cut at the end": lambda: zipped(GOOD, EIGHT)[:-5],
    "cut in the middle": lambda: zipped(GOOD, EIGHT)[:90],
    "payload, then cut": lambda: zipped(b"\x80\x02" + CALLS["reduce"] + b"X\xff"),
    "payload behind the end": lambda: zipped(GOOD + CALLS["reduce"] + b"."),
    "tar": tar,
    "legacy with a payload": lambda: legacy(b"\x80\x02" + CALLS["reduce"] + b"."),
    "legacy cut": lambda: legacy(GOOD, ["0"], struct.pack("<q", 2) + bytes(4)),
    "legacy too long": lambda: legacy(GOOD, ["0"], struct.pack("<q", 2) + bytes(9)),
    "legacy other size": lambda: legacy(GOOD, ["0"], struct.pack("<q", 1 << 40) + bytes(8)),
    "legacy negative size": lambda: legacy(GOOD, ["0"], struct.pack("<q", -2) + bytes(8)),
    "legacy without its storage": lambda: legacy(GOOD),
    "legacy storage twice": lambda: legacy(GOOD, ["0", "0"], (struct.pack("<q", 2) + bytes(8)) * 2),
    "legacy of another protocol": lambda: legacy(GOOD).replace(b"M\xe9\x03", b"M\xe8\x03", 1),
    "plain pickle": lambda: pickle.dumps({"a": run()}),
    "pickle of protocol 0": lambda: b"cos\nsystem\n(S'touch " + CANARY.encode() + b"'\ntR.",
    "joblib-like": lambda: pickle.dumps(numpy.arange(3)),
    "git-lfs pointer": lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 4\n",
    "web page": lambda: b"\n<!DOCTYPE html><html>please log in</html>",
    "gguf": lambda: b"GGUF\x03\x00\x00\x00" + bytes(100),
    "zeros": lambda: bytes(5000),
    "noise": lambda: hashlib.sha512(b"x").digest() * 9,
    "no tensors": lambda: zipped(b"\x80\x02}."),
    "a number": lambda: zipped(b"\x80\x02K\x05."),
    "empty pickle": lambda: zipped(b""),
    "unbalanced": lambda: zipped(b"\x80\x02tttt."),
    "protocol 9": lambda: zipped(b"\x80\x09N."),
}


def duplicated():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("archive/data.pkl", GOOD)
        with pytest.warns(UserWarning, match="Duplicate"):
            file.writestr("archive/data.pkl", b"\x80\x02" + CALLS["reduce"] + b".")
        file.writestr("archive/data/0", bytes(8))
    return buffer.getvalue()


HOSTILE = {f"call: {name}": lambda code=code: zipped(b"\x80\x02}" + text("a") + code + b"s.") for name, code in CALLS.items()}
HOSTILE |= {
    f"legacy call: {name}": lambda code=code: legacy(b"\x80\x02}" + text("a") + code + b"s.") for name, code in CALLS.items()
}
HOSTILE |= {f"bomb: {name}": lambda code=code: zipped(code, EIGHT) for name, code in BOMBS.items()}
HOSTILE |= {f"tensor: {name}": lambda code=code: zipped(state(code), EIGHT) for name, code in TENSORS.items()}
HOSTILE |= {f"container: {name}": make for name, make in CONTAINERS.items()}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("suffix", [".ckpt"])
def test_refused_without_effect(name, suffix, tmp_path, monkeypatch):
    path = tmp_path / f"model{suffix}"
    path.write_bytes(HOSTILE[name]())
    monkeypatch.chdir(tmp_path)
    with bounded(seconds=2, mebibytes=256), pytest.raises(REFUSED) as caught:
        open_table(path)
    assert caught.value.advice
    assert path.name in caught.value.message
    assert os.listdir(tmp_path) == [path.name]


def test_the_builders_of_this_test_make_good_files(tmp_path):
    """Otherwise everything would be refused for a wrong reason."""
    for data in (zipped(GOOD, EIGHT), legacy(GOOD, ["0"], struct.pack("<q", 2) + bytes(8))):
        (tmp_path / "good.ckpt").write_bytes(data)
        assert torch.equal(open_table(tmp_path / "good.ckpt")["t0"].read(), torch.zeros(2))
    (tmp_path / "good.ckpt").write_bytes(zipped(GOOD, EIGHT))
    assert torch.equal(torch.load(tmp_path / "good.ckpt", weights_only=True)["t0"], torch.zeros(2))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("call: reduce", "'os.system'"),
        ("call: whole module", "ultralytics"),
        ("bomb: four million instructions", "instructions"),
        ("tensor: stride 0", "strides"),
        ("container: deflated records", "compressed"),
        ("container: duplicate entry", "twice"),
        ("container: wrong checksum", "checksum"),
        ("container: torchscript", "TorchScript"),
        ("container: tar", "tar"),
        ("container: web page", "web page"),
        ("container: git-lfs pointer", "git lfs pull"),
        ("container: gguf", "GGUF"),
        ("container: cut at the end", "incomplete"),
        ("container: plain pickle", "plain Python pickle"),
    ],
)
def test_the_reason_is_named(name, reason, tmp_path):
    path = tmp_path / "model.ckpt"
    path.write_bytes(HOSTILE[name]())
    with pytest.raises(REFUSED, match=reason):
        open_table(path)


def test_a_payload_would_have_worked(tmp_path):
    """The canary is alive: Python's own reader runs it."""
    path = tmp_path / "model.pkl"
    path.write_bytes(b"\x80\x02" + CALLS["reduce"] + b".")
    code = f"import pickle; pickle.load(open({str(path)!r}, 'rb'))"
    subprocess.run(["python3", "-c", code], cwd=tmp_path, check=True)
    assert (tmp_path / CANARY).exists()


def test_zip64(tmp_path):
    """Large files have a second, wider directory; small ones may."""
    data = bytearray(zipped(GOOD, EIGHT))
    end = data.rfind(END)
    count, size, offset = struct.unpack_from("<HII", data, end + 10)
    wide = struct.pack("<IQHHIIQQQQ", 0x06064B50, 44, 45, 45, 0, 0, count, count, size, offset)
    locator = struct.pack("<IIQI", 0x07064B50, 0, end, 1)
    (tmp_path / "a.ckpt").write_bytes(bytes(data[:end]) + wide + locator + bytes(data[end:]))
    assert isinstance(open_table(tmp_path / "a.ckpt")["t0"], LazyTensor)
    liar = wide.replace(struct.pack("<QQ", size, offset), struct.pack("<QQ", size, offset + 1))
    (tmp_path / "b.ckpt").write_bytes(bytes(data[:end]) + liar + locator + bytes(data[end:]))
    with pytest.raises(REFUSED):
        open_table(tmp_path / "b.ckpt")


def test_every_single_byte_of_a_file_may_be_wrong(tmp_path):
    """Flipping bytes gives a typed error or a table, never anything else."""
    path = tmp_path / "a.ckpt"
    for data in (zipped(GOOD, EIGHT), legacy(GOOD, ["0"], struct.pack("<q", 2) + bytes(8))):
        for position in range(0, len(data), 3):
            changed = bytearray(data)
            changed[position] ^= 0x55
            path.write_bytes(bytes(changed))
            try:
                table = open_table(path)
            except REFUSED:
                continue
            assert len(table) == 1
