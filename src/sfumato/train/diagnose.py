"""Where numbers went bad: the first layer whose result is not finite, and the first weight whose gradient is not."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook

from sfumato.train.target import Batch, Target


def first_bad_layer(target: Target, batch: Batch, seed: int) -> str | None:
    """Run the loss once more and name the first layer that gives NaN or infinity; None where no layer does."""
    found: list[nn.Module] = []

    def look(module: nn.Module, inputs: object, result: object) -> None:
        if not found and isinstance(result, Tensor) and not bool(torch.isfinite(result).all()):
            found.append(module)

    hook = register_module_forward_hook(look)
    try:
        with torch.no_grad():
            target.loss(batch, seed)
    finally:
        hook.remove()
    return _name(found[0], target.weights) if found else None


def _name(module: nn.Module, weights: Mapping[str, nn.Parameter]) -> str:
    """The path of a module, known from that of one of its weights; its kind where it has none that learn."""
    own = {id(weight): name for name, weight in module.named_parameters()}
    for name, weight in weights.items():
        if id(weight) in own:
            return name.removesuffix(f".{own[id(weight)]}")
    return type(module).__name__


def first_bad_gradient(weights: Mapping[str, nn.Parameter]) -> str | None:
    """The first weight with a gradient that is not finite."""
    for name, weight in weights.items():
        if weight.grad is not None and not bool(torch.isfinite(weight.grad).all()):
            return name
    return None
