"""What is asked for, as frozen values: the same value travels over HTTP, into the database, to a worker and into the picture.

Every parameter is declared once, in the module of its subject; whatever shows, checks or writes parameters derives from the
declaration (see `sfumato.parameter`). Samplers, schedulers and models are plain names here: the engine knows which exist.
"""

from __future__ import annotations

import random
from typing import Self, TypeVar

from pydantic import ConfigDict, model_validator

from sfumato.parameter import Parameter, fields, parse, require_available
from sfumato.request.canvas import CanvasParameters
from sfumato.request.hires import HiresParameters
from sfumato.request.image_data import ImageData
from sfumato.request.model import ModelParameters
from sfumato.request.prompt import PromptParameters
from sfumato.request.sampling import MAX_SEED, GuidanceParameters, SamplerParameters, ScheduleParameters, SeedParameters
from sfumato.request.source import InpaintParameters, SourceParameters
from sfumato.sizes import HiresSizes, hires_sizes

__all__ = [
    "Generation",
    "ImageData",
    "Img2Img",
    "Parameter",
    "Txt2Img",
    "fields",
    "parse",
    "require_available",
    "resolve_seeds",
]

# Random seeds are drawn below this number, as in A1111.
_SEEDS = 4294967294

G = TypeVar("G", bound="Generation")


class Generation(
    # Pydantic lists fields from the last base to the first; this order is the one of forms and help.
    SeedParameters,
    ScheduleParameters,
    GuidanceParameters,
    SamplerParameters,
    ModelParameters,
    CanvasParameters,
    PromptParameters,
):
    """What text-to-image and image-to-image have in common."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True)

    @property
    def images(self) -> int:
        """How many pictures are asked for."""
        return self.batch_size * self.batch_count

    def image_seeds(self, index: int) -> tuple[int, int]:
        """Seed and variation seed of picture `index` (from 0, over all batches); the request's seeds must be resolved."""
        return self.seed + (index if self.subseed_strength == 0 else 0), self.subseed + index

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.guidance_start > self.guidance_end:
            raise ValueError(f"guidance_start ({self.guidance_start:g}) must not be above guidance_end ({self.guidance_end:g}).")
        if self.sigma_min and self.sigma_max and self.sigma_min >= self.sigma_max:
            raise ValueError(f"sigma_min ({self.sigma_min:g}) must be below sigma_max ({self.sigma_max:g}).")
        if max(self.seed, self.subseed) + self.images > MAX_SEED:
            raise ValueError(f"the seeds of {self.images} pictures must stay at or below {MAX_SEED}.")
        return self


class Txt2Img(HiresParameters, Generation):
    """A picture from words, with an optional second pass at a larger size."""

    @property
    def hires_sizes(self) -> HiresSizes:
        """The sizes of both passes; without hires fix both are the same."""
        if not self.enable_hr:
            return HiresSizes(self.width, self.height, self.width, self.height)
        return hires_sizes(
            self.width,
            self.height,
            scale=self.hr_scale,
            resize_x=self.hr_resize_x,
            resize_y=self.hr_resize_y,
            first_pass=(self.first_pass_width, self.first_pass_height) if self.first_pass_width else None,
            old=self.hr_old_sizes,
        )

    @model_validator(mode="after")
    def _one_way_to_size(self) -> Self:
        if bool(self.first_pass_width) != bool(self.first_pass_height):
            raise ValueError("first_pass_width and first_pass_height must be given together.")
        return self


class Img2Img(InpaintParameters, SourceParameters, Generation):
    """A picture from a picture and words."""


def resolve_seeds(request: G, rng: random.Random) -> G:
    """The request with random seeds (−1) replaced by numbers, so that it can be repeated.

    Args:
        rng: where the numbers come from; `random.SystemRandom()` outside tests.
    """
    update = {name: rng.randrange(_SEEDS) for name in ("seed", "subseed") if getattr(request, name) == -1}
    return request.model_copy(update=update) if update else request
