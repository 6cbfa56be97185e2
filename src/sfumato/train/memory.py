"""How much memory a run will need, found out before it starts."""

from __future__ import annotations

from dataclasses import dataclass

import psutil
import torch
from torch import Tensor

from sfumato.errors import OutOfMemory
from sfumato.train.recipe import Recipe
from sfumato.train.target import Source, Target

_MOST_OF_IT = 0.95


@dataclass(frozen=True, slots=True)
class Estimate:
    """Bytes of a run.

    Attributes:
        weights: what learns, its gradients, the optimiser's two means, and the averaged weights.
        activations: what the backward pass needs of the forward pass, for a whole batch.
    """

    weights: int
    activations: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.activations


def estimate(recipe: Recipe, target: Target, source: Source) -> Estimate:
    """Count the weights, and measure the activations of a batch of two samples; nothing is changed."""
    weights = sum(weight.numel() * weight.element_size() for weight in target.weights.values())
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    owned = {weight.untyped_storage().data_ptr() for weight in target.weights.values()}
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss = target.loss(source.batch(range(2)), recipe.seed)
    activations = sum(size for place, size in kept.items() if place not in owned)
    del loss
    return Estimate(weights * (5 if recipe.loop.ema else 4), activations * recipe.loop.batch // 2)


def check_memory(recipe: Recipe, target: Target, source: Source, device: torch.device) -> Estimate:
    """Refuse a run that does not fit.

    Raises:
        OutOfMemory: what it needs and what there is, with what would help.
    """
    needed = estimate(recipe, target, source)
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
    if needed.total > _MOST_OF_IT * free:
        per_sample = max(1, needed.activations // recipe.loop.batch)
        fitting = int((_MOST_OF_IT * free - needed.weights) // per_sample)
        advice = "Train a smaller model, or fewer of its weights (LoRA)."
        if fitting >= 1:
            times = -(-recipe.loop.batch // fitting)
            batch, accumulate = -(-recipe.loop.batch // times), recipe.loop.accumulate * times
            advice = f"Set loop.batch to {batch} and loop.accumulate to {accumulate}."
        raise OutOfMemory(f"This run needs about {needed.total >> 20} MiB and {free >> 20} MiB are free.", advice=advice)
    return needed
