"""Parameters of image-to-image: the source picture, the mask and soft inpainting."""

from __future__ import annotations

import re
from functools import partial
from typing import Literal

from pydantic import BaseModel, field_validator

from sfumato.parameter import param
from sfumato.request.image_data import ImageData

_source = partial(param, group="Source picture")
_inpaint = partial(param, group="Inpainting", available=False)
_soft = partial(param, group="Soft inpainting", available=False)


class SourceParameters(BaseModel):
    """The picture to start from, and what is kept of it."""

    init_images: tuple[ImageData, ...] = _source(
        (),
        "Source pictures",
        "The pictures to start from; a batch goes through them in turn.",
        max_length=256,
        a1111="init_images",
    )
    denoising_strength: float = _source(
        0.75,
        "Denoising strength",
        "How much of the source may change: 0 nothing, 1 everything.",
        ge=0,
        le=1,
        step=0.01,
        infotext="Denoising strength",
        a1111="denoising_strength",
    )
    resize_mode: Literal["just resize", "crop and resize", "resize and fill", "latent"] = _source(
        "just resize", "Resize mode", "How a source of another shape is brought to width and height.", a1111="resize_mode"
    )
    scale_by: float = _source(
        0.0,
        "Resize by",
        "Takes width and height from the source times this factor; 0 uses width and height as given.",
        ge=0,
        le=16,
        step=0.05,
    )
    upscaler: str = _source(
        "", "Upscaler", "What enlarges a small source; empty for Lanczos.", max_length=1024, a1111="upscaler_for_img2img"
    )
    background_color: str = _source(
        "#ffffff", "Background colour", "What shows through a transparent source.", max_length=9, a1111="img2img_background_color"
    )
    color_correction: bool = _source(
        False,
        "Colour correction",
        "Gives the result the colours of the source.",
        infotext="Color correction",
        a1111="img2img_color_correction",
        available=False,
    )
    fix_steps: bool = _source(
        False, "Exact steps", "Does as many steps as asked for, whatever the strength.", a1111="img2img_fix_steps"
    )
    initial_noise_multiplier: float = _source(
        1.0,
        "Noise multiplier",
        "Factor of the noise laid over the source.",
        ge=0,
        le=1.5,
        step=0.001,
        infotext="Noise multiplier",
        a1111="initial_noise_multiplier",
    )
    image_cfg_scale: float | None = _source(
        None,
        "Image CFG scale",
        "How strongly the source pulls; for instruct-pix2pix models.",
        step=0.05,
        infotext="Image CFG scale",
        a1111="image_cfg_scale",
        available=False,
    )

    @field_validator("background_color")
    @classmethod
    def _hex_color(cls, value: str) -> str:
        if not re.fullmatch(r"#[0-9a-fA-F]{6}", value):
            raise ValueError(f"{value!r} was given, but a colour is written #rrggbb.")
        return value.lower()


class InpaintParameters(BaseModel):
    """Where the source may change."""

    mask: ImageData | None = _inpaint(None, "Mask", "White where the picture may change.", a1111="mask")
    mask_blur_x: int = _inpaint(
        4, "Mask blur, x", "Softens the mask sideways.", ge=0, le=256, step=1, unit="px", a1111="mask_blur_x"
    )
    mask_blur_y: int = _inpaint(
        4, "Mask blur, y", "Softens the mask up and down.", ge=0, le=256, step=1, unit="px", a1111="mask_blur_y"
    )
    mask_round: bool = _inpaint(True, "Hard mask", "Rounds the mask to black and white.", a1111="mask_round")
    inpainting_fill: Literal["fill", "original", "latent noise", "latent nothing"] = _inpaint(
        "original", "Masked content", "What the masked area starts from.", infotext="Masked content", a1111="inpainting_fill"
    )
    inpaint_full_res: bool = _inpaint(
        False,
        "Inpaint only masked area",
        "Cuts out the masked area, works at full size, pastes back.",
        infotext="Inpaint area",
        a1111="inpaint_full_res",
    )
    inpaint_full_res_padding: int = _inpaint(
        32,
        "Padding",
        "Surroundings that are cut out with the masked area.",
        ge=0,
        le=1024,
        step=4,
        unit="px",
        infotext="Masked area padding",
        a1111="inpaint_full_res_padding",
    )
    inpainting_mask_invert: bool = _inpaint(
        False, "Invert mask", "Changes what is not masked.", infotext="Mask mode", a1111="inpainting_mask_invert"
    )
    inpainting_mask_weight: float = _inpaint(
        1.0,
        "Mask condition strength",
        "How strictly an inpainting model is told the mask.",
        ge=0,
        le=1,
        step=0.01,
        infotext="Conditional mask weight",
        a1111="inpainting_mask_weight",
    )
    overlay_inpaint: bool = _inpaint(
        True, "Overlay source", "Pastes the untouched source over what is not masked.", a1111="overlay_inpaint"
    )
    soft_inpainting: bool = _soft(
        False, "Soft inpainting", "Blends along the mask's grey values.", infotext="Soft inpainting enabled"
    )
    soft_schedule_bias: float = _soft(
        1.0,
        "Schedule bias",
        "When the source is kept: higher is later.",
        ge=0,
        le=8,
        step=0.1,
        infotext="Soft inpainting schedule bias",
    )
    soft_preservation_strength: float = _soft(
        0.5,
        "Preservation strength",
        "How strongly the source is kept.",
        ge=0,
        le=8,
        step=0.05,
        infotext="Soft inpainting preservation strength",
    )
    soft_transition_contrast: float = _soft(
        4.0,
        "Transition contrast boost",
        "How sharp the blend is.",
        ge=1,
        le=32,
        step=0.5,
        infotext="Soft inpainting transition contrast boost",
    )
    soft_mask_influence: float = _soft(
        0.0,
        "Mask influence",
        "How much the mask itself counts in the final blend.",
        ge=0,
        le=1,
        step=0.05,
        infotext="Soft inpainting mask influence",
    )
    soft_difference_threshold: float = _soft(
        0.5,
        "Difference threshold",
        "How much has to change before the result shows.",
        ge=0,
        le=8,
        step=0.25,
        infotext="Soft inpainting difference threshold",
    )
    soft_difference_contrast: float = _soft(
        2.0,
        "Difference contrast",
        "How sharp that threshold is.",
        ge=0,
        le=8,
        step=0.25,
        infotext="Soft inpainting difference contrast",
    )
