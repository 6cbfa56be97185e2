"""From a request to passes: which models, samplers, prompts and sizes they have, and which pictures go together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache

from torch import Tensor

from sfumato.engine.autoencode import Codec
from sfumato.engine.material import Material
from sfumato.engine.memory import require_room
from sfumato.engine.models.diffusion import DiffusionModel
from sfumato.engine.passes import Drive, Pass, Refiner, new_plan
from sfumato.engine.prompt.comments import strip_comments
from sfumato.engine.prompt.extra_networks import extract_tags
from sfumato.engine.prompt.timeline import Clock
from sfumato.engine.sampling.plan import SamplingPlan
from sfumato.engine.sampling.samplers import Sampler, resolve, samplers
from sfumato.engine.variants import extra_channels
from sfumato.request import Generation, Txt2Img


class Planner:
    """Plans the passes of one request.

    Args:
        request: its seeds must be resolved.
        material: models and tools.

    Attributes:
        warnings: what the user should know before the work begins.

    Raises:
        NotFound: there is no such sampler, schedule or model.
    """

    def __init__(self, request: Generation, material: Material) -> None:
        self.request = request
        self.material = material
        self.model = material.model
        self.sampler, self.scheduler = resolve(request.sampler, request.scheduler)
        self.prompt, tags = self.cleaned(request.prompt)
        self.negative_prompt, _ = self.cleaned(request.negative_prompt)
        self.warnings: list[str] = []
        if tags and not request.disable_extra_networks:
            self.warnings.append(f"Networks are not applied by this version: {' '.join(tags)}.")
        self._refined = cache(self._load_refiner)

    def cleaned(self, prompt: str) -> tuple[str, list[str]]:
        """A prompt without comments and tags, and the tags as they were written."""
        text, tags = extract_tags(strip_comments(prompt) if self.request.enable_prompt_comments else prompt)
        return text, [str(tag) for tag in tags]

    def clock(self, sampler: str, steps: int | None = None) -> Clock:
        """What prompt schedules count by in the first pass, or in a second one of so many steps with its own sampler."""
        old = self.request.old_prompt_editing_timelines
        base = samplers[self.sampler].total_steps(self.request.steps)
        return Clock(base, None if steps is None else samplers[sampler].total_steps(steps), old)

    def new(self) -> Pass:
        """The pass that makes new pictures."""
        width, height = self.first_size()
        drive = self.drive(self.model, width, height, extra=extra_channels(self.model, height, width))
        plan = new_plan(self.request, self.model, self.sampler, self.scheduler)
        return Pass(drive, plan, self.refiner(drive) if self._refines_first_pass() else None)

    def codec(self, model: DiffusionModel) -> Codec:
        """What encodes and decodes the latents of a model."""
        return self.material.codec(self.request, model)

    def change(self, plan: SamplingPlan, width: int, height: int, extra: Tensor | None) -> Pass:
        """The pass that changes pictures of this size."""
        drive = self.drive(self.model, width, height, extra=extra)
        return Pass(drive, plan, self.refiner(drive))

    def drive(
        self,
        model: DiffusionModel,
        width: int,
        height: int,
        *,
        prompts: tuple[str, str] | None = None,
        clock: Clock | None = None,
        cfg_scale: float | None = None,
        extra: Tensor | None = None,
    ) -> Drive:
        """A model under prompts; those of the first pass where nothing else is said.

        Raises:
            OutOfMemory: such a picture cannot fit.
        """
        require_room(self.request, model, width, height)
        prompt, negative_prompt = prompts or (self.prompt, self.negative_prompt)
        return Drive(
            self.request,
            model,
            self.material.tokenizer,
            prompt,
            negative_prompt,
            clock or self.clock(self.sampler),
            width,
            height,
            self.request.cfg_scale if cfg_scale is None else cfg_scale,
            extra,
        )

    def refiner(self, base: Drive) -> Refiner | None:
        """The model that takes over from `base`, if the request names one."""
        request = self.request
        if not request.refiner_checkpoint or request.refiner_switch_at >= 1:
            return None

        @cache
        def drive() -> Drive:
            model = self._refined()
            extra = extra_channels(model, base.height, base.width)
            return self.drive(
                model,
                base.width,
                base.height,
                prompts=(base.prompt, base.negative_prompt),
                clock=base.clock,
                cfg_scale=base.cfg_scale,
                extra=extra,
            )

        return Refiner(drive, request.refiner_switch_at, request.refiner_switch_by_sampling_steps)

    def first_size(self) -> tuple[int, int]:
        """Width and height of the first pass."""
        if not isinstance(self.request, Txt2Img):
            return self.request.width, self.request.height
        sizes = self.request.hires_sizes
        return sizes.width, sizes.height

    def batches(self, *used: Sampler) -> Iterator[Sequence[int]]:
        """Which pictures are sampled together by these samplers, one for each pass.

        On the CPU each one is alone: a matrix product may round differently in another shape, and a picture must not depend
        on its company. There is nothing to gain from company there either.
        """
        alone = any(sampler.alone for sampler in used) or next(self.model.unet.parameters()).device.type == "cpu"
        size = 1 if alone else self.request.batch_size
        for start in range(0, self.request.images, self.request.batch_size):
            batch = range(start, start + self.request.batch_size)
            yield from (batch[at : at + size] for at in range(0, len(batch), size))

    def _load_refiner(self) -> DiffusionModel:
        return self.material.load(self.request.refiner_checkpoint)

    def _refines_first_pass(self) -> bool:
        """Whether the refiner takes part in the first pass; with hires fix it may wait for the second."""
        request = self.request
        return not (isinstance(request, Txt2Img) and request.enable_hr and request.hr_refiner_pass == "second pass")
