"""Guidance: from estimates under single conditions to the one that solvers step along."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeAlias, TypeVar

import torch
from torch import Tensor

from sfumato.engine.sampling.prediction import Evaluate, Prediction
from sfumato.engine.sampling.step import Denoise, Guided

C = TypeVar("C")

Timeline: TypeAlias = Sequence[tuple[int, C]]
"""Conditions over a run: (last evaluation, condition), ascending; at least one."""


def active(timeline: Timeline[C], call: int) -> C:
    """The condition after `call` evaluations: of the first entry that lasts as long; of the first of all when none does."""
    return next((cond for last, cond in timeline if call <= last), timeline[0][1])


@dataclass(frozen=True, slots=True)
class Conditions(Generic[C]):
    """What one picture is drawn towards and away from. The type of a condition is the network's affair.

    Attributes:
        parts: weight and timeline of each part of the prompt (several when it is composed with AND).
        uncond: timeline of the negative prompt.
        no_image: for models that edit a picture (instruct-pix2pix): the negative prompt without the picture, else None.
    """

    parts: tuple[tuple[float, Timeline[C]], ...]
    uncond: Timeline[C]
    no_image: Timeline[C] | None = None


@dataclass(frozen=True, slots=True)
class GuidanceOptions:
    """How strongly and when conditions pull.

    Attributes:
        scale: guidance scale; any number, 1 for none, negative ones push away.
        rescale: share of the guided estimate that is brought back to the spread of the conditional one (Lin et al. 2023).
        start, end: fractions of the run between which there is guidance (Kynkäänniemi et al. 2024); outside, the scale is 1.
        skip_early: up to this fraction of the run the negative prompt is not evaluated, 0 for never.
        s_min_uncond: below this sigma it is not evaluated at every second evaluation (NGMS), 0 for never. For the DDIM
            family `sample.denoiser` takes it for a timestep, as A1111 does.
        s_min_uncond_all: ... at none.
        image_scale: pull of the picture, for models that edit one.
    """

    scale: float = 7.0
    rescale: float = 0.0
    start: float = 0.0
    end: float = 1.0
    skip_early: float = 0.0
    s_min_uncond: float = 0.0
    s_min_uncond_all: bool = False
    image_scale: float = 1.5

    def scale_at(self, call: int, total: int) -> float:
        """The scale after `call` of `total` evaluations."""
        return self.scale if self.start <= call / total < self.end or (self.end >= 1 and call >= total) else 1.0

    def skips_uncond(self, sigma: float, call: int, total: int) -> bool:
        """Whether the negative prompt is left out at this evaluation."""
        if self.skip_early and call / total <= self.skip_early:
            return True
        return sigma < self.s_min_uncond and (self.s_min_uncond_all or call % 2 == 1)


def guide(
    evaluate: Evaluate[C],
    conditions: Sequence[Conditions[C]],
    options: GuidanceOptions,
    prediction: Prediction,
    *,
    total_calls: int,
    needs_uncond: bool = False,
) -> Denoise:
    """Classifier-free guidance (Ho & Salimans 2022) with composed prompts (Liu et al. 2022).

    The estimate is uncond + sum over the parts of weight * scale * (part - uncond). All evaluations of a step make one batch:
    the first parts of all pictures, then their second parts and so on, then the negative prompts, then those without the
    picture; so if all pictures have equally many, row r is of picture r modulo their number. Where the negative prompt is
    not evaluated, the first part stands for it; where it cannot matter (one part of weight 1 at scale 1) it is not.

    Args:
        evaluate: estimates under given conditions, see `Prediction.denoiser`.
        conditions: one per picture of the batch.
        options: see there.
        prediction: the model's, for the rescaling.
        total_calls: evaluations of the whole run as schedules count them, see `SamplingPlan.total_calls`.
        needs_uncond: always evaluate the negative prompt where it is not skipped by an option (CFG++).
    """
    total = max(total_calls, 1)

    def denoise(x: Tensor, sigma: float, call: int) -> Guided:
        scale = options.scale_at(call, total)
        skip = options.skips_uncond(sigma, call, total)
        wanted = [not skip and (needs_uncond or _matters(image, scale, options)) for image in conditions]
        rows: _Rows[C] = _Rows(call)
        places = _lay_out(rows, conditions, wanted, options)
        estimates = torch.split(evaluate(x[rows.images], sigma, rows.conds), 1)
        c_skip = prediction.scalings(sigma).c_skip
        guided, plain = [], []
        for i, (image, place) in enumerate(zip(conditions, places, strict=True)):
            picture = _Picture(
                image,
                [estimates[row] for row in place.parts],
                estimates[place.parts[0] if place.uncond is None else place.uncond],
                None if place.no_image is None else estimates[place.no_image],
                options,
            )
            guided.append(picture.guided(scale, x[i : i + 1] * c_skip))
            plain.append(picture.uncond)
        return Guided(torch.cat(guided), torch.cat(plain))

    return denoise


def _matters(image: Conditions[C], scale: float, options: GuidanceOptions) -> bool:
    """Whether the negative prompt has any part in the estimate of a picture."""
    single = len(image.parts) == 1 and image.parts[0][0] == 1
    return not (single and scale == 1) or (image.no_image is not None and options.image_scale != 1)


class _Rows(Generic[C]):
    """The rows of one evaluation: of which picture, under which condition."""

    def __init__(self, call: int) -> None:
        self.call = call
        self.images: list[int] = []
        self.conds: list[C] = []

    def add(self, image: int, timeline: Timeline[C]) -> int:
        """Add a row; its number."""
        self.images.append(image)
        self.conds.append(active(timeline, self.call))
        return len(self.images) - 1


@dataclass(slots=True)
class _Place:
    """The rows of one picture."""

    parts: list[int] = field(default_factory=list)
    uncond: int | None = None
    no_image: int | None = None


def _lay_out(
    rows: _Rows[C], conditions: Sequence[Conditions[C]], wanted: Sequence[bool], options: GuidanceOptions
) -> list[_Place]:
    """Add all rows of an evaluation in the order that `guide` promises; `wanted` says who needs the negative prompt."""
    places = [_Place() for _ in conditions]
    for part in range(max(len(image.parts) for image in conditions)):
        for i, image in enumerate(conditions):
            if part < len(image.parts):
                places[i].parts.append(rows.add(i, image.parts[part][1]))
    for i, image in enumerate(conditions):
        if wanted[i]:
            places[i].uncond = rows.add(i, image.uncond)
    for i, image in enumerate(conditions):
        if wanted[i] and image.no_image is not None and options.image_scale != 1:
            places[i].no_image = rows.add(i, image.no_image)
    return places


@dataclass(frozen=True, slots=True)
class _Picture(Generic[C]):
    """The estimates of one picture under each of its conditions, [1, c, h, w] each."""

    conditions: Conditions[C]
    parts: Sequence[Tensor]
    uncond: Tensor
    no_image: Tensor | None
    options: GuidanceOptions

    def guided(self, scale: float, skipped: Tensor) -> Tensor:
        """The estimate to follow; `skipped` is the part of it that is not the network's."""
        base = self.uncond
        if self.no_image is not None:
            base = self.no_image + (self.uncond - self.no_image) * self.options.image_scale
        if len(self.parts) == 1 and self.uncond is self.parts[0]:
            return base
        result = self._combined(base, scale)
        if not self.options.rescale or scale == 1:
            return result
        share = self.options.rescale
        return rescaled(result - skipped, self._combined(base, 1.0) - skipped, share) + skipped

    def _combined(self, base: Tensor, scale: float) -> Tensor:
        for (weight, _), part in zip(self.conditions.parts, self.parts, strict=True):
            base = base + (part - self.uncond) * (weight * scale)
        return base


def rescaled(guided: Tensor, conditional: Tensor, share: float) -> Tensor:
    """Bring the spread of guided predictions back to that of the conditional ones, equations 15 and 16 of Lin et al. 2023.

    Args:
        guided: network predictions [b, c, h, w] up to a common factor.
        conditional: those without guidance.
        share: 0 to leave `guided` as it is, 1 to rescale it fully.
    """
    dims = list(range(1, guided.ndim))
    factor = conditional.std(dims, keepdim=True) / guided.std(dims, keepdim=True)
    return guided * (factor * share + (1 - share))
