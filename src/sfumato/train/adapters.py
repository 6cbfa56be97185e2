"""Low-rank adapters (LoRA, Hu et al. 2022): small differences of weights that learn while the weights stay as they are."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from sfumato.engine.checkpoint.keys import rename, unet_modules_of
from sfumato.engine.checkpoint.table import GivenTensor
from sfumato.engine.checkpoint.writer import write_safetensors
from sfumato.engine.models.layers import Linear, TokenConv
from sfumato.engine.models.transformer import SpatialTransformer
from sfumato.engine.models.unet import UNet


class LowRank(nn.Module):
    """What is added to one weight: up @ down * alpha / rank, zero at first.

    Args:
        weight: [out, in] or [out, in, 1, 1].
    """

    def __init__(self, weight: Tensor, rank: int, alpha: float) -> None:
        super().__init__()
        out_features, in_features = weight.shape[:2]
        self.down = nn.Parameter(weight.new_empty(rank, in_features))
        self.up = nn.Parameter(weight.new_zeros(out_features, rank))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))
        self.alpha, self.scale, self.on = alpha, alpha / rank, True

    def forward(self, weight: Tensor) -> Tensor:
        """The weight with its difference."""
        if not self.on:
            return weight
        return weight + (self.up @ self.down * self.scale).view_as(weight)


class Adapters:
    """Adapters on all projections of a UNet's transformers: the same places as kohya's.

    Args:
        unet: its weights are frozen.
        rank: of each difference.
        alpha: a factor of `alpha / rank` is applied to each.
    """

    def __init__(self, unet: UNet, rank: int, alpha: float) -> None:
        self._config = unet.config
        self._parts: dict[str, LowRank] = {}
        unet.requires_grad_(False)
        inside = [f"{name}." for name, module in unet.named_modules() if isinstance(module, SpatialTransformer)]
        for name, module in list(unet.named_modules()):
            if isinstance(module, Linear | TokenConv) and name.startswith(tuple(inside)):
                part = LowRank(module.weight, rank, alpha)
                parametrize.register_parametrization(module, "weight", part)
                self._parts[name] = part

    @property
    def weights(self) -> Mapping[str, nn.Parameter]:
        """Both matrices of every adapter, by name."""
        return {f"{name}.{key}": weight for name, part in self._parts.items() for key, weight in part.named_parameters()}

    @contextmanager
    def off(self) -> Iterator[None]:
        """The network as it was, for the length of a `with`."""
        for part in self._parts.values():
            part.on = False
        try:
            yield
        finally:
            for part in self._parts.values():
                part.on = True

    def save(self, path: Path, metadata: Mapping[str, str]) -> None:
        """Write them under kohya's names, which every program reads.

        Args:
            metadata: further texts for the header.
        """
        modules = unet_modules_of(self._config)
        tensors: dict[str, Tensor] = {}
        for name, part in self._parts.items():
            key = f"lora_unet_{(rename(name, modules) or name).replace('.', '_')}"
            extra = (1, 1) if self._is_convolution(name) else ()
            tensors[f"{key}.lora_down.weight"] = part.down.detach().reshape(*part.down.shape, *extra)
            tensors[f"{key}.lora_up.weight"] = part.up.detach().reshape(*part.up.shape, *extra)
            tensors[f"{key}.alpha"] = torch.tensor(part.alpha)
        first = next(iter(self._parts.values()))
        facts = {
            "format": "pt",
            "ss_network_module": "networks.lora",
            "ss_network_dim": str(first.down.shape[0]),
            "ss_network_alpha": str(first.alpha),
            "ss_base_model_version": "sd_v1",
            "modelspec.sai_model_spec": "1.0.1",
            "modelspec.architecture": "stable-diffusion-v1/lora",
        }
        write_safetensors(path, {key: GivenTensor(value) for key, value in tensors.items()}, metadata={**facts, **metadata})

    def _is_convolution(self, name: str) -> bool:
        return name.endswith((".proj_in", ".proj_out")) and not self._config.use_linear_projection
