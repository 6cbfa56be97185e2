"""From A1111's settings to sampling options."""

from sfumato.engine.sampling.plan import SamplingOptions


def sampling_options(case, sampler):
    """A setting counts before the request's field, unless it is at its default."""
    settings, request = case["options"], case["request"]
    churn = {name: settings.get(name, request.get(name)) for name in ("s_churn", "s_tmin", "s_tmax", "s_noise")}
    eta = request.get("eta")
    renamed = {
        "uni_pc_variant": "unipc_variant",
        "uni_pc_skip_type": "unipc_skip_type",
        "uni_pc_order": "unipc_order",
        "uni_pc_lower_order_final": "unipc_lower_order_final",
        "beta_dist_alpha": "beta_alpha",
        "beta_dist_beta": "beta_beta",
        "always_discard_next_to_last_sigma": "discard_penultimate_sigma",
        "use_old_karras_scheduler_sigmas": "old_karras_sigmas",
    }
    same = ("sigma_min", "sigma_max", "rho", "sgm_noise_multiplier")
    return SamplingOptions(
        eta=settings.get("eta_ddim" if sampler.variance_preserving else "eta_ancestral") if eta is None else eta,
        **{name: value for name, value in churn.items() if value is not None},
        **{new: settings[old] for old, new in renamed.items() if old in settings},
        **{name: settings[name] for name in same if name in settings},
    )
