"""TAESD files: a small encoder and decoder of latents, each in a file of its own."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import torch

from sfumato.engine.checkpoint.load import assign
from sfumato.engine.checkpoint.open import open_table
from sfumato.engine.models.taesd import TinyDecoder, TinyEncoder

T = TypeVar("T", TinyEncoder, TinyDecoder)


def load_taesd(path: Path, kind: type[T], *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> T:
    """The encoder or decoder in a file; its width and number of latent channels follow from the file's shapes.

    Raises:
        NotFound, CorruptFile, UnsafeFile, Unsupported: as for `checkpoint.load.load`.
    """
    table = open_table(path)
    kernels = [tensor.shape for tensor in table.values() if len(tensor.shape) == 4]
    channels = max((shape[0] for shape in kernels), default=64)
    outer = [side for shape in kernels for side in shape[:2] if side not in (3, channels)]
    with torch.device("meta"):
        module = kind(outer[0] if outer else 4, channels)
    assign(module, table, dtype=dtype, device=torch.device(device), channels_last=True)
    return module
