"""The shapes of the models that are trained from nothing here; the layout is SD1's, only widths and depths are smaller."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from sfumato.engine.models.blocks import ResBlock
from sfumato.engine.models.config import ModelSpec, TextConfig, TextEncoderSpec, UNetConfig, VAEConfig
from sfumato.engine.models.diffusion import DiffusionModel
from sfumato.engine.models.transformer import SpatialTransformer
from sfumato.engine.models.vision import VisionConfig
from sfumato.registry import Registry
from sfumato.train.target import seeded

_TEXT_PREFIX = "cond_stage_model.transformer."


@dataclass(frozen=True, slots=True)
class Architecture:
    """A model of the starter world and the image encoder that its text encoder is taught with."""

    spec: ModelSpec
    vision: VisionConfig


architectures: Registry[Architecture] = Registry("architecture")
"""What recipes can name."""

# Traps that decided these numbers: group norms of 32 groups would see one channel each, so groups are few; a multiple other
# than 1 at the first level cannot be said in the diffusers layout; the text's width must differ from that of every
# self-attention, as hypernetworks are kept by it.
architectures.add(
    "starter",
    Architecture(
        ModelSpec(
            "sd1",
            UNetConfig(
                model_channels=64,
                channel_mult=(1, 2, 3),
                num_res_blocks=(1, 1, 1),
                transformer_depth=(0, 1, 1),
                transformer_depth_middle=1,
                transformer_depth_output=(1, 1, 1, 1, 0, 0),
                context_dim=160,
                num_heads=8,
                norm_num_groups=8,
            ),
            VAEConfig(ch=32, ch_mult=(1, 1, 2, 4), num_res_blocks=1, norm_num_groups=4),
            (TextEncoderSpec(TextConfig(width=160, layers=6, heads=5, mlp_width=640), _TEXT_PREFIX),),
            size=256,
            title="Sfumato starter",
        ),
        VisionConfig(64, 8, width=192, layers=6, heads=3, mlp_width=768, projection_dim=160),
    ),
)
architectures.add(
    "nano",
    Architecture(
        ModelSpec(
            "sd1",
            UNetConfig(
                model_channels=32,
                channel_mult=(1, 2),
                num_res_blocks=(1, 1),
                transformer_depth=(1, 1),
                transformer_depth_middle=1,
                transformer_depth_output=(1, 1, 1, 1),
                context_dim=48,
                num_heads=8,
                norm_num_groups=4,
            ),
            VAEConfig(ch=8, ch_mult=(1, 2, 4, 4), num_res_blocks=1, norm_num_groups=1),
            (TextEncoderSpec(TextConfig(width=48, layers=1, heads=3, mlp_width=96), _TEXT_PREFIX),),
            size=64,
            title="Sfumato nano",
        ),
        VisionConfig(64, 16, width=48, layers=1, heads=3, mlp_width=96, projection_dim=48),
    ),
)


def new_model(spec: ModelSpec, seed: int) -> DiffusionModel:
    """A model with first weights.

    The UNet's branches and its result begin at zero, so that it begins as the identity and learns block by block (Dhariwal
    and Nichol 2021); text embeddings begin as small as OpenAI's.
    """
    with seeded(seed):
        model = DiffusionModel(spec)
        for module in model.unet.modules():
            if isinstance(module, ResBlock):
                _zero(module.out_layers[-1])
            elif isinstance(module, SpatialTransformer):
                _zero(module.proj_out)
        _zero(model.unet.out[-1])
        for encoder in model.text_encoders:
            small_embeddings(encoder)
    return model


def small_embeddings(module: nn.Module) -> None:
    """Draw the tables of tokens and positions anew, as small as OpenAI's were at first."""
    for part in module.modules():
        if isinstance(part, nn.Embedding):
            nn.init.normal_(part.weight, std=0.02)


def _zero(module: nn.Module) -> None:
    for weight in module.parameters():
        nn.init.zeros_(weight)
