"""Weights that torch saved as a pickle (.ckpt, .pt, .bin), read without running anything that is in them.

Both layouts of torch.save are read: the zip file (since torch 1.6), and five pickles with the numbers behind them.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import torch

from sfumato.engine.checkpoint.limits import check_count, check_file_size, check_name, check_shape
from sfumato.engine.checkpoint.pickle_vm import Attributes, Global, Inert, PickleMachine
from sfumato.engine.checkpoint.sniff import sniff
from sfumato.engine.checkpoint.source import ByteSource
from sfumato.engine.checkpoint.table import LazyTensor, StoredTensor, TensorTable
from sfumato.engine.checkpoint.zip_layout import MAX_PICKLE, read_zip
from sfumato.errors import CorruptFile, SfumatoError, UnsafeFile, Unsupported

STORAGE_DTYPES: Mapping[str, torch.dtype] = MappingProxyType(
    {
        "DoubleStorage": torch.float64,
        "FloatStorage": torch.float32,
        "HalfStorage": torch.float16,
        "BFloat16Storage": torch.bfloat16,
        "LongStorage": torch.int64,
        "IntStorage": torch.int32,
        "ShortStorage": torch.int16,
        "CharStorage": torch.int8,
        "ByteStorage": torch.uint8,
        "BoolStorage": torch.bool,
        "UntypedStorage": torch.uint8,
    }
)
DTYPES = frozenset(
    ("float64", "double", "float32", "float", "float16", "half", "bfloat16", "float8_e4m3fn", "float8_e5m2", "bool")
) | frozenset(("int64", "long", "int32", "int", "int16", "short", "int8", "uint8", "uint16", "uint32", "uint64"))
INERT = frozenset(
    (
        "numpy.core.multiarray.scalar",
        "numpy._core.multiarray.scalar",
        "numpy.core.multiarray._reconstruct",
        "numpy._core.multiarray._reconstruct",
        "numpy.core.numeric._frombuffer",
        "numpy._core.numeric._frombuffer",
        "numpy.dtype",
        "numpy.ndarray",
        "_codecs.encode",
        "argparse.Namespace",
        "collections.Counter",
        "collections.defaultdict",
        "typing.Any",
        "torch.device",
        "torch.Tensor",
        "torch.nn.parameter.Parameter",
    )
)
INERT_PREFIXES = ("pytorch_lightning.callbacks.", "pytorch_lightning.utilities.", "lightning.pytorch.callbacks.", "omegaconf.")
"""Classes of training programs whose objects are dropped. Their modules are never imported."""
INERT_BUILTINS = frozenset(["int", "float", "str", "bool", "list", "tuple", "bytes", "bytearray", "complex", "object"])
MAX_DEPTH = 64
MAX_NAMES = 1000
LEGACY_PROTOCOL = 1001
REBUILD = "torch._utils._rebuild_tensor"


@dataclass(frozen=True, slots=True)
class Storage:
    """A run of numbers in the file.

    Attributes:
        dtype: as the pickle declares it; uint8 for untyped bytes.
        key: which record of the file.
        numel: how many numbers.
        start: where a view of a larger storage begins, in numbers (older layout).
    """

    dtype: torch.dtype
    key: str
    numel: int
    start: int = 0


def read_pickle(path: Path) -> object:
    """What a torch file holds: nested dicts, lists and tuples whose tensors are `LazyTensor`.

    Objects of training programs are there as `Inert` values without content. Keys are texts or whole numbers.

    Raises:
        CorruptFile: the file is cut or contradicts itself.
        UnsafeFile: it names code, or is beyond the bounds; nothing large was allocated.
        Unsupported: TorchScript, tar layout, sparse or quantised tensors.
    """
    container = sniff(path)
    if container not in ("zip", "legacy"):
        raise Unsupported(f"{path.name} is no pickle.", advice="Give a .ckpt, .pt or .bin file.")
    check_file_size(path)
    source = ByteSource(path)
    try:
        root = _read_zip(source) if container == "zip" else _read_legacy(source)
        _check_depth(root)
    except SfumatoError as error:
        source.close()
        error.args = (f"{path.name}: {error.message}",)
        error.message = error.args[0]
        raise
    return root


def read_pickle_table(path: Path) -> TensorTable:
    """The tensors of a torch file by name: those of its `state_dict` where there is one, nested dicts joined with dots.

    Raises:
        CorruptFile: there are no named tensors in it; otherwise as `read_pickle`.
    """
    root = read_pickle(path)
    state = root.get("state_dict", root) if isinstance(root, dict) else root
    tensors: dict[str, LazyTensor] = {}
    _collect(state, "", tensors, {})
    if not tensors:
        raise CorruptFile(f"{path.name} holds no named tensors.", advice="It is not a model, or only a part of one.")
    top = root if isinstance(root, dict) else {}
    metadata = {key: str(value) for key, value in top.items() if isinstance(key, str) and isinstance(value, (int, float, str))}
    return TensorTable(path, tensors, {key: value for key, value in metadata.items() if len(key) + len(value) < 1000})


def _collect(node: object, prefix: str, tensors: dict[str, LazyTensor], seen: dict[int, str]) -> None:
    """Walk nested dicts, each once however often it is referred to."""
    if not isinstance(node, dict) or id(node) in seen or prefix.count(".") > 8:
        return
    seen[id(node)] = prefix
    for key, value in node.items():
        if not isinstance(key, str):
            continue
        if isinstance(value, LazyTensor):
            check_name(prefix + key)
            check_count(len(tensors) + 1)
            tensors[prefix + key] = value
        elif isinstance(value, dict):
            _collect(value, f"{prefix}{key}.", tensors, seen)


def _check_depth(root: object) -> None:
    """Refuse cycles and deep nesting: what is returned may be walked without care. Linear in the number of references."""
    heights: dict[int, int] = {}
    open_ids: set[int] = set()
    path: list[tuple[object, Iterator[object]]] = [(root, _children(root))]
    while path:
        node, rest = path[-1]
        open_ids.add(id(node))
        child = next((item for item in rest if isinstance(item, (dict, list, tuple)) and id(item) not in heights), None)
        if child is not None:
            if id(child) in open_ids or len(path) > MAX_DEPTH:
                raise UnsafeFile(
                    "The objects in the file contain themselves or are nested too deeply.", advice="It is not a file of weights."
                )
            path.append((child, _children(child)))
            continue
        heights[id(node)] = 1 + max((heights.get(id(item), 0) for item in _children(node)), default=0)
        open_ids.discard(id(node))
        if heights[id(node)] > MAX_DEPTH:
            raise UnsafeFile("The objects in the file are nested too deeply.", advice="It is not a file of weights.")
        path.pop()


def _children(node: object) -> Iterator[object]:
    return iter(node.values()) if isinstance(node, dict) else iter(node) if isinstance(node, (list, tuple)) else iter(())


Place = Callable[[Storage, int, "tuple[int, ...]", "tuple[int, ...] | None", torch.dtype], LazyTensor]
"""Makes the tensor that lies in a storage at an offset, with a shape, strides (None: row-major) and dtype."""


class _Names:
    """What the names in a pickle stand for; each name is one `Global`, so that equal names are the same key."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._made: dict[str, Global] = {}
        self.tensors = 0

    def find(self, module: str, name: str) -> Global:
        """The meaning of a name, or UnsafeFile."""
        full = f"{module}.{name}"
        if full not in self._made:
            if len(self._made) >= MAX_NAMES:
                raise UnsafeFile(f"The pickle mentions more than {MAX_NAMES} names.", advice="It is not a file of weights.")
            self._made[full] = self._make(module, name, full)
        return self._made[full]

    def _make(self, module: str, name: str, full: str) -> Global:
        calls: Mapping[str, Callable[[tuple[object, ...]], object]] = {
            "collections.OrderedDict": _ordered,
            "torch._utils._rebuild_tensor": self._tensor,
            "torch._utils._rebuild_tensor_v2": self._tensor,
            "torch._utils._rebuild_tensor_v3": self._tensor_v3,
            "torch._utils._rebuild_parameter": lambda arguments: arguments[0],
            "torch._utils._rebuild_parameter_with_state": lambda arguments: arguments[0],
            "torch._tensor._rebuild_from_type_v2": self._from_type,
            "torch.Size": _size,
            "torch.nn.modules.container.ParameterDict": lambda _: Attributes(),
            "builtins.set": _set,
            "__builtin__.set": _set,
            "builtins.dict": _ordered,
            "__builtin__.dict": _ordered,
        }
        if full in calls:
            return Global(full, calls[full])
        if module in ("torch", "torch.storage", "torch.cuda") and name in STORAGE_DTYPES:
            return Global(full, value=STORAGE_DTYPES[name])
        if module == "torch" and name in DTYPES:
            return Global(full, value=getattr(torch, name))
        if full in INERT or full.startswith(INERT_PREFIXES) or (module in ("builtins", "__builtin__") and name in INERT_BUILTINS):
            return Global(full)
        raise UnsafeFile(
            f"The file wants to use {full[:120]!r} when it is opened.",
            advice="Weights have no business with that, so nothing was run. Get a safetensors version of the model.",
        )

    def _from_type(self, arguments: tuple[object, ...]) -> object:
        """A tensor that carried Python attributes; they are dropped."""
        function, inner = arguments[0], arguments[2]
        if not isinstance(function, Global) or not isinstance(inner, tuple) or not function.name.startswith(REBUILD):
            raise UnsafeFile("A tensor is made in an unknown way.", advice="It is not a file of weights.")
        return self._tensor_v3(inner) if function.name.endswith("_v3") else self._tensor(inner)

    def _tensor(self, arguments: tuple[object, ...]) -> LazyTensor:
        storage, offset, size, stride = arguments[:4]
        return self._checked(storage, offset, size, stride, None)

    def _tensor_v3(self, arguments: tuple[object, ...]) -> LazyTensor:
        storage, offset, size, stride = arguments[:4]
        return self._checked(storage, offset, size, stride, arguments[6])

    def _checked(self, storage: object, offset: object, size: object, stride: object, dtype: object) -> LazyTensor:
        """A tensor, after checking that it lies within its storage, every number of it once."""
        if (
            not isinstance(storage, Storage)
            or not isinstance(offset, int)
            or not isinstance(size, tuple)
            or not isinstance(stride, tuple)
        ):
            raise CorruptFile("A tensor in the file is described wrongly.", advice="The file is damaged.")
        self.tensors += 1
        check_count(self.tensors)
        shape = check_shape(size)
        strides = _dense(shape, stride)
        kind = dtype if isinstance(dtype, torch.dtype) else storage.dtype
        available = storage.numel * storage.dtype.itemsize
        begin = storage.start * storage.dtype.itemsize
        if offset < 0 or begin + (offset + math.prod(shape)) * kind.itemsize > available:
            raise CorruptFile(
                f"A tensor of shape {list(shape)} at {offset} does not fit its storage of {storage.numel} numbers.",
                advice="The file is damaged or hostile.",
            )
        return self._place(storage, offset, shape, strides, kind)


def _ordered(arguments: tuple[object, ...]) -> object:
    """An OrderedDict; Python 2 gave it its items as a list of pairs."""
    result: dict[object, object] = {}
    for pair in arguments[0] if arguments and isinstance(arguments[0], list) else ():
        if not isinstance(pair, (list, tuple)) or len(pair) != 2 or not isinstance(pair[0], str):
            raise CorruptFile("A dict in the file is described wrongly.", advice="The file is damaged.")
        result[pair[0]] = pair[1]
    return result


def _size(arguments: tuple[object, ...]) -> object:
    return arguments[0] if arguments and isinstance(arguments[0], tuple) else ()


def _set(arguments: tuple[object, ...]) -> object:
    return Inert("builtins.set") if arguments else set()


def _dense(shape: tuple[int, ...], stride: tuple[object, ...]) -> tuple[int, ...] | None:
    """The strides, or None where they are row-major.

    Raises:
        UnsafeFile: a stride of zero or below, or gaps or overlaps: 64 bytes could pretend to be a terabyte.
    """
    if len(shape) != len(stride):
        raise CorruptFile("A tensor has other strides than dimensions.", advice="The file is damaged.")
    sizes = [(step, size) for step, size in zip(stride, shape, strict=True) if size > 1]
    if math.prod(shape) == 0 or _row_major(sizes):
        return None
    expected = 1
    for step, size in sorted(sizes, key=lambda pair: pair[0] if isinstance(pair[0], int) else -1):
        if step != expected or not isinstance(step, int):
            raise UnsafeFile(
                f"A tensor of shape {list(shape)} has the strides {str(stride)[:60]}.",
                advice="Its numbers must lie side by side, each once; save the model again with contiguous tensors.",
            )
        expected *= size
    return tuple(int(step) if size > 1 and isinstance(step, int) else 1 for step, size in zip(stride, shape, strict=True))


def _row_major(sizes: list[tuple[object, int]]) -> bool:
    """Whether (stride, size) of all dimensions larger than 1 are those of a plain array."""
    expected = 1
    for step, size in reversed(sizes):
        if step != expected or not isinstance(step, int):
            return False
        expected *= size
    return True


def _persistent(identity: object) -> object:
    """What a persistent id stands for: a storage, or a module's class with its source, which is dropped."""
    if isinstance(identity, tuple) and len(identity) == 4 and identity[0] == "module" and isinstance(identity[1], Global):
        return identity[1]
    return _storage(identity)


def _storage(identity: object) -> Storage:
    """The storage that a persistent id names: ("storage", kind, key, device, count[, view])."""
    if not isinstance(identity, tuple) or len(identity) not in (5, 6) or identity[0] != "storage":
        raise UnsafeFile("The file refers to something that is no storage of numbers.", advice="It is not a file of weights.")
    kind, key, count = identity[1], identity[2], identity[4]
    if not isinstance(kind, torch.dtype) or not isinstance(key, str) or not isinstance(count, int) or not 0 <= count < 1 << 48:
        raise CorruptFile("A storage in the file is described wrongly.", advice="The file is damaged.")
    start = 0
    if len(identity) == 6 and identity[5] is not None:
        view = identity[5]
        if not isinstance(view, tuple) or len(view) != 3 or not all(isinstance(n, int) and n >= 0 for n in view[1:]):
            raise CorruptFile("A view of a storage is described wrongly.", advice="The file is damaged.")
        start, length = int(view[1]), int(view[2])
        if start + length > count:
            raise CorruptFile("A view reaches beyond its storage.", advice="The file is damaged or hostile.")
    return Storage(kind, key, count, start)


def _read_zip(source: ByteSource) -> object:
    data, records = read_zip(source)

    def place(
        storage: Storage, offset: int, shape: tuple[int, ...], stride: tuple[int, ...] | None, dtype: torch.dtype
    ) -> LazyTensor:
        record = records.get(storage.key)
        if record is None or record.size != storage.numel * storage.dtype.itemsize:
            raise CorruptFile(
                f"The storage {storage.key[:20]!r} is missing or has another size.", advice="The file is incomplete."
            )
        return StoredTensor(source, record.offset + offset * dtype.itemsize, shape, dtype, stride)

    machine = PickleMachine(data, _Names(place).find, _persistent)
    root = machine.run()
    if machine.position != len(data):
        raise UnsafeFile("There is something behind the end of the pickle.", advice="PyTorch does not write such files.")
    return root


def _read_legacy(source: ByteSource) -> object:
    """Magic number, protocol, system, object and storage keys as five pickles; then each storage's count and numbers."""
    data = source.read(0, min(source.size, MAX_PICKLE))
    placed: list[tuple[StoredTensor, Storage, int]] = []
    storages: dict[str, Storage] = {}

    def place(
        storage: Storage, offset: int, shape: tuple[int, ...], stride: tuple[int, ...] | None, dtype: torch.dtype
    ) -> LazyTensor:
        known = storages.setdefault(storage.key, storage)
        if (known.dtype, known.numel) != (storage.dtype, storage.numel):
            raise CorruptFile("A storage is described in two ways.", advice="The file is damaged.")
        tensor = StoredTensor(source, 0, shape, dtype, stride)
        placed.append((tensor, storage, storage.start * storage.dtype.itemsize + offset * dtype.itemsize))
        return tensor

    position = 0
    parts: list[object] = []
    for _ in range(5):
        machine = PickleMachine(data, _Names(place).find, _persistent, position)
        parts.append(machine.run())
        position = machine.position
    _, protocol, system, root, keys = parts
    if protocol != LEGACY_PROTOCOL or not isinstance(system, dict) or system.get("little_endian") is not True:
        raise Unsupported("The file is of an unknown version of PyTorch's older layout.", advice="Convert it to safetensors.")
    starts = _legacy_starts(source, position, keys, storages)
    for tensor, storage, offset in placed:
        if storage.key not in starts:
            raise CorruptFile("A storage is missing from the file.", advice="The file is incomplete.")
        tensor.position = starts[storage.key] + offset
    return root


def _legacy_starts(source: ByteSource, position: int, keys: object, storages: Mapping[str, Storage]) -> dict[str, int]:
    """Where each storage's numbers begin; they follow one another in the order of `keys`, each behind its count."""
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise CorruptFile("The list of storages is damaged.", advice="Copy or download the file again.")
    starts: dict[str, int] = {}
    for key in keys:
        storage = storages.get(key)
        if storage is None or key in starts:
            raise CorruptFile(f"The storage {key[:20]!r} is listed without a use, or twice.", advice="The file is damaged.")
        (count,) = struct.unpack("<q", source.read(position, 8))
        if count != storage.numel:
            raise CorruptFile(f"The storage {key[:20]!r} has another size than described.", advice="The file is damaged.")
        starts[key] = position + 8
        position += 8 + count * storage.dtype.itemsize
    if position != source.size:
        kind = "incomplete" if position > source.size else "longer than what it describes"
        raise CorruptFile(f"The file is {kind}: {source.size} bytes instead of {position}.", advice="Copy or download it again.")
    return starts
