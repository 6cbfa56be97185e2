"""Optimisers by name, and which weights they let decay."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import nn

from sfumato.registry import Registry
from sfumato.train.recipe import OptimizerSection

Groups = list[dict[str, object]]
"""Weights with what holds for them, as PyTorch's optimisers take them."""

optimizers: Registry[Callable[[Groups, OptimizerSection], torch.optim.Optimizer]] = Registry("optimiser")
"""Every optimiser by name; the loop sets the learning rate before each update."""


def groups_of(weights: Mapping[str, nn.Parameter], decay: float) -> Groups:
    """Two groups: matrices and filters decay; norms, biases and embeddings, most of whose rows are seldom seen, do not."""
    decaying = [w for name, w in weights.items() if w.ndim > 1 and "embedding" not in name]
    kept = {id(weight) for weight in decaying}
    others = [w for w in weights.values() if id(w) not in kept]
    return [{"params": some, "weight_decay": value} for some, value in ((decaying, decay), (others, 0.0)) if some]


def _adamw(groups: Groups, chosen: OptimizerSection) -> torch.optim.Optimizer:
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019)."""
    return torch.optim.AdamW(groups, lr=0.0, betas=chosen.betas, eps=chosen.eps, fused=True)


def _sgd(groups: Groups, chosen: OptimizerSection) -> torch.optim.Optimizer:
    """Gradient descent with momentum."""
    return torch.optim.SGD(groups, lr=0.0, momentum=chosen.betas[0])


def _adafactor(groups: Groups, chosen: OptimizerSection) -> torch.optim.Optimizer:
    """Adafactor (Shazeer and Stern 2018): the second mean is kept as row and column, for little memory."""
    return torch.optim.Adafactor(groups, lr=1.0)


optimizers.add("AdamW", _adamw)
optimizers.add("SGD", _sgd)
optimizers.add("Adafactor", _adafactor)
