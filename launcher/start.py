"""The start itself: arguments, environment, hand over."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

from launcher.errors import LaunchError, explain
from launcher.place import ROOT, SOURCE, Place

HELP = (["--help"], ["-h"], ["help"], ["--version"])
SKIP = ("--skip-install", "--skip-prepare-environment")
FLAGS = (*SKIP, "--skip-python-version-check", "--reinstall-torch")


def split_arguments(text: str, *, windows: bool = sys.platform == "win32") -> list[str]:
    """The words of COMMANDLINE_ARGS; on Windows a backslash is part of a path, not an escape.

    Raises:
        LaunchError: a quotation mark is without its partner.
    """
    import shlex

    lexer = shlex.shlex(text, posix=True, punctuation_chars=False)
    lexer.whitespace_split = True
    lexer.commenters = ""
    if windows:
        lexer.escape = ""
    try:
        return list(lexer)
    except ValueError:
        raise LaunchError(f"COMMANDLINE_ARGS has a quotation mark without its partner: {text!r}.") from None


def all_arguments(argv: list[str]) -> list[str]:
    """The given arguments and those of COMMANDLINE_ARGS, which come last but before a `--`."""
    text = os.environ.get("COMMANDLINE_ARGS", "")
    if not text.strip() or argv[:1] == ["test"]:
        return argv
    end = argv.index("--") if "--" in argv else len(argv)
    return [*argv[:end], *split_arguments(text), *argv[end:]]


def hand_over(python: Path, arguments: list[str]) -> int:
    """Become `python ARGUMENTS`. On Windows, where that is not possible, run it and return its exit code."""
    command = [str(python), *arguments]
    sys.stdout.flush()
    sys.stderr.flush()
    if sys.platform != "win32":
        os.execv(command[0], command)  # signals, terminal and exit code now belong to the program
    import subprocess

    process = subprocess.Popen(command)
    while True:
        with contextlib.suppress(KeyboardInterrupt):  # Ctrl-C reaches the child too; its answer is the one that counts
            return process.wait()


def start(argv: list[str]) -> int:
    """Prepare the environment and hand over; returns only on Windows.

    Raises:
        LaunchError: something is in the way.
    """
    given = all_arguments(argv)
    end = given.index("--") if "--" in given else len(given)
    flags = [word for word in given[:end] if word in FLAGS]
    arguments = [word for word in given[:end] if word not in FLAGS] + given[end:]

    place = Place.from_environment()
    if arguments in HELP and not place.is_ready("base"):
        place = Place(None)  # these need no packages, so nobody has to wait for them
        flags = [*SKIP]
    testing = arguments[:1] == ["test"]
    group = "dev" if testing else "base"
    if any(flag in flags for flag in SKIP):
        if not place.python.exists():
            raise LaunchError(f"There is no environment at {str(place.folder)!r} yet; start once without --skip-install.")
    elif "--reinstall-torch" in flags or not place.is_ready(group):
        from launcher.install import prepare

        prepare(place, group, reinstall_torch="--reinstall-torch" in flags)
    place.link_source()
    if place.folder is None:
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(SOURCE), os.environ.get("PYTHONPATH")]))
    # -P: nothing is imported from the folder somebody happens to be in.
    program = [str(ROOT / "tests" / "check.py"), *arguments[1:]] if testing else ["-P", "-m", "sfumato", *arguments]
    return hand_over(place.python, program)


def main(argv: list[str]) -> int:
    """Start Sfumato; the exit code where it could not be started."""
    try:
        return start(argv)
    except LaunchError as error:
        print(f"sfumato: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        reason = explain("Starting", str(error))
        print(f"sfumato: {reason}", file=sys.stderr)
        return reason.exit_code
    except KeyboardInterrupt:
        print("sfumato: interrupted; the next start goes on where this one stopped.", file=sys.stderr)
        return 130
