"""Which program made a picture, and its parameters in A1111's words."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping

from sfumato.infotext import quote
from sfumato.picture import comfy, names

Texts = Mapping[str, str]
Size = tuple[int, int]

_DREAM = re.compile(r'"([^"]*)"((?:\s+-\w+\s+\S+)*)')
_FLAG = re.compile(r"-(\w)\s+(\S+)")
_RESOLUTION = re.compile(r"\(?(\d{1,6})\D{1,8}(\d{1,6})\)?")


def identify(texts: Texts, size: Size) -> tuple[str, str]:
    """The program that wrote these texts and the parameters text, both empty where nothing is known."""
    for tool, reader in _READERS:
        found = reader(texts, size)
        if found is not None:
            return tool, found
    plain = texts.get("parameters", "")
    if not plain:
        return "", ""
    return ("Sfumato" if "Version: sfumato" in plain else "AUTOMATIC1111"), plain


def load_object(text: str | None) -> dict[str, object] | None:
    """A JSON object, or None for anything else."""
    if not text or not text.lstrip().startswith("{"):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _compose(prompt: object, negative: object, pairs: Mapping[str, object]) -> str:
    line = ", ".join(f"{key}: {quote(value)}" for key, value in pairs.items() if value not in (None, ""))
    middle = f"\nNegative prompt: {negative}" if negative else ""
    return f"{prompt or ''}{middle}\n{line}".strip()


def _size(width: object, height: object) -> str | None:
    return f"{width}x{height}" if isinstance(width, int) and isinstance(height, int) else None


def _novelai(texts: Texts, size: Size) -> str | None:
    """NovelAI; clip skip and ENSD are what its first models need, as A1111 writes them."""
    if texts.get("Software") != "NovelAI":
        return None
    comment = load_object(texts.get("Comment"))
    if comment is None:
        return None
    pairs = {
        "Steps": comment.get("steps"),
        "Sampler": names.novelai_sampler(str(comment.get("sampler"))),
        "CFG scale": comment.get("scale"),
        "Seed": comment.get("seed"),
        "Size": f"{size[0]}x{size[1]}",
        "Clip skip": 2,
        "ENSD": 31337,
    }
    return _compose(texts.get("Description") or comment.get("prompt"), comment.get("uc"), pairs)


def _comfy(texts: Texts, size: Size) -> str | None:
    graph = load_object(texts.get("prompt"))
    found = comfy.parameters(graph) if graph is not None else None
    if found is None:
        return "" if graph is not None and "workflow" in texts else None
    prompt, negative, pairs = found
    return _compose(prompt, negative, {"Size": f"{size[0]}x{size[1]}"} | {key: value for key, value in pairs.items() if value})


def _swarm(texts: Texts, size: Size) -> str | None:
    outer = load_object(texts.get("parameters"))
    given = outer.get("sui_image_params") if outer else None
    if not isinstance(given, dict):
        return None
    pairs = {
        "Steps": given.get("steps"),
        "Sampler": names.sampler(str(given.get("sampler", ""))),
        "Schedule type": names.schedule(str(given.get("scheduler", ""))),
        "CFG scale": given.get("cfgscale"),
        "Seed": given.get("seed"),
        "Size": _size(given.get("width"), given.get("height")),
        "Model": given.get("model"),
    }
    return _compose(given.get("prompt"), given.get("negativeprompt"), pairs)


def _fooocus(texts: Texts, size: Size) -> str | None:
    given = load_object(texts.get("parameters"))
    if given is None or "base_model" not in given:
        return None
    resolution = _RESOLUTION.fullmatch(str(given.get("resolution", ""))[:30])
    pairs = {
        "Steps": given.get("steps"),
        "Sampler": names.sampler(str(given.get("sampler", ""))),
        "Schedule type": names.schedule(str(given.get("scheduler", ""))),
        "CFG scale": given.get("guidance_scale"),
        "Seed": given.get("seed"),
        "Size": f"{resolution[1]}x{resolution[2]}" if resolution else None,
        "Model hash": given.get("base_model_hash"),
        "Model": given.get("base_model"),
    }
    return _compose(given.get("prompt"), given.get("negative_prompt"), pairs)


def _invoke(texts: Texts, size: Size) -> str | None:
    given = load_object(texts.get("invokeai_metadata"))
    if given is None:
        return None
    model = given.get("model")
    pairs = {
        "Steps": given.get("steps"),
        "Sampler": names.sampler(str(given.get("scheduler", ""))),
        "CFG scale": given.get("cfg_scale"),
        "Seed": given.get("seed"),
        "Size": _size(given.get("width"), given.get("height")),
        "Model": model.get("name", model.get("model_name")) if isinstance(model, dict) else None,
    }
    return _compose(given.get("positive_prompt"), given.get("negative_prompt"), pairs)


def _old_invoke(texts: Texts, size: Size) -> str | None:
    """The command line that early InvokeAI kept: a quoted prompt and flags."""
    match = _DREAM.match(texts.get("Dream", "")[:10_000])
    if not match:
        return None
    flags = dict(_FLAG.findall(match[2]))
    pairs = {
        "Steps": flags.get("s"),
        "Sampler": names.sampler(flags.get("A", "")),
        "CFG scale": flags.get("C"),
        "Seed": flags.get("S"),
        "Size": f"{flags['W']}x{flags['H']}" if "W" in flags and "H" in flags else None,
    }
    negative = re.search(r"\[([^\[\]]*)\]", match[1])
    prompt = match[1].replace(negative[0], "").strip() if negative else match[1]
    return _compose(prompt, negative[1] if negative else "", pairs)


def _easy(texts: Texts, size: Size) -> str | None:
    """Easy Diffusion: one text per parameter, or one JSON object."""
    given: Mapping[str, object] = load_object(texts.get("parameters")) or texts
    steps = given.get("num_inference_steps", given.get("Steps"))
    if steps is None or not ("use_stable_diffusion_model" in given or "Stable Diffusion model" in given):
        return None

    def value(key: str, label: str) -> object:
        return given.get(key, given.get(label))

    model = str(value("use_stable_diffusion_model", "Stable Diffusion model"))
    pairs = {
        "Steps": steps,
        "Sampler": names.sampler(str(value("sampler_name", "Sampler") or "")),
        "CFG scale": value("guidance_scale", "Guidance Scale"),
        "Seed": value("seed", "Seed"),
        "Size": f"{size[0]}x{size[1]}",
        "Model": re.split(r"[/\\]", model)[-1],
    }
    return _compose(value("prompt", "Prompt"), value("negative_prompt", "Negative Prompt"), pairs)


_READERS: tuple[tuple[str, Callable[[Texts, Size], str | None]], ...] = (
    ("NovelAI", _novelai),
    ("SwarmUI", _swarm),
    ("Fooocus", _fooocus),
    ("InvokeAI", _invoke),
    ("InvokeAI", _old_invoke),
    ("Easy Diffusion", _easy),
    ("ComfyUI", _comfy),
)
