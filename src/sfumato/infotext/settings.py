"""How A1111's user interface reads a parsed text: the options it overrides and the sampler it selects."""

from __future__ import annotations

from collections.abc import Callable, Mapping

Resolve = Callable[[str | None, str | None], tuple[str, str]]
"""Sampler and schedule names as written to the names that exist ("Automatic" where the schedule is the sampler's own)."""

# Infotext key, A1111's option, its default: in the order of A1111's settings pages.
_OPTIONS: tuple[tuple[str, str, object], ...] = (
    ("Face restoration", "face_restoration", False),
    ("Emphasis", "emphasis", "Original"),
    ("Clip skip", "CLIP_stop_at_last_layers", 1),
    ("RNG", "randn_source", "GPU"),
    ("Tiling", "tiling", False),
    ("Hires refiner", "hires_fix_refiner_pass", "second pass"),
    ("VAE", "sd_vae", "Automatic"),
    ("VAE Encoder", "sd_vae_encode_method", "Full"),
    ("VAE Decoder", "sd_vae_decode_method", "Full"),
    ("Conditional mask weight", "inpainting_mask_weight", 1.0),
    ("Noise multiplier", "initial_noise_multiplier", 1.0),
    ("Extra noise", "img2img_extra_noise", 0.0),
    ("NGMS", "s_min_uncond", 0.0),
    ("NGMS all steps", "s_min_uncond_all", False),
    ("Token merging ratio", "token_merging_ratio", 0.0),
    ("Token merging ratio hr", "token_merging_ratio_hr", 0.0),
    ("Pad conds", "pad_cond_uncond", False),
    ("Pad conds v0", "pad_cond_uncond_v0", False),
    ("Old prompt editing timelines", "use_old_scheduling", False),
    ("Downcast alphas_cumprod", "use_downcasted_alpha_bar", False),
    ("Refiner switch by sampling steps", "refiner_switch_by_sample_steps", False),
    ("Eta DDIM", "eta_ddim", 0.0),
    ("Eta", "eta_ancestral", 1.0),
    ("Sigma churn", "s_churn", 0.0),
    ("Sigma tmin", "s_tmin", 0.0),
    ("Sigma tmax", "s_tmax", 0.0),
    ("Sigma noise", "s_noise", 1.0),
    ("Schedule min sigma", "sigma_min", 0.0),
    ("Schedule max sigma", "sigma_max", 0.0),
    ("Schedule rho", "rho", 0.0),
    ("ENSD", "eta_noise_seed_delta", 0),
    ("Discard penultimate sigma", "always_discard_next_to_last_sigma", False),
    ("SGM noise multiplier", "sgm_noise_multiplier", False),
    ("UniPC variant", "uni_pc_variant", "bh1"),
    ("UniPC skip type", "uni_pc_skip_type", "time_uniform"),
    ("UniPC order", "uni_pc_order", 3),
    ("UniPC lower order final", "uni_pc_lower_order_final", True),
    ("Noise Schedule", "sd_noise_schedule", "Default"),
    ("Skip Early CFG", "skip_early_cond", 0.0),
    ("Beta scheduler alpha", "beta_dist_alpha", 0.6),
    ("Beta scheduler beta", "beta_dist_beta", 0.6),
)


def setting_overrides(
    parameters: Mapping[str, object], current: Mapping[str, object] | None = None
) -> list[tuple[str, str, object]]:
    """The A1111 options that a parsed text changes: infotext key, option, value in the option's type.

    The checkpoint is left alone (A1111's disable_weights_auto_swap), and values that do not fit their option are passed over.

    Args:
        current: options that are not at their default.
    """
    changed: list[tuple[str, str, object]] = []
    for key, option, default in _OPTIONS:
        if parameters.get(key) is None:
            continue
        value = _cast(parameters[key], default)
        if value is not None and value != (current or {}).get(option, default):
            changed.append((key, option, value))
    return changed


def _cast(value: object, default: object) -> object:
    if isinstance(default, bool):
        return value != "False" and bool(value)
    try:
        return type(default)(value)  # type: ignore[call-arg]
    except ValueError:
        return None


def sampler_choices(parameters: Mapping[str, object], resolve: Resolve) -> dict[str, str]:
    """Sampler and schedule of both passes as A1111's interface would select them; needs the engine's name resolution."""
    sampler, scheduler = _text(parameters.get("Sampler")), _text(parameters.get("Schedule type"))
    chosen, schedule = resolve(sampler, scheduler)
    hires = _text(parameters.get("Hires sampler", "Use same sampler"))
    hires_schedule = _text(parameters.get("Hires schedule type", "Use same scheduler"))
    second, second_schedule = resolve(
        sampler if hires == "Use same sampler" else hires,
        scheduler if hires_schedule == "Use same scheduler" else hires_schedule,
    )
    return {
        "sampler": chosen,
        "scheduler": schedule,
        "hr_sampler": second if second != sampler else "Use same sampler",
        "hr_scheduler": second_schedule if second_schedule != scheduler else "Use same scheduler",
    }


def _text(value: object) -> str | None:
    return None if value is None else str(value)
