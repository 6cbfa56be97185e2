"""The sizes of the starter model and of its smaller relatives: SD1's layout with narrow widths."""

from __future__ import annotations

import torch

from sfumato.engine.models.config import ModelSpec, TextConfig, TextEncoderSpec, UNetConfig, VAEConfig
from sfumato.engine.models.diffusion import DiffusionModel
from sfumato.registry import Registry

_PREFIX = "cond_stage_model.transformer."

architectures: Registry[ModelSpec] = Registry("architecture")
"""Every size by name."""


def unet(channels: int, mult: tuple[int, ...], attended: tuple[bool, ...], context: int, groups: int, blocks: int = 1) -> UNetConfig:
    """A UNet with the same number of residual blocks on every level and one transformer behind each of the attended levels."""
    depth = tuple(int(level) for level in attended for _ in range(blocks))
    depth_out = tuple(int(level) for level in reversed(attended) for _ in range(blocks + 1))
    return UNetConfig(
        model_channels=channels,
        channel_mult=mult,
        num_res_blocks=(blocks,) * len(mult),
        transformer_depth=depth,
        transformer_depth_middle=1,
        transformer_depth_output=depth_out,
        context_dim=context,
        num_heads=8,
        norm_num_groups=groups,
    )


def text(width: int, layers: int) -> tuple[TextEncoderSpec, ...]:
    """A text encoder with heads of 64."""
    config = TextConfig(width=width, layers=layers, heads=max(1, width // 64), mlp_width=4 * width)
    return (TextEncoderSpec(config, _PREFIX),)


# Groups of at least 8 channels: with fewer, GroupNorm takes away the absolute colour of flat pictures. The width of the
# context differs from that of every level, since hypernetworks are told apart by it.
architectures.add(
    "starter",
    ModelSpec(
        "sd1",
        unet(32, (2, 4, 5), (False, True, True), 192, 8),
        VAEConfig(ch=32, ch_mult=(1, 1, 2, 4), num_res_blocks=1, norm_num_groups=4),
        text(192, 6),
        size=256,
        title="Sfumato starter",
    ),
    "m",
)
architectures.add(
    "starter-xs",
    ModelSpec(
        "sd1",
        unet(32, (2, 3, 4), (False, True, True), 192, 8),
        VAEConfig(ch=32, ch_mult=(1, 1, 2, 4), num_res_blocks=1, norm_num_groups=4),
        text(192, 6),
        size=256,
        title="Sfumato starter XS",
    ),
    "xs",
)
architectures.add(
    "nano",
    ModelSpec(
        "sd1",
        unet(32, (2, 3), (True, True), 48, 8),
        VAEConfig(ch=16, ch_mult=(1, 1, 2, 2), num_res_blocks=1, norm_num_groups=2),
        text(48, 1),
        size=64,
        title="Sfumato nano",
    ),
)


def new_model(spec: ModelSpec, seed: int) -> DiffusionModel:
    """A model with the random weights that training starts from, the same for the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = DiffusionModel(spec)
        _zero_last_layers(model)
    return model


@torch.no_grad()
def _zero_last_layers(model: DiffusionModel) -> None:
    """Let every residual branch of the UNet begin as nothing (as in Ho et al. 2020), and token rows small."""
    for name, weight in model.unet.named_parameters():
        ends = ("out.2.weight", "out.2.bias", "out_layers.3.weight", "out_layers.3.bias", "proj_out.weight", "proj_out.bias")
        if name.endswith(ends):
            weight.zero_()
    for encoder in model.text_encoders:
        for name, weight in encoder.named_parameters():
            if name.endswith(("token_embedding.weight", "position_embedding.weight")):
                weight.normal_(0.0, 0.02)
