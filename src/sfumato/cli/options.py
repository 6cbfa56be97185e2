"""Options that several verbs share: folders, device, precision, memory, and what A1111's command lines bring along."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from sfumato.cli.a1111_flags import NO_EFFECT, SERVER_FLAGS, SERVER_VALUES
from sfumato.cli.app import AppOptions
from sfumato.cli.parser import Parser
from sfumato.errors import InvalidRequest

DEVICES = "auto, cpu, cuda, cuda:N, mps"
DTYPES = ("auto", "fp32", "fp16", "bf16")
CPU_MODULES = ("all", "sd", "interrogate", "gfpgan", "bsrgan", "esrgan", "scunet", "swinir", "codeformer")
MEMORY = ("auto", "high", "medium", "low")

# Flags of A1111's that decide something here: the attribute of `AppOptions` and its value.
MAPPED: Mapping[str, tuple[str, str]] = {
    "--lowvram": ("memory", "low"),
    "--medvram": ("memory", "medium"),
    "--medvram-sdxl": ("memory", "medium"),
    "--no-half": ("dtype", "fp32"),
}


def add_app_options(parser: Parser, *, device: bool = True) -> None:
    """Folders, and how models run; a verb without models accepts the latter unseen, for a COMMANDLINE_ARGS may bring it."""
    group = parser.add_argument_group("Program")
    group.add_argument("--data-dir", type=Path, metavar="DIR", help="folder of models, outputs and settings")
    group.add_argument("--models-dir", type=Path, metavar="DIR", help="folder of the models, where it lies elsewhere")
    group.add_argument("-q", "--quiet", action="store_true", help="nothing on standard error but errors")

    def shown(text: str) -> str:
        return text if device else argparse.SUPPRESS

    group.add_argument("--device", metavar="NAME", help=shown(f"what computes: {DEVICES}"))
    if "--dtype" not in parser.option_names:  # convert has its own
        group.add_argument("--dtype", metavar="WORD", help=shown(f"precision of the weights: {', '.join(DTYPES)}"))
    group.add_argument("--memory", metavar="WORD", help=shown(f"memory plan: {', '.join(MEMORY)}; less memory is slower"))
    for flag, (name, value) in MAPPED.items():
        text = argparse.SUPPRESS if flag == "--medvram-sdxl" else shown(f"same as --{name} {value}")
        group.add_argument(flag, dest="memory" if name == "memory" else "precise", action="store_const", const=value, help=text)
    group.add_argument("--precision", help=argparse.SUPPRESS)
    group.add_argument("--use-cpu", nargs="+", choices=CPU_MODULES, help=argparse.SUPPRESS)
    group.add_argument("--device-id", help=argparse.SUPPRESS)
    add_foreign_flags(group, parser.option_names)


def add_foreign_flags(group: argparse._ArgumentGroup, taken: frozenset[str]) -> None:
    """Accept what a COMMANDLINE_ARGS for A1111 may hold."""
    for flag in (*NO_EFFECT, *SERVER_FLAGS):
        group.add_argument(flag, dest="foreign", action=Remember, nargs=0, help=argparse.SUPPRESS)
    for flag in SERVER_VALUES:
        if flag not in taken:
            group.add_argument(flag, dest="foreign", action=Remember, help=argparse.SUPPRESS)


class Remember(argparse.Action):
    """Collects the names of options that were given."""

    def __call__(self, parser: object, namespace: argparse.Namespace, values: object, option: str | None = None) -> None:
        """Note the option."""
        setattr(namespace, self.dest, [*getattr(namespace, self.dest, []), option])


def folder_options(found: argparse.Namespace) -> AppOptions:
    """How the application shall be set up for a verb that runs no model."""
    return AppOptions(data_dir=getattr(found, "data_dir", None), models_dir=getattr(found, "models_dir", None))


def app_options(found: argparse.Namespace) -> AppOptions:
    """How the application shall be set up.

    Raises:
        InvalidRequest: a device, precision or memory plan that does not exist.
    """
    given = vars(found)
    device = given.get("device", "auto")
    if "all" in given.get("use_cpu", ()) or "sd" in given.get("use_cpu", ()):
        device = "cpu"
    elif "device_id" in given:
        device = f"cuda:{given['device_id']}"
    dtype = given.get("precise", given.get("dtype", "auto"))
    precision = given.get("precision", "autocast")
    if precision not in ("full", "half", "autocast"):
        raise InvalidRequest(f"--precision: {precision!r} is not one of full, half, autocast.")
    if precision == "full" and dtype == "auto":
        dtype = "fp32"
    for name, value, allowed in (("dtype", dtype, DTYPES), ("memory", given.get("memory", "auto"), MEMORY)):
        if value not in allowed:
            raise InvalidRequest(f"--{name}: {value[:60]!r} is not one of {', '.join(allowed)}.")
    return AppOptions(
        data_dir=given.get("data_dir"),
        models_dir=given.get("models_dir"),
        device=device,
        dtype=dtype,
        memory=given.get("memory", "auto"),
    )


def foreign_notes(found: argparse.Namespace) -> Iterator[str]:
    """A sentence about every accepted flag of A1111's that changes nothing."""
    flags = tuple(dict.fromkeys(getattr(found, "foreign", ())))
    yield from (f"{flag} {NO_EFFECT[flag]}" for flag in flags if flag in NO_EFFECT)
    others = [flag for flag in flags if flag not in NO_EFFECT]
    if others:
        yield f"{', '.join(others)}: not used by this verb."


def warn(found: argparse.Namespace, text: str) -> None:
    """A warning on standard error, unless asked to be quiet."""
    if not getattr(found, "quiet", False):
        print(f"warning: {text}", file=sys.stderr)
