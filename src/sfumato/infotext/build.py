"""From a request, and what became known while its picture was made, to A1111's parameters text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from sfumato.infotext.scan import quote
from sfumato.parameter import Parameter, fields
from sfumato.request import Generation, Img2Img, Txt2Img
from sfumato.version import __version__

PROGRAM = f"sfumato {__version__}"

# Keys whose rules are written out below; every other parameter is written when it is not at its default.
_BY_RULE = frozenset(
    {"model", "vae", "sampler", "scheduler", "steps", "cfg_scale", "image_cfg_scale", "seed", "subseed", "subseed_strength"}
    | {"denoising_strength", "clip_skip", "emphasis", "eta", "eta_noise_seed_delta", "rng", "tiling", "restore_faces"}
    | {"token_merging_ratio", "hr_token_merging_ratio", "inpainting_mask_weight", "width", "height"}
    | {"refiner_checkpoint", "refiner_switch_at", "refiner_switch_by_sampling_steps"}
)
_GROUPS_BY_RULE = frozenset({"Hires fix", "Inpainting", "Soft inpainting"})


@dataclass(frozen=True, slots=True)
class Resource:
    """A network that took part.

    Attributes:
        sha256: hash of the whole file, hexadecimal.
        short_hash: the 12 digits A1111 writes for it (hash of the tensors, "addnet" or AutoV3).
    """

    kind: Literal["lora", "embed", "hypernet"]
    name: str
    sha256: str = ""
    short_hash: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known only once a picture is made; empty texts are left out.

    Attributes:
        model, vae: names of the files used.
        model_hash, vae_hash: their SHA-256; the first ten digits are written.
        prompt, negative_prompt: the texts of this picture, styles merged in; None for those of the request.
        uses_ensd: whether the sampler draws noise that the eta noise seed delta changes.
        init_image_hash: MD5 of the source picture.
        extra: further keys, in the order in which they are written.
    """

    model: str = ""
    model_hash: str = ""
    vae: str = ""
    vae_hash: str = ""
    face_restorer: str = ""
    init_image_hash: str = ""
    prompt: str | None = None
    negative_prompt: str | None = None
    uses_ensd: bool = False
    resources: tuple[Resource, ...] = ()
    extra: Mapping[str, object] = field(default_factory=dict)
    version: str = PROGRAM
    user: str = ""


def build(request: Generation, facts: Facts | None = None, index: int = 0) -> str:
    """The parameters text of picture `index` (from 0, over all batches) of a request whose seeds are resolved.

    It ends in Civitai's `Hashes: {...}` when any hash is known.
    """
    facts = facts or Facts()
    seed, subseed = request.image_seeds(index)
    values = {name: _plain(value) for name, value in request if not isinstance(value, bytes)}
    values |= {"seed": seed, "subseed": subseed, "width": request.width, "height": request.height}
    values |= {"model": facts.model, "model_hash": facts.model_hash, "vae": facts.vae, "vae_hash": facts.vae_hash}
    values |= {"face_restorer": facts.face_restorer, "init_image_hash": facts.init_image_hash, "user": facts.user}
    values["eta_noise_seed_delta"] = request.eta_noise_seed_delta if facts.uses_ensd and request.eta != 0 else 0
    if not (isinstance(request, Img2Img) and request.mask is not None and request.inpainting_mask_weight != 1):
        values["inpainting_mask_weight"] = None
    if isinstance(request, Txt2Img) and not request.enable_hr:
        values["denoising_strength"] = values["hr_token_merging_ratio"] = None
    extra = _own(request) | _resource_hashes(facts) | dict(facts.extra)
    if isinstance(request, Txt2Img) and request.enable_hr:
        hires, (values["width"], values["height"]) = _hires(request)
        extra = hires | extra
    prompt = request.prompt if facts.prompt is None else facts.prompt
    negative = request.negative_prompt if facts.negative_prompt is None else facts.negative_prompt
    text = compose(prompt, negative, values, extra, facts.version, index)
    hashes = civitai_hashes(facts)
    return f"{text}, Hashes: {json.dumps(hashes, ensure_ascii=False)}" if hashes else text


def compose(
    prompt: str, negative: str, values: Mapping[str, object], extra: Mapping[str, object], version: str, index: int = 0
) -> str:
    """The text in A1111's order: prompt, negative prompt, and one line of `Key: value` pairs.

    None and empty values are left out, a list is indexed by the picture, and a key equal to its value is written once.

    Args:
        values: request values by their names in `sfumato.request`, plus model_hash, vae_hash, face_restorer,
            init_image_hash and user; numbers are written as Python prints them.
        extra: further pairs, written between those and the version.
    """
    pairs = {**_head(values), **extra, "Version": version or None, "User": values.get("user") or None}
    if "Denoising strength" in extra:
        pairs["Denoising strength"] = extra["Denoising strength"]
    written = []
    for key, value in pairs.items():
        if isinstance(value, list):
            value = value[index] if index < len(value) else None
        if value is not None:
            written.append(key if key == value else f"{key}: {quote(value)}")
    negative_line = f"\nNegative prompt: {negative}" if negative else ""
    return f"{prompt}{negative_line}\n{', '.join(written)}".strip()


def _head(values: Mapping[str, object]) -> dict[str, object]:
    """The pairs that A1111 writes first, with the rules for leaving them out."""

    def given(name: str) -> object:
        return values.get(name) or None

    def above(name: str, least: float) -> object:
        value = values.get(name)
        return value if isinstance(value, (int, float)) and value > least else None

    varied = values.get("subseed_strength") != 0
    resized = above("seed_resize_from_w", 0) and above("seed_resize_from_h", 0)
    return {
        "Steps": values["steps"],
        "Sampler": values["sampler"],
        "Schedule type": values["scheduler"],
        "CFG scale": values["cfg_scale"],
        "Image CFG scale": values.get("image_cfg_scale"),
        "Seed": values["seed"],
        "Face restoration": given("face_restorer") if values.get("restore_faces") else None,
        "Size": f"{values['width']}x{values['height']}",
        "Model hash": _short(given("model_hash")),
        "Model": given("model"),
        "VAE hash": _short(given("vae_hash")),
        "VAE": given("vae"),
        "Variation seed": values["subseed"] if varied else None,
        "Variation seed strength": values.get("subseed_strength") if varied else None,
        "Seed resize from": f"{values['seed_resize_from_w']}x{values['seed_resize_from_h']}" if resized else None,
        "Denoising strength": values.get("denoising_strength"),
        "Conditional mask weight": values.get("inpainting_mask_weight"),
        "Clip skip": above("clip_skip", 1),
        "ENSD": given("eta_noise_seed_delta"),
        "Token merging ratio": given("token_merging_ratio"),
        "Token merging ratio hr": given("hr_token_merging_ratio"),
        "Init image hash": given("init_image_hash"),
        "RNG": values.get("rng") if values.get("rng") != "GPU" else None,
        "Tiling": "True" if values.get("tiling") else None,
    }


def _short(digest: object) -> object:
    return str(digest)[:10] if digest else None


def _own(request: Generation) -> dict[str, object]:
    """The pairs of everything that is not at its default and follows no rule of its own."""
    pairs: dict[str, object] = {}
    if request.refiner_checkpoint:
        pairs |= {"Refiner": request.refiner_checkpoint, "Refiner switch at": _plain(request.refiner_switch_at)}
        if request.refiner_switch_by_sampling_steps:
            pairs["Refiner switch by sampling steps"] = True
    if request.eta is not None:
        pairs["Eta DDIM" if request.sampler.upper().startswith("DDIM") else "Eta"] = _plain(request.eta)
    if request.emphasis != "Original" and any(bracket in request.prompt + request.negative_prompt for bracket in "(["):
        pairs["Emphasis"] = request.emphasis
    for parameter in fields(type(request)):
        if parameter.name not in _BY_RULE and parameter.group not in _GROUPS_BY_RULE:
            pairs |= _changed(request, parameter)
    if isinstance(request, Img2Img):
        pairs |= _mask(request)
    return pairs


def _changed(request: Generation, parameter: Parameter) -> dict[str, object]:
    value = getattr(request, parameter.name)
    return {parameter.infotext: _plain(value)} if parameter.infotext and value != parameter.default else {}


def _mask(request: Img2Img) -> dict[str, object]:
    if request.mask is None:
        return {}
    pairs: dict[str, object] = {
        "Mask mode": "Inpaint not masked" if request.inpainting_mask_invert else None,
        "Mask blur": request.mask_blur_x,
        "Inpaint area": "Only masked" if request.inpaint_full_res else None,
        "Masked area padding": request.inpaint_full_res_padding if request.inpaint_full_res else None,
        "Masked content": request.inpainting_fill if request.inpainting_fill != "original" else None,
    }
    if request.soft_inpainting:
        soft = [parameter for parameter in fields(Img2Img) if parameter.group == "Soft inpainting"]
        pairs |= {parameter.infotext: _plain(getattr(request, parameter.name)) for parameter in soft}
    return pairs


def _hires(request: Txt2Img) -> tuple[dict[str, object], tuple[int, int]]:
    """The pairs of the second pass, and the size of the first."""
    sizes = request.hires_sizes
    resized = sizes.resize_x or sizes.resize_y
    pairs: dict[str, object] = {
        "Hires resize": f"{sizes.resize_x}x{sizes.resize_y}" if resized else None,
        "Hires upscale": None if resized else _plain(request.hr_scale),
        "Hires upscaler": request.hr_upscaler,
        "Hires steps": request.hr_second_pass_steps or None,
    }
    texts = ("hr_checkpoint", "hr_sampler", "hr_scheduler", "hr_prompt", "hr_negative_prompt", "hr_cfg_scale", "hr_refiner_pass")
    for parameter in fields(Txt2Img):
        if parameter.name in texts:
            pairs |= _changed(request, parameter)
    return pairs, (sizes.width, sizes.height)


def _plain(value: object) -> object:
    """Whole floats as A1111's interface writes them: 7, not 7.0."""
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else value


def _resource_hashes(facts: Facts) -> dict[str, object]:
    """A1111's "Lora hashes" and "TI hashes"."""
    pairs: dict[str, object] = {}
    for key, kind in (("Lora hashes", "lora"), ("TI hashes", "embed")):
        found = [(item.name, item.short_hash) for item in facts.resources if item.kind == kind and item.short_hash]
        if found:
            pairs[key] = ", ".join(f"{name.replace(':', '').replace(',', '')}: {digest[:12]}" for name, digest in found)
    return pairs


def civitai_hashes(facts: Facts) -> dict[str, str]:
    """Civitai's table of everything that took part: the first ten digits of each file's SHA-256."""
    hashes = {"model": facts.model_hash, "vae": facts.vae_hash}
    hashes |= {f"{item.kind}:{item.name}": item.sha256 for item in facts.resources}
    return {name: digest[:10] for name, digest in hashes.items() if digest}
