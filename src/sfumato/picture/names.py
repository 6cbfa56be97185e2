"""What other programs call the samplers and schedules."""

from __future__ import annotations

# k-diffusion's function names, as ComfyUI, SwarmUI and Fooocus write them.
_SAMPLERS = {
    "euler": "Euler",
    "euler_ancestral": "Euler a",
    "heun": "Heun",
    "dpm_2": "DPM2",
    "dpm_2_ancestral": "DPM2 a",
    "lms": "LMS",
    "dpm_fast": "DPM fast",
    "dpm_adaptive": "DPM adaptive",
    "dpmpp_2s_ancestral": "DPM++ 2S a",
    "dpmpp_sde": "DPM++ SDE",
    "dpmpp_2m": "DPM++ 2M",
    "dpmpp_2m_sde": "DPM++ 2M SDE",
    "dpmpp_2m_sde_heun": "DPM++ 2M SDE Heun",
    "dpmpp_3m_sde": "DPM++ 3M SDE",
    "lcm": "LCM",
    "ddim": "DDIM",
    "plms": "PLMS",
    "uni_pc": "UniPC",
    "uni_pc_bh2": "UniPC",
    "unipc": "UniPC",
    "restart": "Restart",
}
_SCHEDULES = {
    "normal": "Normal",
    "karras": "Karras",
    "exponential": "Exponential",
    "sgm_uniform": "SGM Uniform",
    "simple": "Simple",
    "ddim_uniform": "DDIM",
    "beta": "Beta",
    "kl_optimal": "KL Optimal",
    "align_your_steps": "Align Your Steps",
}
# The aliases that A1111 knows; NovelAI writes these.
_ALIASES = {
    "k_dpmpp_2m": "DPM++ 2M",
    "k_dpmpp_sde": "DPM++ SDE",
    "k_dpmpp_2m_sde": "DPM++ 2M SDE",
    "k_dpmpp_2m_sde_heun": "DPM++ 2M SDE Heun",
    "k_dpmpp_2s_a": "DPM++ 2S a",
    "k_dpmpp_3m_sde": "DPM++ 3M SDE",
    "k_euler_a": "Euler a",
    "k_euler_ancestral": "Euler a",
    "k_euler": "Euler",
    "k_lms": "LMS",
    "k_heun": "Heun",
    "k_dpm_2": "DPM2",
    "k_dpm_2_a": "DPM2 a",
    "k_dpm_fast": "DPM fast",
    "k_dpm_ad": "DPM adaptive",
    "k_lcm": "LCM",
    "restart": "Restart",
    "ddim": "DDIM",
    "ddim_cfgpp": "DDIM CFG++",
    "plms": "PLMS",
    "unipc": "UniPC",
}
_ALIASES |= {label.lower(): label for label in _ALIASES.values()}


def sampler(name: str) -> str:
    """A1111's label of a sampler that another program names; unknown names as they are."""
    plain = name.lower().removesuffix("_gpu").removesuffix("_cfg_pp").removeprefix("k_")
    return _SAMPLERS.get(plain, name)


def schedule(name: str) -> str:
    """A1111's label of a schedule that another program names; unknown names as they are."""
    return _SCHEDULES.get(name.lower(), name)


def novelai_sampler(name: str) -> str:
    """The sampler A1111 takes for a NovelAI picture: Euler a unless it knows the name."""
    return _ALIASES.get(name, "Euler a")
