"""`sfumato info FILE...`: what is in a picture, checkpoint or network file."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sfumato.cli.app import MakeApp
from sfumato.cli.options import add_app_options, folder_options
from sfumato.cli.parser import Parser
from sfumato.errors import NotFound, SfumatoError

DESCRIPTION = (
    "Say what is in a file: the parameters of a picture; family, precision and hashes of a checkpoint. Nothing is loaded."
)


def run(argv: list[str], make_app: MakeApp) -> int:
    """Describe each file; the exit code is that of the last one that could not be read."""
    parser = Parser("info", "FILE... [OPTIONS]", DESCRIPTION)
    parser.add_argument("files", nargs="*", metavar="FILE", help="pictures, checkpoints, networks, diffusers folders")
    parser.add_argument("--json", action="store_true", help="one JSON object per file")
    add_app_options(parser, device=False)
    found = parser.read(argv, "files")
    if not found.files:
        parser.error("no file was named")
    app = make_app(folder_options(found))
    exit_code = 0
    for name in found.files:
        path = Path(name).expanduser()
        try:
            if not path.exists():
                raise NotFound(f"There is no file {name!r}.")
            facts = {"path": str(path)} | app.inspect(path)
        except SfumatoError as error:
            exit_code = error.exit_code
            facts = {"path": str(path), "error": {"code": error.code, "message": str(error)}}
            if not hasattr(found, "json"):
                place = "" if path.name in error.message else f"{name}: "
                print(f"sfumato: {place}{error}", file=sys.stderr)
                continue
        if hasattr(found, "json"):
            print(json.dumps(facts, ensure_ascii=False, default=str))
        else:
            print("\n".join([*lines(facts), ""] if len(found.files) > 1 else lines(facts)))
    return exit_code


# What a picture's own text says already, as it stands.
REPEATED = ("parameters", "record")


# Characters that would let a stranger's file steer the terminal, or reorder what it shows.
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
MAX_LINE = 500


def harmless(text: str) -> str:
    """The text with control characters made visible."""
    return CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", text)


def shortened(text: str) -> str:
    """One line of it, cut where it is very long."""
    return text if len(text) <= MAX_LINE else f"{text[:MAX_LINE]}… ({len(text)} characters; --json shows all)"


def lines(facts: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    """Nested facts as text: a line each, long texts in a block of their own, what is empty or repeated left out."""
    for key, value in facts.items():
        if value in (None, "", [], {}, ()) or (key in REPEATED and facts.get("infotext")):
            continue
        yield from _line(key, value, indent)


def _line(key: str, value: object, indent: str) -> Iterator[str]:
    label = f"{indent}{harmless(str(key))}:"
    if isinstance(value, Mapping):
        yield label
        yield from lines(value, indent + "  ")
    elif isinstance(value, list | tuple) and any(isinstance(item, Mapping) for item in value):
        for index, item in enumerate(value):
            yield from _line(f"{key}[{index}]", item, indent)
    elif isinstance(value, list | tuple):
        yield f"{label} {shortened(harmless(', '.join(map(str, value))))}"
    elif isinstance(value, str) and "\n" in value:
        yield label
        yield from (f"{indent}  {harmless(line)}" for line in value.split("\n"))
    else:
        yield f"{label} {shortened(harmless(str(value)))}"
