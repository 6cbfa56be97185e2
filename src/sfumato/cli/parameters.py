"""Options derived from the declarations of a request, and requests from what was given."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from sfumato.cli.parser import Parser
from sfumato.errors import InvalidRequest, NotFound
from sfumato.request import Generation, Parameter, fields, parse

G = TypeVar("G", bound=Generation)

# Short or familiar spellings beside the parameter's own name and A1111's.
ALIASES: Mapping[str, tuple[str, ...]] = {
    "batch_count": ("--count",),
    "denoising_strength": ("--strength",),
    "enable_hr": ("--hires",),
    "init_images": ("--image", "-i", "--init-image"),
    "model": ("-m", "--checkpoint", "--ckpt"),
    "negative_prompt": ("--negative", "-n"),
    "refiner_checkpoint": ("--refiner",),
    "sampler": ("--sampler-index",),
    "styles": ("--style",),
    "vae": ("--vae-path",),
}
METAVARS: Mapping[str, str] = {"int": "N", "float": "X", "choice": "WORD", "texts": "NAME", "image": "FILE", "images": "FILE"}
MAX_IMAGE_BYTES = 64 * 1024 * 1024


def add_parameters(parser: Parser, cls: type[Generation]) -> None:
    """Give `parser` an option for every parameter of the request, in its groups."""
    groups: dict[str, argparse._ArgumentGroup] = {}
    taken = set(parser.option_names)
    for parameter in fields(cls):
        if parameter.group not in groups:
            groups[parameter.group] = parser.add_argument_group(parameter.group)
        shown = [parameter.flag, *(name for name in ALIASES.get(parameter.name, ()) if name not in taken)]
        hidden = [] if not parameter.a1111 else [f"--{parameter.a1111.replace('_', '-')}"]
        taken.update(shown)
        add_option(groups[parameter.group], parameter, shown, describe(parameter) if parameter.available else argparse.SUPPRESS)
        for name in hidden:
            if name not in taken:
                add_option(groups[parameter.group], parameter, [name], argparse.SUPPRESS)
                taken.add(name)


def add_option(group: argparse._ArgumentGroup, parameter: Parameter, names: list[str], help: str) -> None:
    """One option of a parameter; values stay text here, the request itself checks them."""
    if parameter.kind == "bool":
        opposite = [name.replace("--", "--no-", 1) for name in names if name.startswith("--")]
        if parameter.default is True:
            names, opposite = opposite, names  # help shows the spelling that changes something
        group.add_argument(*names, dest=parameter.name, action="store_const", const=parameter.default is not True, help=help)
        group.add_argument(
            *opposite, dest=parameter.name, action="store_const", const=parameter.default is True, help=argparse.SUPPRESS
        )
        return
    action = "append" if parameter.kind in ("texts", "images") else "store"
    group.add_argument(*names, dest=parameter.name, action=action, metavar=metavar(parameter), help=help)


def metavar(parameter: Parameter) -> str:
    """What stands for the value in help."""
    if parameter.kind == "text":
        return "TEXT" if parameter.multiline else "NAME"
    return METAVARS[parameter.kind]


def describe(parameter: Parameter) -> str:
    """Help of one option: its sentence, what is allowed, what happens without it."""
    notes = []
    low, high = parameter.minimum, parameter.maximum
    unit = f" {parameter.unit}" if parameter.unit else ""
    if parameter.choices:
        notes.append(" | ".join(parameter.choices))
    elif low is not None and high is not None:
        notes.append(f"{low:g} to {high:g}{unit}" if high < 1e9 else f"{low:g} or more{unit}")
    if parameter.kind != "bool" and parameter.default not in (None, "", ()):
        notes.append(f"default {parameter.default:g}" if parameter.kind == "float" else f"default {parameter.default}")
    text = parameter.help + (f" ({'; '.join(notes)})" if notes else "")
    return f"{'Turns off: ' * (parameter.default is True)}{text}".replace("%", "%%")


def given_values(found: argparse.Namespace, cls: type[Generation]) -> dict[str, Any]:
    """What the options say about the request, files read."""
    values: dict[str, Any] = {}
    for parameter in fields(cls):
        if not hasattr(found, parameter.name):
            continue
        value = getattr(found, parameter.name)
        if parameter.kind == "images":
            value = tuple(read_file(Path(name)) for name in value)
        elif parameter.kind == "image":
            value = read_file(Path(value))
        values[parameter.name] = value
    return values


def read_size(text: str) -> dict[str, str]:
    """`768x512` as width and height.

    Raises:
        InvalidRequest: it is not two numbers.
    """
    match = re.fullmatch(r"\s*(\d{1,6})\s*[xX×,]\s*(\d{1,6})\s*", text)
    if not match:
        raise InvalidRequest(f"--size: {text[:60]!r} is not a size.", advice="Give width and height in pixels, such as 768x512.")
    return {"width": match[1], "height": match[2]}


def read_file(path: Path) -> bytes:
    """The bytes of a picture.

    Raises:
        NotFound: there is no such file.
        InvalidRequest: it is too large to be a picture.
    """
    try:
        with path.expanduser().open("rb") as file:
            data = file.read(MAX_IMAGE_BYTES + 1)
    except FileNotFoundError:
        raise NotFound(f"There is no file {str(path)!r}.") from None
    except IsADirectoryError:
        raise InvalidRequest(f"{str(path)!r} is a folder, not a picture.") from None
    if len(data) > MAX_IMAGE_BYTES:
        raise InvalidRequest(f"{str(path)!r} is larger than {MAX_IMAGE_BYTES // 2**20} MB.")
    return data


def build(cls: type[G], values: Mapping[str, Any], place: str = "") -> G:
    """The request; complaints name the option, and `place` (a line of a file) where there is one.

    Raises:
        InvalidRequest: one line for each thing that is wrong.
    """
    try:
        return parse(cls, values)
    except InvalidRequest as error:
        lines = [f"{place}{line}" for line in with_flags(error.message.splitlines(), cls)]
        raise InvalidRequest("\n".join(lines), advice=error.advice) from None


def with_flags(lines: Iterable[str], cls: type[Generation]) -> list[str]:
    """`cfg_scale: ...` as `--cfg-scale: ...`."""
    flags = {parameter.name: parameter.flag for parameter in fields(cls)}
    result = []
    for line in lines:
        name, colon, rest = line.partition(":")
        result.append(f"{flags.get(name, name)}{colon}{rest}")
    return result
