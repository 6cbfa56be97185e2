"""Tensors of a file that have a name, shape and dtype before any of their bytes is read."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from sfumato.engine.checkpoint.source import ByteSource
from sfumato.errors import CorruptFile

STAGING = 8 << 20
"""Bytes read at once where they must be converted: small enough to stay in the processor's cache."""


GRAIN = 32768
"""Elements from which torch copies with several threads. Copying is bound by memory, and the threads' meeting costs more than it
gains, on a busy machine milliseconds each time; so smaller pieces are copied one after the other."""


class LazyTensor(ABC):
    """A tensor that is still in its file.

    Attributes:
        shape: its dimensions.
        dtype: the type it is stored in.
        position: where its bytes begin; tensors are read in this order.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    position: int = 0

    @property
    def numel(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes that it takes in its own dtype."""
        return self.numel * self.dtype.itemsize

    def read(self, *, into: Tensor | None = None) -> Tensor:
        """The values, in fresh memory or in `into`.

        Args:
            into: of the same shape; any dtype (values are converted), memory layout and device.

        Returns:
            `into`, or a new contiguous CPU tensor of the stored dtype.

        Raises:
            CorruptFile: the file was cut after it was opened, or the shapes differ.
        """
        target = torch.empty(self.shape, dtype=self.dtype) if into is None else into
        if tuple(target.shape) != self.shape:
            raise CorruptFile(f"A tensor of shape {list(self.shape)} does not fit one of shape {list(target.shape)}.")
        self._fill(target)
        return target

    @abstractmethod
    def _fill(self, target: Tensor) -> None: ...

    def transposed(self) -> LazyTensor:
        """The matrix with rows and columns swapped."""
        return DerivedTensor(self, self.shape[::-1], lambda value: value.t())

    def reshaped(self, shape: tuple[int, ...]) -> LazyTensor:
        """The same elements under another shape of equal size."""
        return DerivedTensor(self, shape, lambda value: value.reshape(shape))

    def rows(self, start: int, stop: int) -> LazyTensor:
        """A range of the first dimension."""
        return DerivedTensor(self, (stop - start, *self.shape[1:]), lambda value: value[start:stop])


class StoredTensor(LazyTensor):
    """Contiguous elements in a file.

    Args:
        source: the file.
        position: offset of the first byte.
        shape, dtype: of the tensor.
        stride: in elements where the dimensions lie in another order than row-major; they must still be dense.
    """

    def __init__(
        self, source: ByteSource, position: int, shape: tuple[int, ...], dtype: torch.dtype, stride: tuple[int, ...] | None = None
    ) -> None:
        self.source, self.position, self.shape, self.dtype, self.stride = source, position, shape, dtype, stride

    def rows(self, start: int, stop: int) -> LazyTensor:
        """A range of the first dimension; nothing else is read."""
        if self.stride is not None:
            return super().rows(start, stop)
        row = math.prod(self.shape[1:]) * self.dtype.itemsize
        return StoredTensor(self.source, self.position + start * row, (stop - start, *self.shape[1:]), self.dtype)

    def reshaped(self, shape: tuple[int, ...]) -> LazyTensor:
        """The same elements under another shape of equal size."""
        if self.stride is not None:
            return super().reshaped(shape)
        return StoredTensor(self.source, self.position, shape, self.dtype)

    def _fill(self, target: Tensor) -> None:
        if self.numel == 0:
            return
        if self.stride is not None:
            flat = torch.empty(self.numel, dtype=self.dtype)
            self._read_flat(0, flat)
            target.copy_(flat.as_strided(self.shape, self.stride))
        elif target.dtype == self.dtype and target.device.type == "cpu" and target.is_contiguous() and self.dtype != torch.bool:
            self._read_flat(0, target.detach().view(-1))
        else:
            self._convert(target)

    def _convert(self, target: Tensor) -> None:
        """Piece by piece through a buffer that stays in the cache, so that memory is touched once."""
        shape = self.shape or (1,)
        rows, row = shape[0], self.numel // shape[0]
        step = max(1, STAGING // (row * self.dtype.itemsize))
        staging = torch.empty(min(step, rows) * row, dtype=self.dtype)
        target = target if self.shape else target.view(1)
        alone = max(1, (GRAIN - 1) // row)
        for start in range(0, rows, step):
            stop = min(start + step, rows)
            piece = staging[: (stop - start) * row]
            self._read_flat(start * row, piece)
            source = piece.view(stop - start, *shape[1:])
            for first in range(0, stop - start, alone):
                target[start + first : min(start + first + alone, stop)].copy_(source[first : first + alone])

    def _read_flat(self, start: int, flat: Tensor) -> None:
        raw = flat.view(torch.uint8)
        self.source.read_into(self.position + start * self.dtype.itemsize, memoryview(raw.numpy()))  # type: ignore[arg-type]
        if self.dtype == torch.bool:  # any other byte than 0 and 1 is not a valid bool in memory
            raw.clamp_(max=1)


class DerivedTensor(LazyTensor):
    """A rearrangement of another tensor, which is read whole."""

    def __init__(self, base: LazyTensor, shape: tuple[int, ...], rearrange: Callable[[Tensor], Tensor]) -> None:
        self.base, self.shape, self.dtype, self.position = base, shape, base.dtype, base.position
        self._rearrange = rearrange

    def _fill(self, target: Tensor) -> None:
        target.copy_(self._rearrange(self.base.read()))


class StackedTensor(LazyTensor):
    """Tensors behind one another in the first dimension."""

    def __init__(self, parts: tuple[LazyTensor, ...]) -> None:
        self.parts, self.dtype, self.position = parts, parts[0].dtype, parts[0].position
        self.shape = (sum(part.shape[0] for part in parts), *parts[0].shape[1:])

    def _fill(self, target: Tensor) -> None:
        start = 0
        for part in self.parts:
            part.read(into=target[start : start + part.shape[0]])
            start += part.shape[0]


class GivenTensor(LazyTensor):
    """A tensor that is in memory already."""

    def __init__(self, value: Tensor) -> None:
        self.value, self.shape, self.dtype = value, tuple(value.shape), value.dtype

    def _fill(self, target: Tensor) -> None:
        target.copy_(self.value)


class TensorTable(Mapping[str, LazyTensor]):
    """The named tensors of one file.

    Attributes:
        path: the file or folder it came from.
        metadata: texts that the file carries about itself.
        warnings: what is odd about the file but can be lived with, as sentences.
    """

    def __init__(
        self,
        path: Path,
        tensors: Mapping[str, LazyTensor],
        metadata: Mapping[str, str] | None = None,
        warnings: tuple[str, ...] = (),
    ) -> None:
        self.path, self.metadata, self.warnings = path, dict(metadata or {}), warnings
        self._tensors = dict(tensors)

    def __getitem__(self, name: str) -> LazyTensor:
        return self._tensors[name]

    def __contains__(self, name: object) -> bool:
        return name in self._tensors

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors as stored."""
        return sum(tensor.nbytes for tensor in self._tensors.values())

    def replaced(self, tensors: Mapping[str, LazyTensor], *warnings: str) -> TensorTable:
        """The same file's table with other names or tensors."""
        return TensorTable(self.path, tensors, self.metadata, self.warnings + warnings)

    def below(self, prefix: str) -> dict[str, LazyTensor]:
        """The tensors whose name begins with `prefix`, which is taken off."""
        return {name[len(prefix) :]: tensor for name, tensor in self._tensors.items() if name.startswith(prefix)}
