"""What a run did that its request does not say, under the keys of A1111's generation parameters."""

from __future__ import annotations

from sfumato.engine.sampling.plan import DEFAULTS, SamplingOptions, SamplingPlan
from sfumato.engine.sampling.schedules import schedules

Fact = str | float | int | bool

_CHURN = {"s_churn": "Sigma churn", "s_tmin": "Sigma tmin", "s_tmax": "Sigma tmax", "s_noise": "Sigma noise"}
_UNIPC = {
    "unipc_variant": "UniPC variant",
    "unipc_skip_type": "UniPC skip type",
    "unipc_order": "UniPC order",
    "unipc_lower_order_final": "UniPC lower order final",
}


def facts(plan: SamplingPlan, *, second_pass: bool = False) -> dict[str, Fact]:
    """The options of sampler and schedule that took effect and are not at their defaults.

    An option that the sampler or the schedule does not honour is left out. Unlike A1111, which records churn only when it
    comes from a setting, what comes from the request is recorded too: the text shall give the same picture again.

    Args:
        plan: see there.
        second_pass: of hires fix, whose schedule has a key of its own.
    """
    sampler, asked = plan.sampler, plan.asked
    result: dict[str, Fact] = {}
    if asked.discard_penultimate_sigma and not sampler.discard_penultimate:
        result["Discard penultimate sigma"] = True
    if plan.schedule != "Automatic":
        result["Hires schedule type" if second_pass else "Schedule type"] = plan.schedule
        result |= _schedule(plan.schedule, asked)
    if plan.sgm_noise:
        result["SGM noise multiplier"] = True
    if "eta" in sampler.options and plan.options["eta"] != sampler.default_eta:
        result["Eta DDIM" if sampler.variance_preserving else "Eta"] = plan.options["eta"]
    named = {name: key for name, key in _CHURN.items() if name in sampler.options} | (
        _UNIPC if sampler.spacing == "unipc" else {}
    )
    changed = {name: getattr(asked, name) for name in named if getattr(asked, name) != getattr(DEFAULTS, name)}
    return result | {named[name]: value for name, value in changed.items()}


def _schedule(label: str, asked: SamplingOptions) -> dict[str, Fact]:
    rho = schedules[label].rho
    result: dict[str, Fact] = {}
    if asked.sigma_min:
        result["Schedule min sigma"] = asked.sigma_min
    if asked.sigma_max:
        result["Schedule max sigma"] = asked.sigma_max
    if rho is not None and asked.rho not in (0, rho):
        result["Schedule rho"] = asked.rho
    if label == "Beta":
        result |= {"Beta schedule alpha": asked.beta_alpha, "Beta schedule beta": asked.beta_beta}
    return result
