"""Small models with random weights in the real layouts, for tests that need a whole model but not a good picture."""

from __future__ import annotations

import torch

from sfumato.engine.models.config import ModelSpec, TextConfig, TextEncoderSpec, UNetConfig, VAEConfig
from sfumato.engine.models.diffusion import DiffusionModel

_UNET = UNetConfig(
    model_channels=32,
    channel_mult=(1, 2),
    num_res_blocks=(1, 1),
    transformer_depth=(1, 1),
    transformer_depth_middle=1,
    transformer_depth_output=(1, 1, 1, 1),
    context_dim=64,
    num_heads=8,
    norm_num_groups=8,
)
_VAE = VAEConfig(ch=16, ch_mult=(1, 1, 2, 2), num_res_blocks=1, norm_num_groups=4)
_TEXT = TextConfig(width=64, layers=2, heads=1, mlp_width=128)

SD1 = ModelSpec("sd1", _UNET, _VAE, (TextEncoderSpec(_TEXT, "cond_stage_model.transformer."),), title="tiny")


def random_model(spec: ModelSpec = SD1, seed: int = 0) -> DiffusionModel:
    """A model whose weights keep the scale of their inputs, so that nothing explodes or dies on the way through."""
    model = DiffusionModel(spec)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                fan_in = parameter[0].numel()
                std = 0.02 if "embedding" in name else fan_in**-0.5
                parameter.normal_(std=std, generator=generator)
            elif name.endswith("bias"):
                parameter.normal_(std=0.02, generator=generator)
            else:
                parameter.normal_(mean=1.0, std=0.02, generator=generator)
    return model.eval().requires_grad_(False)
