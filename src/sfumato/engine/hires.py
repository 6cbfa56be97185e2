"""Hires fix: the pictures of a first pass, enlarged, are the start of a second one."""

from __future__ import annotations

import torch
from torch import Tensor

from sfumato.engine.models.diffusion import DiffusionModel
from sfumato.engine.passes import Pass, change_plan
from sfumato.engine.planning import Planner
from sfumato.engine.sampling.samplers import resolve
from sfumato.engine.upscale.image import upscale_to
from sfumato.engine.upscale.latent import LATENT_UPSCALERS
from sfumato.engine.variants import extra_channels
from sfumato.request import Txt2Img


class Hires:
    """The second pass of a request.

    Args:
        request: with `enable_hr`.
        planner: of the request.

    Attributes:
        second: the pass.

    Raises:
        NotFound: there is no such upscaler, sampler or model.
    """

    def __init__(self, request: Txt2Img, planner: Planner) -> None:
        self._request = request
        self._planner = planner
        self._sizes = request.hires_sizes
        self._latent = LATENT_UPSCALERS.get(request.hr_upscaler)
        self._upscaler = None if self._latent else planner.material.upscaler(request.hr_upscaler)
        self.second = self._plan(planner)

    @property
    def steps(self) -> int:
        """How many steps the second pass makes."""
        return self.second.steps

    def _plan(self, planner: Planner) -> Pass:
        request = self._request
        model = planner.material.load(request.hr_checkpoint) if request.hr_checkpoint else planner.model
        sampler, scheduler = resolve(request.hr_sampler or planner.sampler, request.hr_scheduler or request.scheduler)
        width, height = self._sizes.final
        steps = request.hr_second_pass_steps or request.steps
        prompts, clock = None, None
        if not request.hr_use_first_pass_prompt:
            prompts = (
                planner.cleaned(request.hr_prompt or request.prompt)[0],
                planner.cleaned(request.hr_negative_prompt or request.negative_prompt)[0],
            )
            clock = planner.clock(sampler, steps)
        drive = planner.drive(
            model,
            width,
            height,
            prompts=prompts,
            clock=clock,
            cfg_scale=request.hr_cfg_scale,
            extra=extra_channels(model, height, width),
        )
        plan = change_plan(request, model, sampler, scheduler, request.denoising_strength, explicit_steps=steps)
        return Pass(drive, plan, planner.refiner(drive) if request.hr_refiner_pass != "first pass" else None)

    @torch.inference_mode()
    def enlarged(self, latents: Tensor, model: DiffusionModel) -> Tensor:
        """The start of the second pass: latents [b, c, h, w] of the first at the size of the second.

        Args:
            latents: of the first pass.
            model: that made them.
        """
        sizes, cell = self._sizes, model.spec.vae.downsampling
        if self._latent:
            large = self._latent(latents, sizes.target_height // cell, sizes.target_width // cell)
        else:
            assert self._upscaler is not None, "it is one or the other"
            pictures = self._planner.codec(model).decode(latents)
            pictures = [upscale_to(each, sizes.target_width, sizes.target_height, self._upscaler) for each in pictures]
            large = self._planner.codec(self.second.drive.model).encode(pictures)
        top, left = sizes.cut_y // 2, sizes.cut_x // 2
        _, height, width = self.second.latent_shape
        return large[:, :, top : top + height, left : left + width]
