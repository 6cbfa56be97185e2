"""Parameters of the second, larger pass of text-to-image ("hires fix")."""

from __future__ import annotations

from functools import partial
from typing import Literal

from pydantic import BaseModel

from sfumato.parameter import param
from sfumato.request.prompt import MAX_PROMPT

_param = partial(param, group="Hires fix")


class HiresParameters(BaseModel):
    """A first pass at `width` x `height`, then a second one over the enlarged picture. Empty text means: as in the first pass."""

    enable_hr: bool = _param(False, "Hires fix", "Enlarges the picture and samples it again.", a1111="enable_hr")
    denoising_strength: float = _param(
        0.7,
        "Denoising strength",
        "How much of the enlarged picture the second pass may change.",
        ge=0,
        le=1,
        step=0.01,
        infotext="Denoising strength",
        a1111="denoising_strength",
    )
    hr_scale: float = _param(
        2.0, "Upscale by", "Factor of the enlargement.", ge=1, le=16, step=0.05, infotext="Hires upscale", a1111="hr_scale"
    )
    hr_upscaler: str = _param(
        "Latent", "Upscaler", "What enlarges the picture.", max_length=1024, infotext="Hires upscaler", a1111="hr_upscaler"
    )
    hr_second_pass_steps: int = _param(
        0,
        "Hires steps",
        "Steps of the second pass; 0 for as many as the first.",
        ge=0,
        le=1000,
        step=1,
        infotext="Hires steps",
        a1111="hr_second_pass_steps",
    )
    hr_resize_x: int = _param(
        0,
        "Resize width to",
        "Width after enlargement; 0 follows from the rest.",
        ge=0,
        le=16384,
        step=8,
        unit="px",
        a1111="hr_resize_x",
    )
    hr_resize_y: int = _param(
        0,
        "Resize height to",
        "Height after enlargement; 0 follows from the rest.",
        ge=0,
        le=16384,
        step=8,
        unit="px",
        a1111="hr_resize_y",
    )
    hr_checkpoint: str = _param(
        "",
        "Hires checkpoint",
        "Model of the second pass.",
        max_length=1024,
        infotext="Hires checkpoint",
        a1111="hr_checkpoint_name",
    )
    hr_sampler: str = _param(
        "", "Hires sampler", "Sampler of the second pass.", max_length=100, infotext="Hires sampler", a1111="hr_sampler_name"
    )
    hr_scheduler: str = _param(
        "",
        "Hires schedule type",
        "Schedule of the second pass.",
        max_length=100,
        infotext="Hires schedule type",
        a1111="hr_scheduler",
    )
    hr_prompt: str = _param(
        "",
        "Hires prompt",
        "Prompt of the second pass.",
        multiline=True,
        max_length=MAX_PROMPT,
        infotext="Hires prompt",
        a1111="hr_prompt",
    )
    hr_negative_prompt: str = _param(
        "",
        "Hires negative prompt",
        "Negative prompt of the second pass.",
        multiline=True,
        max_length=MAX_PROMPT,
        infotext="Hires negative prompt",
        a1111="hr_negative_prompt",
    )
    hr_cfg_scale: float | None = _param(
        None, "Hires CFG scale", "CFG scale of the second pass.", step=0.5, infotext="Hires CFG Scale"
    )
    hr_refiner_pass: Literal["first pass", "second pass", "both passes"] = _param(
        "second pass",
        "Refiner pass",
        "In which pass the refiner takes over.",
        infotext="Hires refiner",
        a1111="hires_fix_refiner_pass",
    )
    hr_token_merging_ratio: float = _param(
        0.0,
        "Hires token merging ratio",
        "Token merging ratio of the second pass.",
        ge=0,
        le=0.9,
        step=0.1,
        infotext="Token merging ratio hr",
        a1111="token_merging_ratio_hr",
        available=False,
    )
    hr_old_sizes: bool = _param(
        False,
        "Old hires sizes",
        "Width and height are those of the final picture; the first pass has the area of 512x512.",
        a1111="use_old_hires_fix_width_height",
    )
    hr_use_first_pass_prompt: bool = _param(
        False,
        "Reuse first-pass encodings",
        "The second pass uses the encodings (and prompt editing) of the first.",
        a1111="hires_fix_use_firstpass_conds",
    )
    first_pass_width: int = _param(
        0,
        "First-pass width",
        "When given, width is that of the final picture and this one of the first pass.",
        ge=0,
        le=16384,
        step=8,
        unit="px",
        a1111="firstphase_width",
    )
    first_pass_height: int = _param(
        0,
        "First-pass height",
        "When given, height is that of the final picture and this one of the first pass.",
        ge=0,
        le=16384,
        step=8,
        unit="px",
        a1111="firstphase_height",
    )
