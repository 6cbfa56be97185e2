"""The entry: finds the verb, runs it, and turns errors into a sentence and an exit code."""

from __future__ import annotations

import difflib
import importlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from sfumato.cli.app import MakeApp, make_app
from sfumato.errors import Cancelled, InvalidRequest, SfumatoError
from sfumato.version import __version__


@dataclass(frozen=True, slots=True)
class Verb:
    """A command: its name, one line of help, and the function that runs it, imported when it is called."""

    name: str
    summary: str
    module: str

    def load(self) -> Callable[[list[str], MakeApp], int]:
        """The function that takes the words after the verb and answers with the exit code."""
        run: Callable[[list[str], MakeApp], int] = importlib.import_module(self.module).run
        return run


VERBS = (
    Verb("txt2img", "make pictures from words", "sfumato.cli.txt2img"),
    Verb("img2img", "make pictures from a picture and words", "sfumato.cli.img2img"),
    Verb("info", "say what is in a picture, checkpoint or network file", "sfumato.cli.info"),
    Verb("models", "list the models at hand", "sfumato.cli.models"),
    Verb("convert", "write a model in another layout or precision", "sfumato.cli.convert"),
    Verb("train", "train models by a recipe", "sfumato.cli.train"),
    Verb("evaluate", "measure how well a model knows the starter world", "sfumato.cli.evaluate"),
    Verb("bench", "measure how fast this machine makes pictures", "sfumato.cli.bench"),
)

USAGE = """\
Sfumato {version}: a complete Stable Diffusion system.

usage: sfumato VERB [OPTIONS]

{verbs}

sfumato VERB --help explains a verb and its options.

  --debug      show the whole trace of an error
  --version    show the version
"""


def usage() -> str:
    """The help of the program as a whole."""
    return USAGE.format(version=__version__, verbs="\n".join(f"  {verb.name:<12} {verb.summary}" for verb in VERBS))


def find_verb(word: str) -> Verb:
    """The verb of that name.

    Raises:
        InvalidRequest: there is none; names the nearest.
    """
    verbs = {verb.name: verb for verb in VERBS}
    if word in verbs:
        return verbs[word]
    if word.startswith("-"):
        advice = f"There is no web interface yet that starts without one. Verbs: {', '.join(verbs)}."
        raise InvalidRequest(f"The first word must be a verb, not {word!r}.", advice=advice)
    near = difflib.get_close_matches(word, verbs, n=1)
    advice = f"Did you mean {near[0]}?" if near else f"Verbs: {', '.join(verbs)}."
    raise InvalidRequest(f"There is no verb {word[:100]!r}.", advice=advice)


def run(argv: list[str], make_app: MakeApp) -> int:
    """Run the command that `argv` is; errors leave as exceptions."""
    if argv[:1] == ["help"]:
        argv = [*argv[1:2], "--help"]
    if not argv or argv[0] in ("--help", "-h"):
        print(usage(), end="")
        return 0
    if argv[0] == "--version":
        print(__version__)
        return 0
    return find_verb(argv[0]).load()(argv[1:], make_app)


def main(argv: Sequence[str] | None = None, make_app: MakeApp = make_app) -> int:
    """Run the command line.

    Args:
        argv: the words after the program's name; those of this process by default.
        make_app: how the verbs get the application.

    Returns:
        The exit code: 0 for success, 130 after Ctrl-C, otherwise that of the error (see `sfumato.errors`).
    """
    words = list(sys.argv[1:] if argv is None else argv)
    end = words.index("--") if "--" in words else len(words)
    debug = "--debug" in words[:end]
    words = [word for word in words[:end] if word != "--debug"] + words[end:]
    try:
        with terminable():
            return run(words, make_app)
    except KeyboardInterrupt:
        return complain(Cancelled("Cancelled."), debug)
    except BrokenPipeError:
        # Whoever read our output has gone; the interpreter must not try to flush it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except SfumatoError as error:
        return complain(error, debug)
    except OSError as error:
        name = f" {str(error.filename)[:200]}" if error.filename else ""
        return complain(SfumatoError(f"{error.strerror or error}:{name}" if name else str(error)), debug)


@contextmanager
def terminable() -> Iterator[None]:
    """While this lasts, SIGTERM ends the work as Ctrl-C does, so that nothing half written is left behind."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)  # None: not set from Python


def complain(error: SfumatoError, debug: bool) -> int:
    """Say what went wrong; the whole story only when asked for."""
    if debug:
        traceback.print_exc()
    print(f"sfumato: {error}", file=sys.stderr)
    return error.exit_code
