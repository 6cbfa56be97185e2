"""Small models of every family, for tests of their text encoders."""

from dataclasses import replace

from tests.tiny import SD1, random_model

from sfumato.engine.models.config import TextConfig, TextEncoderSpec
from sfumato.engine.models.diffusion import DiffusionModel

CLIP = TextConfig(width=24, layers=4, heads=2, mlp_width=48)
BIG = replace(CLIP, layout="open_clip", width=40, mlp_width=80, activation="gelu", projection_dim=32, eos_padding=False)
SIZE_WIDTH = 8

SPECS = {
    "sd1": replace(SD1, unet=replace(SD1.unet, context_dim=24), text=(TextEncoderSpec(CLIP, "cond_stage_model.transformer."),)),
    "sd2": replace(
        SD1,
        family="sd2",
        unet=replace(SD1.unet, context_dim=40),
        text=(TextEncoderSpec(BIG, "cond_stage_model.model.", skip=2, skippable=False),),
    ),
    "sdxl": replace(
        SD1,
        family="sdxl",
        size=1024,
        adm="sdxl",
        unet=replace(SD1.unet, context_dim=64, adm_in_channels=32 + 6 * SIZE_WIDTH),
        text=(
            TextEncoderSpec(CLIP, "conditioner.embedders.0.transformer.", skip=2, final_norm=False, skippable=False),
            TextEncoderSpec(BIG, "conditioner.embedders.1.model.", skip=2, final_norm=False, pooled=True, skippable=False),
        ),
    ),
    "refiner": replace(
        SD1,
        family="sdxl-refiner",
        size=1024,
        adm="refiner",
        unet=replace(SD1.unet, context_dim=40, adm_in_channels=32 + 5 * SIZE_WIDTH),
        text=(TextEncoderSpec(BIG, "conditioner.embedders.0.model.", skip=2, final_norm=False, pooled=True, skippable=False),),
    ),
}


def small_model(family: str, seed: int = 0) -> DiffusionModel:
    """A model of a family with random weights."""
    return random_model(SPECS[family], seed)
