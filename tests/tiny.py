"""Small models with random weights in the real layouts, for tests that need a whole model but not a good picture."""

from __future__ import annotations

from dataclasses import replace

import torch

from sfumato.engine.checkpoint.family import families
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
_OPEN = TextConfig("open_clip", 49408, 64, 3, 1, 128, 77, "gelu", 64, False)
_LINEAR = replace(_UNET, num_heads=None, head_dim=16, use_linear_projection=True)
_XL = replace(_LINEAR, transformer_depth=(0, 2), transformer_depth_middle=2, transformer_depth_output=(2, 2, 0, 0))
_VAE_XL = replace(_VAE, scale_factor=0.13025)


def _text(family: str, *configs: TextConfig) -> tuple[TextEncoderSpec, ...]:
    rows = families[family].encoders
    return tuple(
        TextEncoderSpec(config, row.prefix, row.skip, row.final_norm, row.pooled, row.skippable)
        for config, row in zip(configs, rows, strict=True)
    )


def variant(spec: ModelSpec, name: str, channels: int) -> ModelSpec:
    """The same model with more channels into its UNet."""
    unet = replace(spec.unet, in_channels=channels)
    return replace(spec, variant=name, unet=unet, title=f"{spec.title} {name}")  # type: ignore[arg-type]


SD1 = ModelSpec("sd1", _UNET, _VAE, (TextEncoderSpec(_TEXT, "cond_stage_model.transformer."),), title=families["sd1"].title)
SD2 = ModelSpec("sd2", _LINEAR, _VAE, _text("sd2", _OPEN), prediction="v", size=768, title=families["sd2"].title)
SDXL = ModelSpec(
    "sdxl",
    replace(_XL, context_dim=128, adm_in_channels=64 + 6 * 256),
    _VAE_XL,
    _text("sdxl", _TEXT, _OPEN),
    size=1024,
    adm="sdxl",
    title=families["sdxl"].title,
)
REFINER = ModelSpec(
    "sdxl-refiner",
    replace(_XL, adm_in_channels=64 + 5 * 256),
    _VAE_XL,
    _text("sdxl-refiner", _OPEN),
    size=1024,
    adm="refiner",
    title=families["sdxl-refiner"].title,
)
SPECS = {
    "sd1": SD1,
    "sd2": SD2,
    "sdxl": SDXL,
    "refiner": REFINER,
    "inpaint": variant(SD1, "inpaint", 9),
    "pix2pix": variant(SD1, "pix2pix", 8),
    "depth": variant(SD2, "depth", 5),
    "sdxl-inpaint": variant(SDXL, "inpaint", 9),
}


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
