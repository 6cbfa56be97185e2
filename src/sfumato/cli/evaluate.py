"""`sfumato evaluate`: how well a model knows the starter world."""

from __future__ import annotations

import json

from sfumato.cli.app import EvaluationRow, MakeApp
from sfumato.cli.options import add_app_options, app_options
from sfumato.cli.parser import Parser
from sfumato.errors import InvalidRequest

DESCRIPTION = """\
Have a model draw scenes of the starter world that training did not draw, and measure with detectors whether the pictures show
what was asked: shapes, colours, places, relations, counts, pictograms. Intervals hold with 95 % confidence."""
EPILOG = """\
examples:
  sfumato evaluate sfumato-starter
  sfumato evaluate my-model.safetensors --prompts 16 --seeds 1 --json
"""


def run(argv: list[str], make_app: MakeApp) -> int:
    """Measure and print a row at a time."""
    parser = Parser("evaluate", "MODEL [OPTIONS]", DESCRIPTION, EPILOG)
    parser.add_argument("words", nargs="*", metavar="MODEL", help="a checkpoint: its name, its hash or a file")
    for name, metavar, text in (
        ("--prompts", "N", "of each row; 64 by default"),
        ("--seeds", "N", "pictures of each prompt; 3 by default"),
        ("--steps", "N", "sampling steps; 20 by default"),
        ("--cfg-scale", "X", "guidance; 7 by default"),
        ("--sampler", "NAME", "DPM++ 2M by default"),
        ("--side", "N", "side of the pictures in pixels; the model's own by default"),
    ):
        parser.add_argument(name, metavar=metavar, help=text)
    parser.add_argument("--json", action="store_true", help="each row as one line of JSON")
    add_app_options(parser)
    found = vars(namespace := parser.read(argv, "words"))
    if len(namespace.words) != 1:
        parser.error("one model is needed")
    rows = make_app(app_options(namespace)).evaluate(
        namespace.words[0],
        prompts=_whole(found, "prompts", 64, 10_000),
        seeds=_whole(found, "seeds", 3, 64),
        steps=_whole(found, "steps", 20, 1000),
        guidance=_number(found.get("cfg_scale", "7")),
        sampler=found.get("sampler", "DPM++ 2M"),
        size=_whole(found, "side", 0, 2048),
    )
    for row in rows:
        print(json.dumps(row.as_dict()) if "json" in found else _line(row), flush=True)
    return 0


def _line(row: EvaluationRow) -> str:
    interval = f"{row.low:.1f} .. {row.high:.1f}"
    return f"{row.name:<32} {row.value:7.1f} {row.unit:<2}  ({interval}, {row.count} pictures; goal {row.goal:g})"


def _whole(found: dict[str, str], name: str, default: int, most: int) -> int:
    """A whole number from 1 to `most`; the default may be 0.

    Raises:
        InvalidRequest: it is not.
    """
    text = found.get(name)
    if text is None:
        return default
    if not text.isdecimal() or len(text) > 9 or not 1 <= int(text) <= most:
        raise InvalidRequest(f"--{name}: {text[:60]!r} is not a whole number from 1 to {most}.")
    return int(text)


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 <= value <= 100.0:
        raise InvalidRequest(f"--cfg-scale: {text[:60]!r} is not a number from 0 to 100.")
    return value
