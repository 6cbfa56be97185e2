"""Specifications of every family and variant at small widths, as detection should give them back."""

from dataclasses import replace

from sfumato.engine.checkpoint.family import families
from sfumato.engine.models.config import ModelSpec, TextConfig, TextEncoderSpec, UNetConfig, VAEConfig

VAE = VAEConfig(ch=32, ch_mult=(1, 2), num_res_blocks=1)
CLIP = TextConfig(width=64, layers=2, heads=1, mlp_width=128, vocab_size=50)
OPEN = TextConfig("open_clip", 50, 64, 3, 1, 128, 77, "gelu", 64, False)


def unet(**changes) -> UNetConfig:
    base = UNetConfig(
        model_channels=64,
        channel_mult=(1, 2),
        num_res_blocks=(1, 1),
        transformer_depth=(1, 1),
        transformer_depth_output=(1, 1, 1, 1),
        context_dim=64,
    )
    return replace(base, **changes)


LINEAR = {"num_heads": None, "head_dim": 64, "use_linear_projection": True}
XL = {**LINEAR, "transformer_depth": (0, 2), "transformer_depth_middle": 2, "transformer_depth_output": (2, 2, 0, 0)}


def text(family: str, *configs: TextConfig) -> tuple[TextEncoderSpec, ...]:
    rows = families[family].encoders
    return tuple(
        TextEncoderSpec(config, row.prefix, row.skip, row.final_norm, row.pooled, row.skippable)
        for config, row in zip(configs, rows, strict=True)
    )


def sd1(**changes) -> ModelSpec:
    return replace(ModelSpec("sd1", unet(), VAE, text("sd1", CLIP), title="Stable Diffusion 1"), **changes)


def sd2(**changes) -> ModelSpec:
    return replace(ModelSpec("sd2", unet(**LINEAR), VAE, text("sd2", OPEN), title="Stable Diffusion 2"), **changes)


def sdxl(**changes) -> ModelSpec:
    shapes = unet(**XL, context_dim=128, adm_in_channels=64 + 6 * 256)
    base = ModelSpec(
        "sdxl",
        shapes,
        replace(VAE, scale_factor=0.13025),
        text("sdxl", CLIP, OPEN),
        size=1024,
        adm="sdxl",
        title="Stable Diffusion XL",
    )
    return replace(base, **changes)


def refiner(**changes) -> ModelSpec:
    shapes = unet(**XL, adm_in_channels=64 + 5 * 256)
    base = ModelSpec(
        "sdxl-refiner",
        shapes,
        replace(VAE, scale_factor=0.13025),
        text("sdxl-refiner", OPEN),
        size=1024,
        adm="refiner",
        title="Stable Diffusion XL refiner",
    )
    return replace(base, **changes)


def variant(spec: ModelSpec, name: str, channels: int) -> ModelSpec:
    return replace(spec, variant=name, unet=replace(spec.unet, in_channels=channels), title=f"{spec.title} {name}")


def with_unet(spec: ModelSpec, **changes) -> ModelSpec:
    return replace(spec, unet=replace(spec.unet, **changes))


SPECS = {
    "sd1": sd1(),
    "sd1-inpaint": variant(sd1(), "inpaint", 9),
    "sd1-pix2pix": variant(sd1(), "pix2pix", 8),
    "sd2": sd2(),
    "sd2-inpaint": variant(sd2(), "inpaint", 9),
    "sd2-depth": variant(sd2(), "depth", 5),
    "sdxl": sdxl(),
    "sdxl-inpaint": variant(sdxl(), "inpaint", 9),
    "sdxl-pix2pix": variant(sdxl(), "pix2pix", 8),
    "refiner": refiner(),
    "ssd-1b": with_unet(
        sdxl(title="SSD-1B"),
        num_res_blocks=(2, 2),
        transformer_depth=(0, 0, 2, 2),
        transformer_depth_middle=0,
        transformer_depth_output=(2, 2, 1, 0, 0, 0),
    ),
    "three-levels": with_unet(
        sd1(),
        channel_mult=(1, 2, 4),
        num_res_blocks=(2, 1, 3),
        transformer_depth=(1, 1, 2, 0, 0, 0),
        transformer_depth_output=(0, 0, 0, 0, 2, 2, 1, 1, 1),
    ),
}
