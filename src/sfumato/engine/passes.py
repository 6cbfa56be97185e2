"""One pass of sampling over a batch of pictures: prompts encoded, noise drawn, steps made; the refiner takes over where asked."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from sfumato.engine.models.diffusion import DiffusionModel
from sfumato.engine.models.tokenizer import Tokenizer
from sfumato.engine.predictor import Predictor
from sfumato.engine.prompt.conditioning import Padding, plan_prompts
from sfumato.engine.prompt.encode import Conditioning, EncodeOptions, PromptEncoder, Sizes
from sfumato.engine.prompt.timeline import Clock
from sfumato.engine.sampling.guidance import Conditions, GuidanceOptions
from sfumato.engine.sampling.noise import BatchNoise, ImageNoise, Seed
from sfumato.engine.sampling.plan import SamplingOptions, SamplingPlan, plan_from_image, plan_new
from sfumato.engine.sampling.prediction import Prediction
from sfumato.engine.sampling.sample import denoiser, noise_sampler, refiner_takes_over, run, start_from_image, start_new
from sfumato.engine.sampling.step import Denoise, Guided, Step
from sfumato.errors import NotANumber
from sfumato.request import Generation, Img2Img


@dataclass(frozen=True, eq=False)
class Drive:
    """A model under the prompts of one pass: what is computed once and serves all pictures.

    Attributes:
        request: the whole request.
        model: on its device.
        tokenizer: of the model.
        prompt, negative_prompt: without comments and tags.
        clock: what prompt schedules count by.
        width, height: of the pictures in pixels.
        cfg_scale: guidance scale.
        extra: channels beside the latents, for inpainting and instruct-pix2pix models, [1 or b, c, h, w], or None.
    """

    request: Generation
    model: DiffusionModel
    tokenizer: Tokenizer
    prompt: str
    negative_prompt: str
    clock: Clock
    width: int
    height: int
    cfg_scale: float
    extra: Tensor | None = None

    @cached_property
    def prediction(self) -> Prediction:
        """The model's prediction, on the noise schedule that the request asks for."""
        return prediction_of(self.request, self.model)

    @cached_property
    def conditions(self) -> Conditions[Conditioning]:
        """The prompts, encoded.

        Raises:
            NotANumber: a text encoder's weights are damaged.
        """
        request = self.request
        options = EncodeOptions(
            clip_skip=request.clip_skip,
            sdxl_clip_skip=request.sdxl_clip_l_skip,
            emphasis=request.emphasis,
            comma_backtrack=request.comma_padding_backtrack,
            sizes=Sizes.plain(self.height, self.width, crop=(request.sdxl_crop_top, request.sdxl_crop_left)),
            aesthetic_score=request.refiner_aesthetic_score,
            negative_aesthetic_score=request.refiner_negative_aesthetic_score,
        )
        padding: Padding = "last" if request.pad_cond_uncond_v0 else "empty" if request.pad_cond_uncond else "none"
        encoder = PromptEncoder(self.model, self.tokenizer, options)
        plan = plan_prompts(encoder, self.prompt, self.negative_prompt, self.clock, padding=padding)
        if not all(torch.isfinite(condition.hidden).all() for condition in plan):
            raise NotANumber(
                "The text encoder gave numbers that are not finite.",
                advice="Brackets within brackets multiply: take some out where there are hundreds. Otherwise the model may be"
                " damaged or too large for half precision: run with --no-half, or choose another model.",
            )
        return plan.conditions()

    @cached_property
    def network(self) -> Predictor:
        """The UNet; it keeps what its cross-attentions make of the conditions."""
        return Predictor(self.model, extra=self.extra)

    def encode(self) -> None:
        """Encode the prompts now rather than at the first step."""
        _ = self.conditions

    def denoise(self, plan: SamplingPlan, count: int) -> Denoise:
        """The denoiser of `count` pictures."""
        request = self.request
        guidance = GuidanceOptions(
            scale=self.cfg_scale,
            rescale=request.cfg_rescale,
            start=request.guidance_start,
            end=request.guidance_end,
            skip_early=request.skip_early_cfg,
            s_min_uncond=request.s_min_uncond,
            s_min_uncond_all=request.s_min_uncond_all,
        )
        return denoiser(plan, self.prediction, self.network, [self.conditions] * count, guidance)


@dataclass(frozen=True, slots=True, eq=False)
class Refiner:
    """The model that finishes what another began.

    Attributes:
        drive: gives it under its prompts; called when it takes over, not before.
        switch_at: part of the way, 0 to 1, after which it does.
        by_steps: the way is measured in steps rather than timesteps.
    """

    drive: Callable[[], Drive]
    switch_at: float
    by_steps: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Pass:
    """One way from noise to latents, for any of the request's pictures.

    Attributes:
        drive: the model that begins it.
        plan: which noise levels are gone through, with which sampler.
        refiner: that takes over, or None.
    """

    drive: Drive
    plan: SamplingPlan
    refiner: Refiner | None = None

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of the latents."""
        vae = self.drive.model.spec.vae
        return vae.embed_dim, self.drive.height // vae.downsampling, self.drive.width // vae.downsampling

    @property
    def steps(self) -> int:
        """How many steps it will make, as far as that is known before."""
        return expected_steps(self.plan)


def expected_steps(plan: SamplingPlan) -> int:
    """How many steps a plan will make, as far as that is known before."""
    return plan.yields or plan.steps


def prediction_of(request: Generation, model: DiffusionModel) -> Prediction:
    """The model's prediction, on the noise schedule that the request asks for."""
    spec = model.spec
    if request.noise_schedule == "Zero Terminal SNR":
        spec = replace(spec, zero_terminal_snr=True)
    return Prediction.of(spec, downcast=request.downcast_alphas_cumprod)


def sampling_options(request: Generation, model: DiffusionModel) -> SamplingOptions:
    """What the request changes about sampler and schedule."""
    return SamplingOptions(
        eta=request.eta,
        s_churn=request.s_churn,
        s_tmin=request.s_tmin,
        s_tmax=request.s_tmax,
        s_noise=request.s_noise,
        unipc_order=request.unipc_order,
        unipc_variant=request.unipc_variant,
        unipc_skip_type=request.unipc_skip_type,
        unipc_lower_order_final=request.unipc_lower_order_final,
        sigma_min=request.sigma_min,
        sigma_max=request.sigma_max,
        rho=request.rho,
        beta_alpha=request.beta_alpha,
        beta_beta=request.beta_beta,
        discard_penultimate_sigma=request.discard_penultimate_sigma,
        old_karras_sigmas=request.old_karras_sigmas,
        sgm_noise_multiplier=request.sgm_noise_multiplier,
        sdxl=model.spec.family.startswith("sdxl"),
    )


def new_plan(request: Generation, model: DiffusionModel, sampler: str, scheduler: str) -> SamplingPlan:
    """The plan of a new picture."""
    return plan_new(sampler, scheduler, request.steps, prediction_of(request, model), sampling_options(request, model))


def change_plan(
    request: Generation,
    model: DiffusionModel,
    sampler: str,
    scheduler: str,
    strength: float,
    *,
    fix_steps: bool = False,
    explicit_steps: int | None = None,
) -> SamplingPlan:
    """The plan of a change to a picture; see `plan_from_image`."""
    return plan_from_image(
        sampler,
        scheduler,
        request.steps,
        strength,
        prediction_of(request, model),
        sampling_options(request, model),
        fix_steps=fix_steps,
        explicit_steps=explicit_steps,
    )


def noise_of(
    request: Generation, shape: tuple[int, int, int], cell: int, indices: Sequence[int], device: torch.device
) -> BatchNoise:
    """The noise of some pictures of the request, each from its own seeds.

    Args:
        request: its seeds must be resolved.
        shape: of the latents, (c, h, w).
        cell: pixels per latent cell.
        indices: which pictures.
        device: where it shall be.
    """
    resize = (request.seed_resize_from_h // cell, request.seed_resize_from_w // cell)
    images = []
    for index in indices:
        seed, subseed = request.image_seeds(index)
        known = Seed(seed, subseed, request.subseed_strength, resize if min(resize) > 0 else None, request.eta_noise_seed_delta)
        images.append(ImageNoise(shape, known, source=request.rng, device=device))
    return BatchNoise(images)


def sample(pass_: Pass, indices: Sequence[int], latents: Tensor | None = None) -> Iterator[Step]:
    """Sample some pictures together; the last step's `x` [b, c, h, w] are their latents at the scale of the UNet.

    Args:
        pass_: see `Pass`.
        indices: which pictures of the request; their seeds follow from it.
        latents: clean latents [b, c, h, w] to change; None for new pictures.

    Raises:
        NotANumber: the network's estimate is not finite.
    """
    drive, plan = pass_.drive, pass_.plan
    request, device = drive.request, next(drive.model.unet.parameters()).device
    noise = noise_of(request, pass_.latent_shape, drive.model.spec.vae.downsampling, indices, device)
    if latents is None:
        start = start_new(plan, noise.first)
    else:
        multiplier = request.initial_noise_multiplier if isinstance(request, Img2Img) else 1.0
        start = start_from_image(
            plan, drive.prediction, latents, noise.first, noise_multiplier=multiplier, extra_noise=request.extra_noise
        )
    source = noise_sampler(plan, noise, per_batch=request.no_dpmpp_sde_batch_determinism)
    for step in run(plan, _denoise(pass_, len(indices)), start, source):
        if not math.isfinite(float(step.x.sum())):
            raise NotANumber(
                "The UNet gave numbers that are not finite.",
                advice="The model may be damaged or too large for half precision: run with --no-half, or lower the CFG scale.",
            )
        yield step


def _denoise(pass_: Pass, count: int) -> Denoise:
    """The denoiser of a pass; with a refiner, the one that takes over is made when it does."""
    drive, plan, refiner = pass_.drive, pass_.plan, pass_.refiner
    base = drive.denoise(plan, count)
    if refiner is None:
        return base
    finish: list[Denoise] = []

    def denoise(x: Tensor, sigma: float, call: int) -> Guided:
        levels, total = drive.prediction.levels, plan.total_calls
        if not refiner_takes_over(refiner.switch_at, sigma, levels, step=call, steps=total, by_steps=refiner.by_steps):
            return base(x, sigma, call)
        if not finish:
            finish.append(refiner.drive().denoise(plan, count))
        return finish[0](x, sigma, call)

    return denoise
