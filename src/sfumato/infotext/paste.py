"""From a parameters text that somebody pasted to request fields. Such text may come from anywhere and is treated so."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sfumato.errors import InvalidRequest
from sfumato.infotext.build import PROGRAM
from sfumato.infotext.parse import Parameters, explicit, parse
from sfumato.infotext.settings import Resolve
from sfumato.parameter import Parameter, fields
from sfumato.parameter import parse as parse_request
from sfumato.request import Generation, Img2Img, Txt2Img
from sfumato.styles import Style

MAX_TEXT = 256 * 1024

_HASHES = re.compile(r",\s*+Hashes:\s*+(?=\{)")
_PATH = re.compile(r"[/\\]|[A-Za-z]:|.*(?:^|[/\\])\.\.(?:[/\\]|$)|.*://", re.DOTALL)
_NUMBER = re.compile(r"[+-]?(?:\d{1,40}(?:\.\d{0,40})?|\.\d{1,40})(?:[eE][+-]?\d{1,4})?")

# What a text says about the picture that is no parameter of a request.
_INFORMATION = frozenset(
    {"Model hash", "VAE hash", "Version", "User", "Lora hashes", "TI hashes", "Hashes", "Init image hash", "FP8 weight"}
    | {"Cache FP16 weight for LoRA", "Batch size", "Batch pos", "Hypernet", "Hypernet strength", "First pass size-1"}
    | {"First pass size-2", "Styles array", "Prompt", "Negative prompt", "Template", "Negative Template"}
)
_OTHER_NAMES = {
    "Eta DDIM": "eta",
    "Beta scheduler alpha": "beta_alpha",
    "Beta scheduler beta": "beta_beta",
    "Size-1": "width",
    "Size-2": "height",
    "Seed resize from-1": "seed_resize_from_w",
    "Seed resize from-2": "seed_resize_from_h",
    "Hires resize-1": "hr_resize_x",
    "Hires resize-2": "hr_resize_y",
    "Mask blur": "mask_blur_x",
}
# Values that A1111 writes in words of its own.
_WORDS: dict[str, dict[str, object]] = {
    "hr_sampler": {"Use same sampler": ""},
    "hr_scheduler": {"Use same scheduler": ""},
    "hr_checkpoint": {"Use same checkpoint": ""},
    "inpainting_mask_invert": {"Inpaint masked": False, "Inpaint not masked": True},
    "inpaint_full_res": {"Whole picture": False, "Only masked": True},
}
_FILES = frozenset({"model", "vae", "refiner_checkpoint", "hr_checkpoint", "hr_upscaler", "upscaler"})
_HIRES_MARKS = ("Hires upscale", "Hires upscaler", "Hires resize-1", "Hires steps")


def to_request(
    text: str,
    cls: type[Generation] = Txt2Img,
    *,
    styles: Sequence[Style] = (),
    include_model: bool = False,
    resolve: Resolve | None = None,
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The request fields that a parameters text sets, and a sentence about everything that was left out.

    The fields always form a valid request of `cls`. Model names that are paths are never taken over.

    Args:
        styles: named styles to recognise in the prompts.
        include_model: whether the checkpoint is set too (its hash, or its name where no hash is written).
        resolve: the engine's resolution of old sampler names such as "DPM++ 2M Karras".

    Raises:
        InvalidRequest: the text is longer than 256 KB.
    """
    if len(text) > MAX_TEXT:
        raise InvalidRequest(f"The text has {len(text)} characters.", advice=f"At most {MAX_TEXT} are read.")
    text, _ = split_hashes(_clean(text))
    written = parse(text, styles=styles)
    own, defaults = explicit(text), parse("")
    given = {key: value for key, value in written.items() if key in own or value != defaults.get(key)}
    values: dict[str, Any] = {"prompt": written["Prompt"], "negative_prompt": written["Negative prompt"]}
    if "Styles array" in written:
        values["styles"] = written["Styles array"]
    warnings = _take(given, cls, values, include_model)
    if cls is Txt2Img and "Denoising strength" in given and any(mark in given for mark in _HIRES_MARKS):
        values["enable_hr"] = True
    if "RNG" not in given and str(given.get("Version")).startswith(PROGRAM.split()[0]):
        # A missing key means GPU. A1111's pictures keep our default: it repeats what an NVIDIA card made, wherever we run.
        values["rng"] = "GPU"
    if "mask_blur_x" in values:
        values["mask_blur_y"] = values["mask_blur_x"]
    if resolve is not None and "sampler" in values:
        values["sampler"], values["scheduler"] = resolve(values["sampler"], values.get("scheduler"))
    return _valid(cls, values, warnings), tuple(warnings)


def split_hashes(text: str) -> tuple[str, dict[str, str]]:
    """The text without Civitai's `Hashes: {...}`, and those hashes by resource ("model", "vae", "lora:name")."""
    head, newline, line = text.rpartition("\n")
    match = _HASHES.search(line)
    if not match:
        return text, {}
    try:
        found, end = json.JSONDecoder().raw_decode(line, match.end())
    except (ValueError, RecursionError):
        return text, {}
    if not isinstance(found, dict):
        return text, {}
    hashes = {str(key): value for key, value in found.items() if isinstance(value, str)}
    return head + newline + line[: match.start()] + line[end:], hashes


def _clean(text: str) -> str:
    """Without NUL characters and half surrogate pairs, which no request may hold."""
    return text.replace("\0", "").encode("utf-8", "replace").decode("utf-8")


def _take(given: Parameters, cls: type[Generation], values: dict[str, Any], include_model: bool) -> list[str]:
    """Put what `given` says into `values`; what cannot be taken over is explained in the result."""
    known = {parameter.infotext: parameter for parameter in fields(cls) if parameter.infotext}
    by_name = {parameter.name: parameter for parameter in fields(cls)}
    known |= {key: by_name[name] for key, name in _OTHER_NAMES.items() if name in by_name}
    elsewhere = {parameter.infotext for other in (Txt2Img, Img2Img) for parameter in fields(other)} | set(_OTHER_NAMES)
    warnings: list[str] = []
    ignored: list[str] = []
    for key, value in given.items():
        parameter = known.get(key)
        if parameter is None:
            if key not in _INFORMATION and key not in elsewhere:
                ignored.append(key[:60])
        elif parameter.name == "model":
            if include_model:
                _put_model(given, values, warnings)
        elif problem := _put(parameter, value, values):
            warnings.append(f"{key}: {problem}")
    if ignored:
        shown = ", ".join(ignored[:10]) + (", …" if len(ignored) > 10 else "")
        warnings.append(f"Not used: {shown}.")
    return warnings


def _put_model(given: Parameters, values: dict[str, Any], warnings: list[str]) -> None:
    name = str(given.get("Model hash") or given["Model"])
    if _PATH.match(name):
        warnings.append("Model: a path is not taken from a text.")
    else:
        values["model"] = name[:1024]


def _put(parameter: Parameter, value: object, values: dict[str, Any]) -> str:
    """Set one field; the answer is what stands in the way, or nothing."""
    text = str(value)
    taken = _WORDS.get(parameter.name, {}).get(text, _READERS[parameter.kind](text, parameter))
    if taken is None:
        return f"{text[:60]!r} is not {parameter.allowed}."
    if not parameter.available:
        return f"{parameter.title} is not available in this version." if taken != parameter.default else ""
    if parameter.name in _FILES and _PATH.match(text):
        return "a path is not taken from a text."
    values[parameter.name] = taken
    return ""


def _read_number(text: str, parameter: Parameter) -> float | int | None:
    if not _NUMBER.fullmatch(text.strip()):
        return None
    number = float(text)
    if not math.isfinite(number) or (parameter.kind == "int" and not text.strip().lstrip("+-").isdecimal()):
        return None
    if parameter.minimum is not None and number < parameter.minimum:
        return None
    if parameter.maximum is not None and number > parameter.maximum:
        return None
    return int(text) if parameter.kind == "int" else number


def _read_bool(text: str, parameter: Parameter) -> bool | None:
    words = {"true": True, "false": False}
    return words.get(text.strip().lower(), True if parameter.name == "restore_faces" else None)


def _read_choice(text: str, parameter: Parameter) -> str | None:
    return next((choice for choice in parameter.choices if choice.casefold() == text.strip().casefold()), None)


def _read_text(text: str, parameter: Parameter) -> str | None:
    return text if parameter.multiline or len(text) <= 100 or parameter.name in _FILES else None


def _read_nothing(text: str, parameter: Parameter) -> None:
    """Pictures and lists are never read from text."""


_READERS: Mapping[str, Callable[[str, Parameter], Any]] = {
    "int": _read_number,
    "float": _read_number,
    "bool": _read_bool,
    "choice": _read_choice,
    "text": _read_text,
    "texts": _read_nothing,
    "image": _read_nothing,
    "images": _read_nothing,
}


def _valid(cls: type[Generation], values: dict[str, Any], warnings: list[str]) -> dict[str, Any]:
    """The values if they make a request together, else only the prompts; for combinations that make no sense."""
    try:
        parse_request(cls, values)
    except InvalidRequest as error:
        warnings.append(f"Only the prompts were taken over: {error.message}")
        return {key: value for key, value in values.items() if key in ("prompt", "negative_prompt")}
    return values
