"""`sfumato train`: run a recipe, or go on with it."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from sfumato.cli.app import MakeApp, TrainingProgress
from sfumato.cli.options import add_app_options, app_options
from sfumato.cli.parser import Parser
from sfumato.errors import InvalidRequest

DESCRIPTION = """\
Train what a recipe describes, from the start or from where the last call ended. Ctrl-C keeps the state first; the same
command goes on, to the bit."""
EPILOG = """\
examples:
  sfumato train starter/vae
  sfumato train starter
  sfumato train my-recipe.toml --set loop.steps=2000 --set optimizer.rate=1e-4
  sfumato train starter/unet-64 --minutes 60
"""


def run(argv: list[str], make_app: MakeApp) -> int:
    """Train and show how it goes."""
    parser = Parser("train", "RECIPE [OPTIONS]", DESCRIPTION, EPILOG)
    parser.add_argument("words", nargs="*", metavar="RECIPE", help="a TOML file, or a name or folder below recipes")
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", help="folder of the run; outputs/training/NAME by default")
    parser.add_argument("--set", action="append", metavar="NAME=VALUE", help="replace a value of the recipe; repeatable")
    parser.add_argument("--minutes", metavar="N", help="stop after this time; the same command goes on later")
    add_app_options(parser)
    found = parser.read(argv, "words")
    if len(found.words) != 1:
        parser.error("one recipe is needed")
    app = make_app(app_options(found))
    with stoppable() as stopped:
        reports = app.train(
            found.words[0],
            folder=getattr(found, "output", None),
            changes=changes_of(found),
            stop=lambda: bool(stopped),
        )
        last = show(reports, quiet=hasattr(found, "quiet"))
    if stopped and last is not None and last.step < last.steps:
        print(f"Stopped at step {last.step} of {last.steps}; the same command goes on from there.", file=sys.stderr)
        return 130
    return 0


def changes_of(found: argparse.Namespace) -> dict[str, str]:
    """What `--set` and `--minutes` change in the recipe.

    Raises:
        InvalidRequest: a change is not NAME=VALUE.
    """
    changes: dict[str, str] = {}
    for word in getattr(found, "set", []):
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise InvalidRequest(f"--set: {word[:60]!r} is not NAME=VALUE.", advice="For example --set loop.steps=2000.")
        changes[name.strip()] = value.strip()
    if hasattr(found, "minutes"):
        changes["loop.minutes"] = found.minutes
    return changes


@contextmanager
def stoppable() -> Iterator[list[int]]:
    """While this lasts, the first Ctrl-C or SIGTERM is noted in the list, and the second Ctrl-C interrupts."""
    noted: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if noted and number == signal.SIGINT:
            raise KeyboardInterrupt
        noted.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield noted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def show(reports: Iterator[TrainingProgress], *, quiet: bool) -> TrainingProgress | None:
    """A bar on a terminal, a line per report elsewhere; the last report."""
    from tqdm import tqdm

    last = None
    bar: Any = None
    for last in reports:
        if quiet:
            continue
        if not sys.stderr.isatty():
            print(last, file=sys.stderr, flush=True)
            continue
        if bar is None or bar.desc != f"{last.name}: ":
            if bar is not None:
                bar.close()
            bar = tqdm(desc=last.name, total=last.steps, initial=last.step, file=sys.stderr, unit="step", dynamic_ncols=True)
        bar.set_postfix_str(f"loss {last.loss:.4f}, {last.images_per_second:.1f} images/s", refresh=False)
        bar.update(last.step - bar.n)
    if bar is not None:
        bar.close()
    return last
