"""Parameters of the sampler, its schedule, the guidance and the noise."""

from __future__ import annotations

from functools import partial
from typing import Literal

from pydantic import BaseModel

from sfumato.parameter import param

MAX_SEED = 2**63 - 1

_sampler = partial(param, group="Sampling")
_guidance = partial(param, group="Guidance")
_schedule = partial(param, group="Schedule")
_seed = partial(param, group="Seed")


class SamplerParameters(BaseModel):
    """The solver and its options."""

    sampler: str = _sampler(
        "DPM++ 2M", "Sampler", "Name of the sampling method.", max_length=100, infotext="Sampler", a1111="sampler_name"
    )
    scheduler: str = _sampler(
        "Automatic",
        "Schedule type",
        "How the noise levels are spaced; Automatic is the sampler's own choice.",
        max_length=100,
        infotext="Schedule type",
        a1111="scheduler",
    )
    steps: int = _sampler(
        20, "Sampling steps", "Number of denoising steps.", ge=1, le=1000, step=1, infotext="Steps", a1111="steps"
    )
    eta: float | None = _sampler(
        None,
        "Eta",
        "Amount of fresh noise: 1 for ancestral samplers and 0 for the DDIM family unless given.",
        ge=0,
        le=2,
        step=0.01,
        infotext="Eta",
        a1111="eta",
    )
    s_churn: float = _sampler(
        0.0, "Sigma churn", "Noise added and removed again.", ge=0, le=1000, step=0.01, infotext="Sigma churn", a1111="s_churn"
    )
    s_tmin: float = _sampler(
        0.0, "Sigma tmin", "Churn from this sigma upwards.", ge=0, le=1000, step=0.01, infotext="Sigma tmin", a1111="s_tmin"
    )
    s_tmax: float = _sampler(
        0.0,
        "Sigma tmax",
        "Churn up to this sigma; 0 for no limit.",
        ge=0,
        le=1000,
        step=0.01,
        infotext="Sigma tmax",
        a1111="s_tmax",
    )
    s_noise: float = _sampler(
        1.0, "Sigma noise", "Factor of the fresh noise.", ge=0, le=10, step=0.001, infotext="Sigma noise", a1111="s_noise"
    )
    unipc_variant: Literal["bh1", "bh2", "vary_coeff"] = _sampler(
        "bh1", "UniPC variant", "Form of B(h) in UniPC.", infotext="UniPC variant", a1111="uni_pc_variant"
    )
    unipc_skip_type: Literal["time_uniform", "time_quadratic", "logSNR"] = _sampler(
        "time_uniform", "UniPC skip type", "Spacing of UniPC's timesteps.", infotext="UniPC skip type", a1111="uni_pc_skip_type"
    )
    unipc_order: int = _sampler(
        3, "UniPC order", "Order of UniPC; at most the steps.", ge=1, le=50, step=1, infotext="UniPC order", a1111="uni_pc_order"
    )
    unipc_lower_order_final: bool = _sampler(
        True,
        "UniPC lower order final",
        "The last steps use a lower order.",
        infotext="UniPC lower order final",
        a1111="uni_pc_lower_order_final",
    )
    no_dpmpp_sde_batch_determinism: bool = _sampler(
        False,
        "Batch-dependent SDE noise",
        "Brownian samplers draw one noise for the whole batch, as early versions did.",
        a1111="no_dpmpp_sde_batch_determinism",
    )


class GuidanceParameters(BaseModel):
    """How prompt and negative prompt pull."""

    cfg_scale: float = _guidance(
        7.0,
        "CFG scale",
        "How strongly the prompt pulls; 1 turns guidance off, negative values push away.",
        step=0.5,
        infotext="CFG scale",
        a1111="cfg_scale",
    )
    cfg_rescale: float = _guidance(
        0.0,
        "CFG rescale",
        "Brings the guided prediction back to the spread of the conditional one (Lin et al. 2023); for v-prediction models.",
        ge=0,
        le=1,
        step=0.01,
        infotext="CFG rescale",
    )
    guidance_start: float = _guidance(
        0.0, "Guidance start", "Fraction of the steps before guidance begins.", ge=0, le=1, step=0.01, infotext="Guidance start"
    )
    guidance_end: float = _guidance(
        1.0, "Guidance end", "Fraction of the steps after which guidance ends.", ge=0, le=1, step=0.01, infotext="Guidance end"
    )
    s_min_uncond: float = _guidance(
        0.0,
        "Negative guidance minimum sigma",
        "Skips the negative prompt at every second step while sigma is below this.",
        ge=0,
        le=1000,
        step=0.01,
        infotext="NGMS",
        a1111="s_min_uncond",
    )
    s_min_uncond_all: bool = _guidance(
        False,
        "Negative guidance minimum sigma, all steps",
        "Skips it at all of those steps.",
        infotext="NGMS all steps",
        a1111="s_min_uncond_all",
    )
    skip_early_cfg: float = _guidance(
        0.0,
        "Ignore negative prompt early",
        "Fraction of the first steps without the negative prompt.",
        ge=0,
        le=1,
        step=0.01,
        infotext="Skip Early CFG",
        a1111="skip_early_cond",
    )
    token_merging_ratio: float = _guidance(
        0.0,
        "Token merging ratio",
        "Share of the tokens merged to save time.",
        ge=0,
        le=0.9,
        step=0.1,
        infotext="Token merging ratio",
        a1111="token_merging_ratio",
        available=False,
    )


class ScheduleParameters(BaseModel):
    """Changes to the noise levels; 0 keeps what sampler and model have."""

    sigma_min: float = _schedule(
        0.0,
        "Minimum sigma",
        "Lowest noise level; 0 for the model's.",
        ge=0,
        step=0.01,
        infotext="Schedule min sigma",
        a1111="sigma_min",
    )
    sigma_max: float = _schedule(
        0.0,
        "Maximum sigma",
        "Highest noise level; 0 for the model's.",
        ge=0,
        step=0.01,
        infotext="Schedule max sigma",
        a1111="sigma_max",
    )
    rho: float = _schedule(
        0.0,
        "Rho",
        "Exponent of the Karras schedules; 0 for their own.",
        ge=0,
        le=1000,
        step=0.1,
        infotext="Schedule rho",
        a1111="rho",
    )
    beta_alpha: float = _schedule(
        0.6,
        "Beta alpha",
        "First parameter of the Beta schedule.",
        ge=0.01,
        le=100,
        step=0.01,
        infotext="Beta schedule alpha",
        a1111="beta_dist_alpha",
    )
    beta_beta: float = _schedule(
        0.6,
        "Beta beta",
        "Second parameter of the Beta schedule.",
        ge=0.01,
        le=100,
        step=0.01,
        infotext="Beta schedule beta",
        a1111="beta_dist_beta",
    )
    discard_penultimate_sigma: bool = _schedule(
        False,
        "Discard penultimate sigma",
        "Leaves out the last but one noise level for every sampler.",
        infotext="Discard penultimate sigma",
        a1111="always_discard_next_to_last_sigma",
    )
    sgm_noise_multiplier: bool = _schedule(
        False,
        "SGM noise multiplier",
        "Starts from noise times sqrt(1 + sigma²) instead of sigma, as the reference code of SDXL does.",
        infotext="SGM noise multiplier",
        a1111="sgm_noise_multiplier",
    )
    old_karras_sigmas: bool = _schedule(
        False, "Old Karras sigmas", "Noise levels from 0.1 to 10, as early versions.", a1111="use_old_karras_scheduler_sigmas"
    )


class SeedParameters(BaseModel):
    """Where the noise comes from."""

    seed: int = _seed(
        -1,
        "Seed",
        "Number that fixes the noise; -1 draws one. Further pictures of a batch count up from it.",
        ge=-1,
        le=MAX_SEED,
        step=1,
        infotext="Seed",
        a1111="seed",
    )
    subseed: int = _seed(
        -1,
        "Variation seed",
        "Seed of the noise that is blended in; -1 draws one.",
        ge=-1,
        le=MAX_SEED,
        step=1,
        infotext="Variation seed",
        a1111="subseed",
    )
    subseed_strength: float = _seed(
        0.0,
        "Variation strength",
        "0 keeps the seed's noise, 1 takes the variation seed's.",
        ge=0,
        le=1,
        step=0.01,
        infotext="Variation seed strength",
        a1111="subseed_strength",
    )
    seed_resize_from_w: int = _seed(
        0,
        "Resize seed from width",
        "Width at which the seed gave the composition that is wanted; 0 for none.",
        ge=-1,
        le=16384,
        step=8,
        unit="px",
        a1111="seed_resize_from_w",
    )
    seed_resize_from_h: int = _seed(
        0,
        "Resize seed from height",
        "Height at which the seed gave the composition that is wanted; 0 for none.",
        ge=-1,
        le=16384,
        step=8,
        unit="px",
        a1111="seed_resize_from_h",
    )
    rng: Literal["NV", "CPU", "GPU"] = _seed(
        "NV",
        "Noise source",
        "NV gives the noise of an NVIDIA card on every machine, CPU that of PyTorch's CPU generator, "
        "GPU that of the device's own generator.",
        infotext="RNG",
        a1111="randn_source",
    )
    eta_noise_seed_delta: int = _seed(
        0,
        "Eta noise seed delta",
        "Added to the seed of all noise after the first; 31337 is NovelAI's value.",
        ge=0,
        le=2**31 - 1,
        step=1,
        infotext="ENSD",
        a1111="eta_noise_seed_delta",
    )
