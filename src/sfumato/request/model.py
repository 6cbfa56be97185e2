"""Parameters that say which networks make the picture, and what SDXL is told about it."""

from __future__ import annotations

from functools import partial
from typing import Literal

from pydantic import BaseModel

from sfumato.parameter import param

_param = partial(param, group="Model")
_sdxl = partial(param, group="SDXL")
_refiner = partial(param, group="Refiner")


class ModelParameters(BaseModel):
    """Checkpoint, VAE, refiner and the micro-conditions of SDXL."""

    model: str = _param(
        "",
        "Model",
        "Name or hash of the checkpoint; empty for the one in use.",
        max_length=1024,
        infotext="Model",
        a1111="sd_model_checkpoint",
    )
    vae: str = _param(
        "Automatic",
        "VAE",
        "Name of the VAE. Automatic takes the file beside the model, None the one inside it.",
        max_length=1024,
        infotext="VAE",
        a1111="sd_vae",
    )
    vae_encoder: Literal["Full", "TAESD"] = _param(
        "Full", "VAE encoder", "What turns pictures into latents.", infotext="VAE Encoder", a1111="sd_vae_encode_method"
    )
    vae_decoder: Literal["Full", "TAESD"] = _param(
        "Full", "VAE decoder", "What turns latents into pictures.", infotext="VAE Decoder", a1111="sd_vae_decode_method"
    )
    noise_schedule: Literal["Default", "Zero Terminal SNR"] = _param(
        "Default",
        "Noise schedule",
        "Zero Terminal SNR rescales the schedule so that the last timestep is pure noise (Lin et al. 2023).",
        infotext="Noise Schedule",
        a1111="sd_noise_schedule",
    )
    downcast_alphas_cumprod: bool = _param(
        False,
        "Half-precision noise schedule",
        "Rounds the cumulative alphas to 16 bits first, as early versions did.",
        infotext="Downcast alphas_cumprod",
        a1111="use_downcasted_alpha_bar",
    )

    refiner_checkpoint: str = _refiner(
        "",
        "Refiner",
        "Checkpoint that takes over during sampling; empty for none.",
        max_length=1024,
        infotext="Refiner",
        a1111="refiner_checkpoint",
    )
    refiner_switch_at: float = _refiner(
        0.8,
        "Refiner switch at",
        "Fraction of the noise schedule done when the refiner takes over; 1 never switches.",
        ge=0,
        le=1,
        step=0.01,
        infotext="Refiner switch at",
        a1111="refiner_switch_at",
    )
    refiner_switch_by_sampling_steps: bool = _refiner(
        False,
        "Switch by sampling steps",
        "Counts the fraction in steps instead of in model timesteps.",
        infotext="Refiner switch by sampling steps",
        a1111="refiner_switch_by_sample_steps",
    )

    sdxl_clip_l_skip: bool = _sdxl(
        False, "Clip skip for CLIP-L", "Applies clip skip to SDXL's first text encoder.", a1111="sdxl_clip_l_skip"
    )
    sdxl_crop_top: int = _sdxl(
        0, "Crop top", "Crop coordinate the model is told.", ge=0, le=16384, step=1, unit="px", a1111="sdxl_crop_top"
    )
    sdxl_crop_left: int = _sdxl(
        0, "Crop left", "Crop coordinate the model is told.", ge=0, le=16384, step=1, unit="px", a1111="sdxl_crop_left"
    )
    refiner_aesthetic_score: float = _sdxl(
        6.0,
        "Refiner aesthetic score",
        "Score the refiner is told together with the prompt.",
        ge=0,
        le=10,
        step=0.1,
        a1111="sdxl_refiner_high_aesthetic_score",
    )
    refiner_negative_aesthetic_score: float = _sdxl(
        2.5,
        "Refiner negative aesthetic score",
        "Score the refiner is told together with the negative prompt.",
        ge=0,
        le=10,
        step=0.1,
        a1111="sdxl_refiner_low_aesthetic_score",
    )
