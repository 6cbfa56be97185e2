"""What the targets that work on a whole model share: where it comes from."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from sfumato.engine.checkpoint.load import load, load_vae
from sfumato.engine.checkpoint.safetensors import read_safetensors
from sfumato.engine.models.diffusion import DiffusionModel
from sfumato.errors import InvalidRequest
from sfumato.train.recipe import Recipe
from sfumato.train.starter.architecture import architectures, new_model


def model_of(recipe: Recipe, device: torch.device) -> DiffusionModel:
    """The model that a recipe starts from: a checkpoint, or first weights of an architecture, with other parts put in.

    Raises:
        NotFound: there is no such architecture or file.
        CorruptFile, Unsupported: a file cannot be used.
        InvalidRequest: a part has another shape than the model's.
    """
    model = load(recipe.start) if recipe.start else new_model(architectures[recipe.architecture].spec, recipe.seed)
    if recipe.vae:
        _replace(model.vae, dict(load_vae(recipe.vae).state_dict()), "autoencoder", recipe)
    if recipe.text:
        table = read_safetensors(recipe.text)
        tensors = {name: tensor.read() for name, tensor in table.items() if name.startswith("text_model.")}
        _replace(model.text_encoders[0], tensors, "text encoder", recipe)
    return model.to(device=device, memory_format=torch.channels_last).requires_grad_(False)  # type: ignore[call-overload,no-any-return]


def _replace(part: nn.Module, tensors: dict[str, torch.Tensor], name: str, recipe: Recipe) -> None:
    try:
        part.load_state_dict(tensors)
    except RuntimeError as error:
        raise InvalidRequest(
            f"The {name} of recipe {recipe.name!r} does not fit its model.", advice="Both must have the same architecture."
        ) from error


def trainable(modules: Iterable[tuple[str, nn.Module]]) -> dict[str, nn.Parameter]:
    """Make all weights of some modules learn; by name, with the module's own name before it."""
    weights: dict[str, nn.Parameter] = {}
    for prefix, module in modules:
        module.requires_grad_(True)
        weights |= {f"{prefix}.{name}": weight for name, weight in module.named_parameters()}
    return weights
