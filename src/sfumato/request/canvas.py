"""Parameters of size and number, and of what is shown or kept on the way."""

from __future__ import annotations

from functools import partial
from typing import Literal

from pydantic import BaseModel, field_validator

from sfumato.parameter import param

MAX_SIDE = 16384

_size = partial(param, group="Size")
_finish = partial(param, group="Finish")
_preview = partial(param, group="Preview")


class CanvasParameters(BaseModel):
    """How large, and how many. Width and height are floored to multiples of 8, one latent cell, as A1111 does."""

    width: int = _size(
        512, "Width", "Width of the picture; floored to a multiple of 8.", ge=16, le=MAX_SIDE, step=8, unit="px", a1111="width"
    )
    height: int = _size(
        512, "Height", "Height of the picture; floored to a multiple of 8.", ge=16, le=MAX_SIDE, step=8, unit="px", a1111="height"
    )
    batch_size: int = _size(1, "Batch size", "Pictures made at the same time.", ge=1, le=256, step=1, a1111="batch_size")
    batch_count: int = _size(1, "Batch count", "Batches made one after another.", ge=1, le=10000, step=1, a1111="n_iter")
    tiling: bool = _size(False, "Tiling", "Makes opposite borders fit together.", infotext="Tiling", a1111="tiling")
    extra_noise: float = _finish(
        0.0,
        "Extra noise",
        "Additional noise laid over the latents before the second pass or image-to-image.",
        ge=0,
        le=1,
        step=0.01,
        infotext="Extra noise",
        a1111="img2img_extra_noise",
    )
    restore_faces: bool = _finish(
        False, "Restore faces", "Repairs faces.", infotext="Face restoration", a1111="restore_faces", available=False
    )
    preview: Literal["none", "linear", "taesd", "full"] = _preview(
        "none", "Preview", "What shows the state of the picture between steps; full is slow.", a1111="show_progress_type"
    )
    preview_every: int = _preview(
        5, "Preview every", "Steps between previews.", ge=1, le=1000, step=1, unit="steps", a1111="show_progress_every_n_steps"
    )
    keep_steps: Literal["none", "strip", "animation"] = _preview(
        "none", "Keep steps", "Keeps the picture of every step, side by side or as an animation."
    )

    @field_validator("width", "height")
    @classmethod
    def _whole_cells(cls, value: int) -> int:
        return value - value % 8
