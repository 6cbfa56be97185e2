"""A pickle machine that cannot run anything: it builds dicts, lists, tuples, numbers and texts, and asks a table for the rest.

No name in a pickle is ever imported. A global is looked up in `PickleMachine.known`; the few calls that torch's files need are
functions of ours, and every other known name stands for an inert token. Amounts are bounded before anything is allocated.

The opcodes are those that pickle writes for protocols 2 to 5 (Lib/pickletools.py of CPython documents them).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import NoReturn

from sfumato.errors import CorruptFile, UnsafeFile

MAX_OPERATIONS = 3_000_000
MAX_OBJECTS = 400_000
MAX_MEMO = 800_000
MAX_TEXT = 16 << 20
"""Characters of all texts together."""
MAX_KEPT_BYTES = 1 << 16
"""Longer byte strings (arrays of numbers, which nothing here reads) are replaced by empty ones."""
MAX_WHOLE = 16
"""Bytes of one whole number."""

Call = Callable[[tuple[object, ...]], object]


class Global:
    """A name that the pickle mentions: a token that can be compared and, where `call` is given, called.

    Attributes:
        name: module and name with a dot.
        call: what a call of it gives; None where it gives an inert value.
        value: what the name itself stands for, where it is more than a token.
    """

    __slots__ = ("call", "name", "value")

    def __init__(self, name: str, call: Call | None = None, value: object = None) -> None:
        self.name, self.call, self.value = name, call, value


class Inert:
    """An object whose class is not looked at and whose state is dropped."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name


class Attributes(dict[str, object]):
    """A dict that is filled by the state of the object it stands for (torch.nn.ParameterDict)."""


class Mark:
    """Separates what belongs to the next list, tuple or dict on the stack."""

    __slots__ = ()


MARK = Mark()


class PickleMachine:
    """One run over one pickle.

    Args:
        data: the bytes from which to read; several pickles may follow one another.
        known: finds the meaning of a global, or raises UnsafeFile.
        persistent: gives the storage that a persistent id stands for.
        position: where the pickle begins.

    Attributes:
        position: after `run`, where the pickle ended.
    """

    def __init__(
        self, data: bytes, known: Callable[[str, str], Global], persistent: Callable[[object], object], position: int = 0
    ) -> None:
        self.data, self.known, self.persistent, self.position = data, known, persistent, position
        self.stack: list[object] = []
        self.memo: dict[int, object] = {}
        self.objects = 0
        self.characters = 0

    def run(self) -> object:
        """The object that the pickle describes.

        Raises:
            CorruptFile: it is cut or malformed.
            UnsafeFile: it names something that weights have no business with, or is beyond the bounds.
        """
        table = _OPERATIONS
        data = self.data
        try:
            for _ in range(MAX_OPERATIONS):
                code = data[self.position]
                self.position += 1
                if code == 0x2E:  # STOP
                    return self.stack.pop()
                operation = table[code]
                if operation is None:
                    _refuse(code)
                operation(self)
        except (IndexError, KeyError, struct.error, TypeError, AttributeError, ValueError) as error:
            raise CorruptFile("The pickle in the file is cut or malformed.", advice="Copy or download the file again.") from error
        raise UnsafeFile(f"The pickle has more than {MAX_OPERATIONS} instructions.", advice="Weights do not need so many.")

    def take(self, length: int) -> bytes:
        """The next `length` bytes; CorruptFile where there are fewer."""
        end = self.position + length
        if length < 0 or end > len(self.data):
            raise CorruptFile("The pickle in the file is cut.", advice="Copy or download the file again.")
        piece = self.data[self.position : end]
        self.position = end
        return piece

    def whole(self, length: int) -> int:
        """The next `length` bytes as an unsigned number."""
        return int.from_bytes(self.take(length), "little")

    def create(self, value: object) -> None:
        """Push a new container, and count it."""
        self.objects += 1
        if self.objects > MAX_OBJECTS:
            raise UnsafeFile(f"The pickle makes more than {MAX_OBJECTS} objects.", advice="Weights do not need so many.")
        self.stack.append(value)

    def text(self, length: int) -> str:
        """The next `length` bytes as text, counted."""
        self.characters += length
        if self.characters > MAX_TEXT:
            raise UnsafeFile(f"The pickle holds more than {MAX_TEXT >> 20} MiB of text.", advice="Weights do not need so much.")
        return self.take(length).decode("utf-8", "replace")

    def raw(self, length: int) -> bytes:
        """The next `length` bytes; nothing of them where they are many, for nothing here reads them."""
        if length <= MAX_KEPT_BYTES:
            self.characters += length
            if self.characters > MAX_TEXT:
                raise UnsafeFile("The pickle holds too many bytes.", advice="Weights keep their numbers outside the pickle.")
            return self.take(length)
        if self.position + length > len(self.data):
            raise CorruptFile("The pickle in the file is cut.", advice="Copy or download the file again.")
        self.position += length
        return b""

    def line(self) -> str:
        """Text up to the end of the line, at most 200 bytes."""
        end = self.data.find(b"\n", self.position, self.position + 200)
        if end < 0:
            raise CorruptFile("The pickle in the file has an endless name.", advice="The file is damaged.")
        text = self.data[self.position : end].decode("utf-8", "replace")
        self.position = end + 1
        return text

    def since_mark(self) -> list[object]:
        """Take everything above the last mark off the stack, and the mark with it."""
        stack = self.stack
        index = len(stack) - 1
        while stack[index] is not MARK:
            index -= 1
            if index < 0:
                raise CorruptFile("The pickle in the file is malformed.", advice="The file is damaged.")
        items = stack[index + 1 :]
        del stack[index:]
        return items

    def remember(self, index: int) -> None:
        """Keep the top of the stack under a number; the memo is a dict, so a huge number costs nothing."""
        if len(self.memo) >= MAX_MEMO:
            raise UnsafeFile(f"The pickle remembers more than {MAX_MEMO} objects.", advice="Weights do not need so many.")
        self.memo[index] = self.stack[-1]

    def find(self, module: str, name: str) -> None:
        """Push what a global stands for."""
        found = self.known(module, name)
        self.stack.append(found if found.value is None else found.value)

    def call(self, function: object, arguments: object) -> None:
        """Push what a call gives."""
        if not isinstance(arguments, tuple) or not isinstance(function, Global):
            raise UnsafeFile("The pickle calls something that is no known name.", advice="It is not a file of weights.")
        self.create(Inert(function.name) if function.call is None else function.call(arguments))

    def fill(self, target: object, items: list[object]) -> None:
        """Set pairs of keys and values; keys may only be what hashes fast and without recursion."""
        if not isinstance(target, (dict, Inert)) or len(items) % 2:
            raise CorruptFile("The pickle in the file is malformed.", advice="The file is damaged.")
        if isinstance(target, dict):
            for key, value in zip(items[::2], items[1::2], strict=True):
                target[checked_key(key)] = value


def checked_key(key: object) -> object:
    """`key`, if it may be one: hostile keys collide or nest without end."""
    if isinstance(key, (str, Global, Inert, bool)) or key is None or (isinstance(key, int) and abs(key) < 1 << 53):
        return key
    raise UnsafeFile(
        f"The pickle has a dict key of the kind {type(key).__name__}.", advice="Weights are keyed by names or numbers."
    )


def _refuse(code: int) -> NoReturn:
    raise UnsafeFile(
        f"The pickle has the instruction {chr(code)!r}.", advice="PyTorch never writes it; the file is damaged or an attack."
    )


def _proto(vm: PickleMachine) -> None:
    if not 2 <= vm.whole(1) <= 5:
        raise CorruptFile("The pickle is of an unknown version.", advice="The file is damaged.")


def _frame(vm: PickleMachine) -> None:
    vm.take(8)


def _pop(vm: PickleMachine) -> None:
    vm.stack.pop()


def _pop_mark(vm: PickleMachine) -> None:
    vm.since_mark()


def _long1(vm: PickleMachine) -> None:
    length = vm.whole(1)
    if length > MAX_WHOLE:
        raise UnsafeFile(f"The pickle has a number of {length} bytes.", advice="Weights do not need such numbers.")
    vm.stack.append(int.from_bytes(vm.take(length), "little", signed=True))


def _bytearray8(vm: PickleMachine) -> None:
    vm.create(vm.raw(vm.whole(8)))


def _append(vm: PickleMachine) -> None:
    value = vm.stack.pop()
    _extend(vm.stack[-1], [value])


def _appends(vm: PickleMachine) -> None:
    items = vm.since_mark()
    _extend(vm.stack[-1], items)


def _extend(target: object, items: list[object]) -> None:
    if isinstance(target, list):
        target.extend(items)
    elif not isinstance(target, Inert):
        raise CorruptFile("The pickle in the file is malformed.", advice="The file is damaged.")


def _setitem(vm: PickleMachine) -> None:
    value, key = vm.stack.pop(), vm.stack.pop()
    vm.fill(vm.stack[-1], [key, value])


def _setitems(vm: PickleMachine) -> None:
    items = vm.since_mark()
    vm.fill(vm.stack[-1], items)


def _additems(vm: PickleMachine) -> None:
    items = vm.since_mark()
    target = vm.stack[-1]
    if not isinstance(target, set):
        raise CorruptFile("The pickle in the file is malformed.", advice="The file is damaged.")
    target.update(checked_key(item) for item in items)


def _dict(vm: PickleMachine) -> None:
    items = vm.since_mark()
    vm.create({})
    vm.fill(vm.stack[-1], items)


def _tuple_of(count: int) -> Callable[[PickleMachine], None]:
    def operation(vm: PickleMachine) -> None:
        if len(vm.stack) < count:
            raise CorruptFile("The pickle in the file is malformed.", advice="The file is damaged.")
        items = tuple(vm.stack[-count:])
        del vm.stack[-count:]
        vm.create(items)

    return operation


def _global(vm: PickleMachine) -> None:
    module = vm.line()
    vm.find(module, vm.line())


def _stack_global(vm: PickleMachine) -> None:
    name, module = vm.stack.pop(), vm.stack.pop()
    if not isinstance(name, str) or not isinstance(module, str):
        raise UnsafeFile("The pickle makes up a name that it wants to use.", advice="It is not a file of weights.")
    vm.find(module, name)


def _reduce(vm: PickleMachine) -> None:
    arguments = vm.stack.pop()
    vm.call(vm.stack.pop(), arguments)


def _newobj_ex(vm: PickleMachine) -> None:
    vm.stack.pop()
    _reduce(vm)


def _build(vm: PickleMachine) -> None:
    """State goes to parameter dicts only; everything else that has state has none that is needed."""
    state = vm.stack.pop()
    target = vm.stack[-1]
    if isinstance(target, Attributes) and isinstance(state, dict):
        held = state.get("_parameters")
        target.update({key: value for key, value in (held if isinstance(held, dict) else state).items() if isinstance(key, str)})


def _push(make: Callable[[PickleMachine], object]) -> Callable[[PickleMachine], None]:
    return lambda vm: vm.stack.append(make(vm))


def _new(make: Callable[[PickleMachine], object]) -> Callable[[PickleMachine], None]:
    return lambda vm: vm.create(make(vm))


_BY_CODE: Mapping[int, Callable[[PickleMachine], None]] = {
    0x80: _proto,
    0x95: _frame,
    0x28: _push(lambda vm: MARK),
    0x30: _pop,
    0x31: _pop_mark,
    0x32: _push(lambda vm: vm.stack[-1]),  # DUP
    0x71: lambda vm: vm.remember(vm.whole(1)),  # BINPUT
    0x72: lambda vm: vm.remember(vm.whole(4)),  # LONG_BINPUT
    0x94: lambda vm: vm.remember(len(vm.memo)),  # MEMOIZE
    0x68: _push(lambda vm: vm.memo[vm.whole(1)]),  # BINGET
    0x6A: _push(lambda vm: vm.memo[vm.whole(4)]),  # LONG_BINGET
    0x4E: _push(lambda vm: None),
    0x88: _push(lambda vm: True),
    0x89: _push(lambda vm: False),
    0x4B: _push(lambda vm: vm.whole(1)),  # BININT1
    0x4D: _push(lambda vm: vm.whole(2)),  # BININT2
    0x4A: _push(lambda vm: int.from_bytes(vm.take(4), "little", signed=True)),  # BININT
    0x8A: _long1,
    0x47: _push(lambda vm: struct.unpack(">d", vm.take(8))[0]),  # BINFLOAT
    0x58: _push(lambda vm: vm.text(vm.whole(4))),  # BINUNICODE
    0x8C: _push(lambda vm: vm.text(vm.whole(1))),  # SHORT_BINUNICODE
    0x8D: _push(lambda vm: vm.text(vm.whole(8))),  # BINUNICODE8
    0x54: _push(lambda vm: vm.text(vm.whole(4))),  # BINSTRING, of Python 2
    0x55: _push(lambda vm: vm.text(vm.whole(1))),  # SHORT_BINSTRING
    0x42: _push(lambda vm: vm.raw(vm.whole(4))),  # BINBYTES
    0x43: _push(lambda vm: vm.raw(vm.whole(1))),  # SHORT_BINBYTES
    0x8E: _push(lambda vm: vm.raw(vm.whole(8))),  # BINBYTES8
    0x96: _bytearray8,
    0x5D: _new(lambda vm: []),
    0x7D: _new(lambda vm: {}),
    0x8F: _new(lambda vm: set()),
    0x29: _push(lambda vm: ()),
    0x61: _append,
    0x65: _appends,
    0x73: _setitem,
    0x75: _setitems,
    0x90: _additems,
    0x91: _new(lambda vm: frozenset(checked_key(item) for item in vm.since_mark())),
    0x6C: _new(lambda vm: vm.since_mark()),  # LIST
    0x64: _dict,
    0x74: _new(lambda vm: tuple(vm.since_mark())),  # TUPLE
    0x85: _tuple_of(1),
    0x86: _tuple_of(2),
    0x87: _tuple_of(3),
    0x63: _global,
    0x93: _stack_global,
    0x52: _reduce,
    0x81: _reduce,  # NEWOBJ: a class and its arguments
    0x92: _newobj_ex,
    0x62: _build,
    0x51: _push(lambda vm: vm.persistent(vm.stack.pop())),  # BINPERSID
}
_OPERATIONS: tuple[Callable[[PickleMachine], None] | None, ...] = tuple(_BY_CODE.get(code) for code in range(256))
