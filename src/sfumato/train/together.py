"""Several processes that train one model, or one process alone."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from sfumato.errors import Unsupported

if TYPE_CHECKING:
    from accelerate import Accelerator  # type: ignore[import-untyped,import-not-found,unused-ignore]


class Together(Protocol):
    """What a loop must know of the other processes."""

    @property
    def rank(self) -> int:
        """Number of this process, from 0; process 0 writes files."""
        ...

    @property
    def count(self) -> int:
        """How many there are."""
        ...

    @property
    def device(self) -> torch.device:
        """Where this process computes."""
        ...

    def mean(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors, in place, by their mean over all processes."""
        ...

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process; all get the same answer."""
        ...

    def wait(self) -> None:
        """Until all have come here."""
        ...


class Alone:
    """One process.

    Args:
        device: where it computes.
    """

    rank = 0
    count = 1

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)

    def mean(self, tensors: Sequence[Tensor]) -> None:
        """Nothing to do."""

    def any(self, flag: bool) -> bool:
        """The flag itself."""
        return flag

    def wait(self) -> None:
        """Nobody to wait for."""


class Accelerated:
    """The processes that `accelerate launch` started.

    Gradients are averaged by hand rather than by wrapping the model: targets call parts of their models in ways that a
    wrapper would not see.

    Raises:
        Unsupported: accelerate is not installed.
    """

    def __init__(self, *, cpu: bool = False) -> None:
        try:
            from accelerate import Accelerator
        except ImportError as error:
            advice = f"Install it: {sys.executable} -m pip install accelerate"
            raise Unsupported("Several processes need accelerate.", advice=advice) from error
        self._accelerator: Accelerator = Accelerator(cpu=cpu)

    @property
    def rank(self) -> int:
        """Number of this process."""
        return int(self._accelerator.process_index)

    @property
    def count(self) -> int:
        """How many processes there are."""
        return int(self._accelerator.num_processes)

    @property
    def device(self) -> torch.device:
        """Where this process computes."""
        return torch.device(self._accelerator.device)

    def mean(self, tensors: Sequence[Tensor]) -> None:
        """One exchange for all tensors: they travel as one long row."""
        if self.count == 1:
            return
        row = torch.cat([tensor.flatten() for tensor in tensors])
        mean = self._accelerator.reduce(row, reduction="mean")
        start = 0
        for tensor in tensors:
            tensor.copy_(mean[start : start + tensor.numel()].view_as(tensor))
            start += tensor.numel()

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process."""
        count = self._accelerator.reduce(torch.tensor(float(flag), device=self.device), reduction="sum")
        return bool(count > 0)

    def wait(self) -> None:
        """Until all have come here."""
        self._accelerator.wait_for_everyone()
