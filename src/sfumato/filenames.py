"""File names from A1111's patterns (`[seed]-[prompt_words]`), safe on every system, never leaving their folder."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import re
import string
import zoneinfo
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePath

MAX_PART = 128
MAX_NAME_BYTES = 255

_FORBIDDEN = str.maketrans(dict.fromkeys('#<>:"/\\|?*\n\r\t', "_"))
_CONTROL = re.compile(r"[\x00-\x1f\x7f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_DEVICES = re.compile(r"(?i:con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(?:\..*)?")
_WORD = re.compile(r"\[([^\[\]]+)\]")
# The backslash is a letter here, as it is to A1111.
_NOT_WORDS = re.compile(rf"[\s{re.escape(string.punctuation.replace(chr(92), ''))}]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class NameFacts:
    """What a file name may tell about a picture; None where it has none.

    Attributes:
        seed: of this picture; `seeds` are those of all pictures of the request.
        scheduler: as asked for; `default_scheduler` is what "Automatic" stands for with this sampler.
        style_texts: the prompts of the applied styles.
        batch_index, iteration: place in the batch and number of the batch, from 0.
        pixels: the raw RGB(A) bytes of the picture, for `[image_hash]`; called only if that is asked for.
        now: the moment of saving.
        archive: whether the name is that of a zip file over all pictures.
    """

    prompt: str = ""
    negative_prompt: str = ""
    request_prompt: str | None = None
    seed: int | None = None
    seeds: Sequence[int] = ()
    width: int = 0
    height: int = 0
    steps: int = 0
    cfg_scale: float = 0
    sampler: str = ""
    scheduler: str = "Automatic"
    default_scheduler: str = ""
    model: str = ""
    model_hash: str = ""
    vae: str = ""
    styles: Sequence[str] = ()
    style_texts: Sequence[str] = ()
    clip_skip: int = 1
    denoising_strength: float | None = None
    batch_size: int = 1
    batch_count: int = 1
    batch_index: int = 0
    iteration: int = 0
    basename: str = ""
    user: str | None = None
    job_timestamp: str = ""
    now: datetime.datetime | None = None
    pixels: Callable[[], bytes] | None = None
    max_prompt_words: int = 8
    archive: bool = False


def sanitize(text: str, *, spaces: bool = False) -> str:
    """The text as a part of a file name: no characters that systems reject, at most 128 long.

    Args:
        spaces: whether spaces stay; otherwise they become underscores.
    """
    text = text if spaces else text.replace(" ", "_")
    return text.translate(_FORBIDDEN).lstrip(" ")[:MAX_PART].rstrip(" .")


def expand(pattern: str, facts: NameFacts) -> str:
    """The pattern with its `[words]` replaced; unknown words stay, and one without a value takes the text before it away."""
    result: list[str] = []
    position = 0
    for match in _WORD.finditer(pattern):
        text = pattern[position : match.start()]
        position = match.end()
        name, arguments = _arguments(match[1])
        rule = _RULES.get(name.lower())
        if rule is None:
            result.append(f"{text}[{name}]")
            continue
        try:
            value = rule(facts, *arguments)
        except (TypeError, ValueError, IndexError):
            result.append(f"{text}[{name}]")
            continue
        if value is not None:
            result.append(text + value)
    return "".join(result) + pattern[position:]


def _arguments(word: str) -> tuple[str, list[str]]:
    """A word and the arguments in angle brackets at its end."""
    arguments: list[str] = []
    while word.endswith(">") and (start := word.rfind("<")) >= 0:
        arguments.append(word[start + 1 : -1])
        word = word[:start]
    return word, arguments[::-1]


def safe_name(name: str, extension: str = "") -> str:
    """A file name that every system accepts: no separators or control characters, no device names, at most 255 bytes.

    Args:
        extension: with its dot; never cut off.
    """
    name = _CONTROL.sub("_", name).translate(_FORBIDDEN).strip(" ").rstrip(" .")
    if not name or _DEVICES.fullmatch(name):
        name = "_" + name
    room = MAX_NAME_BYTES - len(extension.encode("utf-8"))
    if len(name.encode("utf-8")) > room:
        name = name.encode("utf-8")[:room].decode("utf-8", "ignore").rstrip(" .")
    return name + extension


def file_name(pattern: str, facts: NameFacts, extension: str, number: int | None = None) -> str:
    """The name of a picture file: a five-digit number (if given), what the pattern says, the extension with its dot."""
    said = expand(pattern, facts)
    parts = ([] if number is None else [f"{number:05d}"]) + ([said] if said else [])
    return safe_name("-".join(parts), extension)


def folder_parts(pattern: str, facts: NameFacts) -> tuple[str, ...]:
    """The folders below the output folder that a pattern names; it can name none above it."""
    parts = re.split(r"[/\\]", expand(pattern, facts))
    return tuple(safe_name(part) for part in parts if part.strip(" ") not in ("", ".", ".."))


def next_number(names: Iterable[str], basename: str = "") -> int:
    """One more than the highest number that the file names of a folder begin with (after `basename` and a dash)."""
    prefix = f"{basename}-" if basename else ""
    highest = -1
    for name in names:
        if name.startswith(prefix):
            number = PurePath(name[len(prefix) :]).stem.split("-")[0]
            if number.isdecimal() and len(number) < 16:
                highest = max(highest, int(number))
    return highest + 1


def _digest(text: str, length: str = "") -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[: int(length) if length else 8]


def _image_hash(facts: NameFacts, length: str = "") -> str:
    if facts.pixels is None:
        raise ValueError("no pixels")
    return hashlib.sha256(facts.pixels()).hexdigest()[: int(length) if length else None]


def _words(facts: NameFacts) -> str:
    words = [word for word in _NOT_WORDS.split(facts.prompt) if word] or ["empty"]
    return sanitize(" ".join(words[: facts.max_prompt_words]).strip(), spaces=True)


def _without_styles(facts: NameFacts) -> str:
    prompt = facts.prompt
    for style in filter(None, facts.style_texts):
        for part in style.split("{prompt}"):
            prompt = prompt.replace(part, "").replace(", ,", ",").strip().strip(",")
        prompt = prompt.replace(style, "").strip().strip(",").strip()
    return sanitize(prompt, spaces=True)


def _has_prompt(facts: NameFacts, *choices: str) -> str:
    """Each choice `word|otherwise`: the word if the prompt has it, else what stands after the bar."""
    prompt = facts.prompt.lower()
    result = ""
    for choice in choices:
        word, *others = choice.split("|")
        result += word.lower() if word.lower() in prompt else (others[0] if others else "")
    return sanitize(result)


def _schedule(facts: NameFacts) -> str:
    name = (facts.default_scheduler or "Automatic") if facts.scheduler == "Automatic" else facts.scheduler
    return name.capitalize()


def _moment(facts: NameFacts, pattern: str = "", zone: str = "") -> str:
    now = facts.now or datetime.datetime.now().astimezone()
    if zone:
        with contextlib.suppress(zoneinfo.ZoneInfoNotFoundError, ValueError):
            now = now.astimezone(zoneinfo.ZoneInfo(zone))
    return sanitize(now.strftime(pattern or "%Y%m%d%H%M%S"), spaces=True)


def _vae(facts: NameFacts) -> str:
    parts = facts.vae.split(".")
    return sanitize(parts[1] if len(parts) > 1 and not parts[0] else parts[0], spaces=True) or "NoneType"


def _user(facts: NameFacts) -> str:
    if facts.user is None:
        raise ValueError("nobody is known")
    return facts.user


def _number(value: object) -> str | None:
    return str(value) if value else None


_RULES: dict[str, Callable[..., str | None]] = {
    "basename": lambda f: f.basename,
    "seed": lambda f: "" if f.seed is None else str(f.seed),
    "seed_first": lambda f: str(f.seed if f.batch_size == 1 else f.seeds[0]),
    "seed_last": lambda f: None if f.batch_size == 1 else str(f.seeds[-1]),
    "steps": lambda f: str(f.steps),
    "cfg": lambda f: str(f.cfg_scale),
    "width": lambda f: str(f.width),
    "height": lambda f: str(f.height),
    "styles": lambda f: sanitize(", ".join(name for name in f.styles if name != "None") or "None", spaces=True),
    "sampler": lambda f: sanitize(f.sampler, spaces=True),
    "scheduler": lambda f: sanitize(_schedule(f), spaces=True),
    "sampler_scheduler": lambda f: sanitize(f"{f.sampler} {_schedule(f)}", spaces=True),
    "model_hash": lambda f: f.model_hash[:10],
    "model_name": lambda f: sanitize(f.model, spaces=True),
    "vae_filename": _vae,
    "date": lambda f: _moment(f, "%Y-%m-%d"),
    "datetime": _moment,
    "job_timestamp": lambda f: f.job_timestamp,
    "prompt_hash": lambda f, *n: _digest(f.prompt, *n),
    "negative_prompt_hash": lambda f, *n: _digest(f.negative_prompt, *n),
    "full_prompt_hash": lambda f, *n: _digest(
        f"{f.prompt if f.request_prompt is None else f.request_prompt} {f.negative_prompt}", *n
    ),
    "prompt": lambda f: sanitize(f.prompt),
    "prompt_spaces": lambda f: sanitize(f.prompt, spaces=True),
    "prompt_words": _words,
    "prompt_no_styles": _without_styles,
    "hasprompt": _has_prompt,
    "batch_number": lambda f: None if f.batch_size == 1 or f.archive else str(f.batch_index + 1),
    "batch_size": lambda f: str(f.batch_size),
    "generation_number": lambda f: (
        None if (f.batch_size == 1 and f.batch_count == 1) or f.archive else str(f.iteration * f.batch_size + f.batch_index + 1)
    ),
    "clip_skip": lambda f: str(f.clip_skip),
    "denoising": lambda f: _number(f.denoising_strength),
    "user": _user,
    "image_hash": _image_hash,
    "none": lambda f: "",
}
