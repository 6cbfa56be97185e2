"""The plan of a run: which noise levels a sampler goes through for a request."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from sfumato.engine.sampling.levels import NoiseLevels
from sfumato.engine.sampling.prediction import Prediction
from sfumato.engine.sampling.samplers import Sampler, samplers
from sfumato.engine.sampling.schedules import Schedule, Span, schedules
from sfumato.engine.sampling.solvers.dpm import fast_orders
from sfumato.engine.sampling.solvers.restart import restart_path
from sfumato.engine.sampling.solvers.unipc import Variant
from sfumato.errors import InvalidRequest, Unsupported

_FLOW = ("Euler", "Heun", "LMS")


@dataclass(frozen=True, slots=True)
class SamplingOptions:
    """What a request or a setting may change about sampler and schedule; the defaults change nothing.

    Attributes:
        eta: amount of fresh noise; None for the sampler's default.
        s_churn, s_tmin, s_tmax, s_noise: see `solvers.euler.Churn`; s_tmax 0 is no limit.
        unipc_order, unipc_variant, unipc_lower_order_final: see `solvers.unipc`.
        unipc_skip_type: UniPC's spacing.
        sigma_min, sigma_max: range of the schedule; 0 for the model's.
        rho: exponent of the schedule; 0 for its own.
        beta_alpha, beta_beta: of the Beta schedule.
        discard_penultimate_sigma: leave out the last but one level with every sampler.
        old_karras_sigmas: schedules range from 0.1 to 10.
        sgm_noise_multiplier: a new picture starts from noise * sqrt(1 + sigma^2) rather than noise * sigma.
        sdxl: the model is of the SDXL family.
    """

    eta: float | None = None
    s_churn: float = 0.0
    s_tmin: float = 0.0
    s_tmax: float = 0.0
    s_noise: float = 1.0
    unipc_order: int = 3
    unipc_variant: Variant = "bh1"
    unipc_skip_type: Literal["time_uniform", "time_quadratic", "logSNR"] = "time_uniform"
    unipc_lower_order_final: bool = True
    sigma_min: float = 0.0
    sigma_max: float = 0.0
    rho: float = 0.0
    beta_alpha: float = 0.6
    beta_beta: float = 0.6
    discard_penultimate_sigma: bool = False
    old_karras_sigmas: bool = False
    sgm_noise_multiplier: bool = False
    sdxl: bool = False


DEFAULTS = SamplingOptions()


@dataclass(frozen=True, slots=True)
class SamplingPlan:
    """A run, decided: made by `plan_new` or `plan_from_image`, carried out by `sample.run`.

    Attributes:
        sampler: see `Sampler`.
        schedule: label of the schedule in use; "Automatic" where the sampler has none of the registry.
        sigmas: the levels the solver is given, descending, float32 on the CPU.
        start_sigma: the level that the latents are brought to before; that of `sigmas` but for the DDIM family on pictures.
        range: lowest and highest level of the Brownian motion.
        steps: steps of the request that the run makes.
        options: what the solver is called with besides.
        asked: what the plan was made from.
        sgm_noise: a new picture that starts as `SamplingOptions.sgm_noise_multiplier` says.
    """

    sampler: Sampler
    schedule: str
    sigmas: Tensor
    start_sigma: float
    range: tuple[float, float]
    steps: int
    options: dict[str, Any]
    asked: SamplingOptions = DEFAULTS
    sgm_noise: bool = False

    @property
    def total_calls(self) -> int:
        """Evaluations as prompt schedules, guidance and progress count them; the true number may differ a little."""
        return self.sampler.total_steps(self.steps)

    @property
    def yields(self) -> int | None:
        """How many `Step`s the solver will yield; None where it decides itself."""
        if self.sampler.name == "DPM adaptive":
            return None
        if self.sampler.name == "DPM fast":
            return len(fast_orders(self.options["n"]))
        return len(restart_path(self.sigmas)) if self.sampler.name == "Restart" else len(self.sigmas) - 1


def effective_schedule(sampler: Sampler, scheduler: str) -> Schedule:
    """The schedule a sampler uses when asked for `scheduler`, by any of its names; "Automatic" gives its own.

    Raises:
        NotFound: there is no such schedule.
    """
    schedule = schedules[scheduler]
    return schedules[sampler.schedule] if schedule.spread is None and sampler.schedule else schedule


def _discards(sampler: Sampler, options: SamplingOptions) -> bool:
    return sampler.discard_penultimate or options.discard_penultimate_sigma


def _check_steps(steps: int) -> None:
    if not 1 <= steps <= 10000:
        raise InvalidRequest(f"{steps} steps cannot be sampled.", advice="Use 1 to 10000 steps.")


def sigmas_for(sampler: str, scheduler: str, steps: int, prediction: Prediction, options: SamplingOptions = DEFAULTS) -> Tensor:
    """The noise levels of a sampler on sigmas: float32 [steps + 1] (a few schedules give other numbers), descending.

    Args:
        sampler: a name of `samplers`.
        scheduler: a name of `schedules`.
        steps: 1 or more.
        prediction: the model's.
        options: see there.

    Raises:
        NotFound: there is no such sampler or schedule.
        InvalidRequest: steps or range make no sense.
    """
    _check_steps(steps)
    entry = samplers[sampler]
    schedule = effective_schedule(entry, scheduler)
    spread = schedule.spread or schedules["uniform"].spread
    assert spread is not None
    discard = _discards(entry, options)
    sigmas = spread(steps + discard, _span(schedule, entry.levels_of(prediction), options))
    if discard:
        del sigmas[-2]
    return torch.tensor(sigmas, dtype=torch.float32)


def _span(schedule: Schedule, levels: NoiseLevels, options: SamplingOptions) -> Span:
    low, high = (0.1, 10.0) if options.old_karras_sigmas else (levels.sigma_min, levels.sigma_max)
    low, high = options.sigma_min or low, options.sigma_max or high
    if not 0 < low < high:
        raise InvalidRequest(
            f"Noise levels cannot go from {high:g} down to {low:g}.",
            advice="The minimum sigma must be above 0 and below the maximum sigma.",
        )
    return Span(
        levels,
        low,
        high,
        rho=options.rho or schedule.rho or 0.0,
        alpha=options.beta_alpha,
        beta=options.beta_beta,
        sdxl=options.sdxl,
    )


def timesteps_for(sampler: str, steps: int, prediction: Prediction, options: SamplingOptions = DEFAULTS) -> list[int]:
    """The whole timesteps of the DDIM family, ascending; there may be one more than steps, and the first is the goal.

    Raises:
        NotFound: there is no such sampler.
        InvalidRequest: steps make no sense.
    """
    _check_steps(steps)
    n, last = len(prediction.levels), len(prediction.levels) - 1
    stride = max(n // (steps + _discards(samplers[sampler], options)), 1)
    return [min(t + 1, last) for t in range(0, n, stride)]


def _unipc_levels(levels: NoiseLevels, start: float, n: int, options: SamplingOptions) -> list[float]:
    """UniPC's `n` + 1 levels from timestep `start` to 0."""
    if options.unipc_skip_type == "logSNR":
        high, low = math.log(levels.t_to_sigma(start)), math.log(levels.sigma_min)
        return [math.exp(high + (low - high) * i / n) for i in range(n + 1)]
    if options.unipc_skip_type == "time_quadratic":
        # Even in the root of the continuous time (timestep + 1) / number.
        high, low = math.sqrt(start + 1), 1.0
        return [levels.t_to_sigma((high + (low - high) * i / n) ** 2 - 1) for i in range(n + 1)]
    return [levels.t_to_sigma(start * (1 - i / n)) for i in range(n + 1)]


def _solver_options(sampler: Sampler, options: SamplingOptions, evaluations: int) -> dict[str, Any]:
    given: dict[str, Any] = {
        "eta": sampler.default_eta if options.eta is None else options.eta,
        "s_churn": options.s_churn,
        "s_tmin": options.s_tmin,
        "s_tmax": options.s_tmax or math.inf,
        "s_noise": options.s_noise,
    }
    result = {**sampler.preset, **{name: given[name] for name in sampler.options}}
    if sampler.spacing == "unipc":
        result |= {
            "order": options.unipc_order,
            "variant": options.unipc_variant,
            "lower_order_final": options.unipc_lower_order_final,
        }
    if sampler.name == "DPM fast":
        result["n"] = evaluations
    return result


def _check_kind(sampler: Sampler, prediction: Prediction) -> None:
    if prediction.kind == "flow" and sampler.name not in _FLOW:
        raise Unsupported(f"{sampler.name} cannot sample flow models.", advice=f"Use one of: {', '.join(_FLOW)}.")


def plan_new(
    sampler: str, scheduler: str, steps: int, prediction: Prediction, options: SamplingOptions = DEFAULTS
) -> SamplingPlan:
    """The plan of a new picture (txt2img).

    Raises:
        NotFound: there is no such sampler or schedule.
        InvalidRequest: too few steps for the sampler, or options that make no sense.
        Unsupported: the sampler cannot sample the model's kind.
    """
    entry = samplers[sampler]
    _check_kind(entry, prediction)
    if not entry.variance_preserving:
        sigmas = sigmas_for(sampler, scheduler, steps, prediction, options)
        return _sigma_plan(entry, scheduler, sigmas, sigmas, steps, prediction, options, new=True)
    timesteps = timesteps_for(sampler, steps, prediction, options)
    start = len(prediction.levels) - 1.0 if entry.spacing == "unipc" else float(timesteps[-1])
    return _timestep_plan(entry, timesteps, start, start, steps, prediction, options)


def img2img_steps(steps: int, strength: float, *, fix_steps: bool = False, explicit_steps: int | None = None) -> tuple[int, int]:
    """Steps of the whole schedule and how many of them, less one, are made when a picture is changed by `strength`.

    Args:
        steps: of the request.
        strength: denoising strength, 0 to 1.
        fix_steps: make as many steps as the request says, whatever the strength (A1111's img2img_fix_steps).
        explicit_steps: steps of a second pass that has its own number; implies `fix_steps`.
    """
    share = min(strength, 0.999)
    if not fix_steps and explicit_steps is None:
        return steps, int(share * steps)
    wanted = explicit_steps if explicit_steps is not None else steps
    return (int(wanted / share) if strength > 0 else 0), wanted - 1


def plan_from_image(
    sampler: str,
    scheduler: str,
    steps: int,
    strength: float,
    prediction: Prediction,
    options: SamplingOptions = DEFAULTS,
    *,
    fix_steps: bool = False,
    explicit_steps: int | None = None,
) -> SamplingPlan:
    """The plan of a change to a picture (img2img, second pass). See `img2img_steps` for the arguments.

    Raises:
        NotFound: there is no such sampler or schedule.
        InvalidRequest: the strength leaves no step, or options that make no sense.
        Unsupported: the sampler cannot sample the model's kind.
    """
    entry = samplers[sampler]
    _check_kind(entry, prediction)
    total, encode = img2img_steps(steps, strength, fix_steps=fix_steps, explicit_steps=explicit_steps)
    if not 0 <= strength <= 1 or total < 1:
        raise InvalidRequest(
            f"A denoising strength of {strength:g} over {steps} steps leaves nothing to sample.",
            advice="Use a strength above 0 and up to 1.",
        )
    if not entry.variance_preserving:
        sigmas = sigmas_for(sampler, scheduler, total, prediction, options)
        # Counted from the end of the asked-for steps, as A1111 does, also where a schedule gives more levels.
        return _sigma_plan(entry, scheduler, sigmas, sigmas[total - encode - 1 :], encode + 1, prediction, options, new=False)
    timesteps = timesteps_for(sampler, total, prediction, options)
    used = timesteps[:encode]
    if len(used) < 2:
        raise InvalidRequest(
            f"{entry.name} makes no step at a denoising strength of {strength:g} over {steps} steps.",
            advice="Raise the strength or the steps, or use another sampler.",
        )
    return _timestep_plan(entry, used, float(used[-1]), float(timesteps[encode]), encode + 1, prediction, options)


def _sigma_plan(
    sampler: Sampler,
    scheduler: str,
    every: Tensor,
    used: Tensor,
    steps: int,
    prediction: Prediction,
    options: SamplingOptions,
    *,
    new: bool,
) -> SamplingPlan:
    start = float(used[0])
    positive = every[every > 0]
    span = (float(positive.min()), float(every.max()))
    evaluations = len(used) - 1
    if sampler.spacing == "ends":
        levels = prediction.levels
        evaluations = steps if new else evaluations
        low = levels.sigma_min if new else float(used[used > 0][-1])
        used = torch.tensor([levels.sigma_max if new else start, low], dtype=torch.float32)
    if len(used) < 2 or float(used[0]) <= float(used[-1]):
        raise InvalidRequest(f"{sampler.name} has no step to make.", advice="Use more steps or a higher denoising strength.")
    return SamplingPlan(
        sampler,
        effective_schedule(sampler, scheduler).label,
        used,
        start,
        span,
        steps,
        _solver_options(sampler, options, evaluations),
        options,
        new and options.sgm_noise_multiplier,
    )


def _timestep_plan(
    sampler: Sampler,
    timesteps: list[int],
    first: float,
    start: float,
    steps: int,
    prediction: Prediction,
    options: SamplingOptions,
) -> SamplingPlan:
    levels = prediction.vp_levels
    if sampler.spacing == "unipc":
        sigmas = _unipc_levels(levels, first, len(timesteps), options)
    elif len(timesteps) < 2:
        raise InvalidRequest(f"{sampler.name} makes no step when asked for {steps}.", advice="Use 2 steps or more.")
    else:
        sigmas = [levels.t_to_sigma(t) for t in reversed(timesteps)]
    return SamplingPlan(
        sampler,
        "Automatic",
        torch.tensor(sigmas, dtype=torch.float32),
        levels.t_to_sigma(start),
        (levels.sigma_min, levels.sigma_max),
        steps,
        _solver_options(sampler, options, len(timesteps)),
        options,
    )
