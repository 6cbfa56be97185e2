"""The samplers: a solver each, with the schedule it likes and the options it honours, under A1111's names."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal

from sfumato.engine.sampling.levels import NoiseLevels
from sfumato.engine.sampling.prediction import Prediction
from sfumato.engine.sampling.schedules import schedules
from sfumato.engine.sampling.solvers import ddim as _ddim
from sfumato.engine.sampling.solvers import dpm as _dpm
from sfumato.engine.sampling.solvers import dpmpp as _dpmpp
from sfumato.engine.sampling.solvers import dpmpp_sde as _sde
from sfumato.engine.sampling.solvers import euler as _euler
from sfumato.engine.sampling.solvers import lcm as _lcm
from sfumato.engine.sampling.solvers import multistep as _multistep
from sfumato.engine.sampling.solvers import restart as _restart
from sfumato.engine.sampling.solvers import unipc as _unipc
from sfumato.engine.sampling.step import Step
from sfumato.registry import Registry

Spacing = Literal["sigmas", "ends", "timesteps", "unipc", "lcm"]
"""How a sampler's noise levels are laid out: by a schedule; the two ends only; A1111's even whole timesteps; UniPC's own
spacing; a schedule over the levels of latent consistency models."""

_LCM_STEPS = 50


@dataclass(frozen=True, slots=True)
class Sampler:
    """A named sampler.

    Attributes:
        name: display name.
        solver: called as `solver(denoise, x, sigmas, noise, **options)`, see `solvers`.
        summary: what it is.
        schedule: name of its own schedule; None for even timesteps.
        spacing: see `Spacing`.
        options: the options that a request may change: of eta, s_churn, s_tmin, s_tmax, s_noise.
        preset: options of the solver that are fixed.
        second_order: two evaluations a step; prompt schedules and progress count twice the steps.
        discard_penultimate: the last but one noise level is left out.
        brownian: its noise is a Brownian path.
        uses_ensd: ENSD belongs into the picture's text.
        alone: pictures must be sampled one by one, since they would influence each other in a batch.
        guidance_factor: by which the guidance scale is multiplied.
        needs_uncond: it uses the unconditional estimate, whatever the guidance scale is.
    """

    name: str
    solver: Callable[..., Iterator[Step]]
    summary: str
    schedule: str | None = None
    spacing: Spacing = "sigmas"
    options: tuple[str, ...] = ()
    preset: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    second_order: bool = False
    discard_penultimate: bool = False
    brownian: bool = False
    uses_ensd: bool = False
    alone: bool = False
    guidance_factor: float = 1.0
    needs_uncond: bool = False

    @property
    def variance_preserving(self) -> bool:
        """It starts from and ends in latents scaled to sqrt(1 - a) * noise + sqrt(a) * clean (the DDIM family)."""
        return self.spacing in ("timesteps", "unipc")

    @property
    def default_eta(self) -> float:
        """Eta where the request says nothing."""
        return 0.0 if self.variance_preserving else 1.0

    def total_steps(self, steps: int) -> int:
        """The steps that prompt schedules and progress count for `steps` steps of the request."""
        return steps * 2 if self.second_order else steps

    def levels_of(self, prediction: Prediction) -> NoiseLevels:
        """The mapping between sigma and timestep that this sampler uses with a model."""
        if self.spacing == "lcm":
            return lcm_levels(prediction.levels)
        return prediction.vp_levels if self.variance_preserving else prediction.levels


def lcm_levels(levels: NoiseLevels) -> NoiseLevels:
    """The 50 levels that latent consistency models were distilled at; timesteps are whole, the nearest of the 50."""
    stride = max(len(levels) // _LCM_STEPS, 1)
    return replace(levels, sigmas=levels.sigmas[stride - 1 :: stride], first=stride - 1.0, stride=float(stride), quantized=True)


_CHURN = ("s_churn", "s_tmin", "s_tmax", "s_noise")
_NOISE = ("eta", "s_noise")

samplers: Registry[Sampler] = Registry("sampler")
"""All samplers by display name, in A1111's order; the first is the default."""


def _add(sampler: Sampler, *aliases: str) -> None:
    samplers.add(sampler.name, sampler, *aliases)


_add(
    Sampler(
        "DPM++ 2M",
        _dpmpp.dpmpp_2m,
        "multistep second order on the clean estimate; a good default",
        schedule="karras",
    ),
    "k_dpmpp_2m",
)
_add(
    Sampler(
        "DPM++ SDE",
        _sde.dpmpp_sde,
        "stochastic single-step, two evaluations a step",
        schedule="karras",
        options=_NOISE,
        second_order=True,
        brownian=True,
    ),
    "k_dpmpp_sde",
)
_add(
    Sampler(
        "DPM++ 2M SDE",
        _sde.dpmpp_2m_sde,
        "stochastic multistep second order, midpoint",
        schedule="exponential",
        options=_NOISE,
        brownian=True,
    ),
    "k_dpmpp_2m_sde",
)
_add(
    Sampler(
        "DPM++ 2M SDE Heun",
        _sde.dpmpp_2m_sde,
        "stochastic multistep second order, Heun",
        schedule="exponential",
        options=_NOISE,
        preset=MappingProxyType({"solver_type": "heun"}),
        brownian=True,
    ),
    "k_dpmpp_2m_sde_heun",
)
_add(
    Sampler(
        "DPM++ 2S a",
        _dpmpp.dpmpp_2s_ancestral,
        "ancestral single-step second order",
        schedule="karras",
        options=_NOISE,
        second_order=True,
        uses_ensd=True,
    ),
    "k_dpmpp_2s_a",
)
_add(
    Sampler(
        "DPM++ 3M SDE",
        _sde.dpmpp_3m_sde,
        "stochastic multistep third order",
        schedule="exponential",
        options=_NOISE,
        discard_penultimate=True,
        brownian=True,
    ),
    "k_dpmpp_3m_sde",
)
_add(
    Sampler(
        "Euler a",
        _euler.euler_ancestral,
        "ancestral first order",
        options=("eta",),
        uses_ensd=True,
    ),
    "k_euler_a",
    "k_euler_ancestral",
)
_add(
    Sampler(
        "Euler",
        _euler.euler,
        "first order, the simplest",
        options=_CHURN,
    ),
    "k_euler",
)
_add(
    Sampler(
        "LMS",
        _multistep.lms,
        "linear multistep of fourth order",
    ),
    "k_lms",
)
_add(
    Sampler(
        "Heun",
        _euler.heun,
        "second order, trapezoidal",
        options=_CHURN,
        second_order=True,
    ),
    "k_heun",
)
_add(
    Sampler(
        "DPM2",
        _euler.dpm2,
        "second order, geometric midpoint",
        schedule="karras",
        options=_CHURN,
        second_order=True,
        discard_penultimate=True,
    ),
    "k_dpm_2",
)
_add(
    Sampler(
        "DPM2 a",
        _euler.dpm2_ancestral,
        "ancestral second order, geometric midpoint",
        schedule="karras",
        options=_NOISE,
        second_order=True,
        discard_penultimate=True,
        uses_ensd=True,
    ),
    "k_dpm_2_a",
)
_add(
    Sampler(
        "DPM fast",
        _dpm.dpm_fast,
        "third order with a fixed number of evaluations, even in log sigma",
        spacing="ends",
        options=_NOISE,
        uses_ensd=True,
    ),
    "k_dpm_fast",
)
_add(
    Sampler(
        "DPM adaptive",
        _dpm.dpm_adaptive,
        "third order, chooses its steps by their error; the number of steps is ignored",
        spacing="ends",
        options=("eta",),
        uses_ensd=True,
        alone=True,
    ),
    "k_dpm_ad",
)
_add(
    Sampler(
        "Restart",
        _restart.restart,
        "Heun steps that go back up to more noise once or twice",
        schedule="karras",
        second_order=True,
    )
)
_add(Sampler("DDIM", _ddim.ddim, "first order on the diffusion model's timesteps", spacing="timesteps", options=("eta",)))
_add(
    Sampler(
        "DDIM CFG++",
        _ddim.ddim_cfgpp,
        "DDIM that returns to the unconditional noise; guidance divided by 12.5",
        spacing="timesteps",
        options=("eta",),
        guidance_factor=1 / 12.5,
        needs_uncond=True,
    ),
    "ddim_cfgpp",
)
_add(Sampler("PLMS", _multistep.plms, "pseudo linear multistep of fourth order", spacing="timesteps"))
_add(Sampler("UniPC", _unipc.unipc, "multistep predictor-corrector", spacing="unipc"))
_add(
    Sampler(
        "LCM",
        _lcm.lcm,
        "for latent consistency models; a few steps at a scale of 1 to 2",
        spacing="lcm",
    ),
    "k_lcm",
)


def resolve(sampler: str, scheduler: str = "Automatic") -> tuple[str, str]:
    """Display names of sampler and schedule, in any case, by alias or in the old form "DPM++ 2M Karras".

    A schedule that ends an old name wins over `scheduler`. A schedule that is the sampler's own becomes "Automatic".

    Raises:
        NotFound: there is no such sampler or schedule; the advice names similar ones.
    """
    name, found = sampler.strip(), schedules.resolve(scheduler.strip() or "Automatic")
    if name not in samplers:
        endings = ((ending, label) for label in schedules for ending in (label, *schedules.aliases(label)))
        for ending, label in sorted(endings, key=lambda pair: -len(pair[0])):
            head = name[: -len(ending)]
            if name.casefold().endswith(f" {ending.casefold()}") and head.strip() in samplers:
                name, found = head.strip(), label
                break
    entry = samplers[name]
    return entry.name, "Automatic" if schedules[found].name == entry.schedule else found


def resolve_a1111(sampler: str | None, scheduler: str | None, *, convert_automatic: bool = True) -> tuple[str, str]:
    """Display names as A1111 finds them for requests and old infotexts; it never fails.

    Names are exact; what is unknown becomes the first sampler or "Automatic"; a schedule at the end of the sampler's name
    is split off, the schedules tried in their order, so that "Euler SGM Uniform" loses "Uniform" first and is unknown.

    Args:
        sampler: as given.
        scheduler: label or name.
        convert_automatic: a schedule that is the sampler's own becomes "Automatic".
    """
    default = next(iter(samplers))
    found = next((label for label, entry in schedules.items() if scheduler in (label, entry.name)), "Automatic")
    name = sampler or default
    for label, entry in schedules.items():
        # Aliases come from the registry in lower case; A1111 has one, with capitals.
        aliases = ("SGMUniform",) if entry.name == "sgm_uniform" else ()
        for ending in (label, entry.name, *aliases):
            if name.endswith(f" {ending}"):
                name, found = name[: -len(ending) - 1], label
                break
    name = name if name in list(samplers) else default
    own = samplers[name].schedule
    return name, "Automatic" if convert_automatic and schedules[found].name == own else found
