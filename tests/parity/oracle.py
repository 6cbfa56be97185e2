"""Helpers for comparing our networks with the reference implementations on random weights."""

import os
from collections.abc import Mapping

import psutil
import pytest
import torch
from torch import Tensor, nn

from sfumato.engine.checkpoint.keys import rename

TOLERANCE = 1e-4
"""Largest difference allowed, as a part of the largest value of the reference."""


def randomise(module: nn.Module, seed: int) -> nn.Module:
    """Fill every parameter so that signals keep their size through any depth and no part is idle."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        # In place on the parameter itself: real sizes must not need memory twice.
        data = parameter.data.normal_(generator=generator)
        if parameter.ndim > 1:
            data.mul_(parameter[0].numel() ** -0.5)
        else:
            data.mul_(0.2)
    for child in module.modules():
        if isinstance(child, nn.GroupNorm | nn.LayerNorm):
            child.weight.data.add_(1.0)
        if isinstance(child, nn.Embedding):
            child.weight.data.mul_(child.weight.shape[1] ** 0.5)
    return module.eval()


def noise(*shape: int, seed: int) -> Tensor:
    """Standard normal numbers."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def adopt(ours: nn.Module, tensors: dict[str, Tensor]) -> nn.Module:
    """Give a module built on `meta` these tensors without copying; every name must fit."""
    ours.load_state_dict(tensors, strict=True, assign=True)
    return ours.eval()


def translate(ours: nn.Module, theirs: nn.Module, modules: Mapping[str, str]) -> dict[str, Tensor]:
    """Their tensors under our names, as views in our shapes; both sides must be used up.

    Args:
        modules: the product's own map from our module paths to theirs.
    """
    tensors = dict(theirs.state_dict())
    result = {name: tensors.pop(rename(name, modules)).view(wanted.shape) for name, wanted in ours.state_dict().items()}
    assert not tensors, f"parameters of the reference that have no place here: {sorted(tensors)[:5]}"
    return result


def assert_same(got: Tensor, want: Tensor) -> None:
    """Equal within the tolerance, and worth comparing: finite, and varying from place to place."""
    assert got.shape == want.shape
    assert torch.isfinite(want).all()
    scale = float(want.abs().max())
    assert float(want.std()) > 0.05 * scale > 0.0
    assert float((got - want).abs().max()) <= TOLERANCE * scale


def need_memory(gigabytes: float) -> None:
    """Skip where the machine has less memory to spare."""
    free = psutil.virtual_memory().available / 2**30
    if free < gigabytes:
        pytest.skip(f"needs {gigabytes} GiB of memory, {free:.1f} are free")


os.environ.setdefault("HF_HUB_OFFLINE", "1")
