"""An argument parser that raises our errors, knows what was probably meant, and takes options before or after words."""

from __future__ import annotations

import argparse
import difflib
import re
import shutil
import textwrap
from collections.abc import Sequence
from typing import NoReturn

from sfumato.errors import InvalidRequest


class Formatter(argparse.RawDescriptionHelpFormatter):
    """Help in the width of the terminal, options in one column."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=34, width=min(shutil.get_terminal_size().columns, 130) - 2)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        """A description in the width of the terminal; examples line by line as they are."""
        if text.startswith("examples:"):
            return super()._fill_text(text, width, indent)
        return textwrap.fill(" ".join(text.split()), width, initial_indent=indent, subsequent_indent=indent)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        """`-o, --output PATH`, the value named once."""
        if not action.option_strings or action.nargs == 0:
            return super()._format_action_invocation(action)
        return f"{', '.join(sorted(action.option_strings, key=len))} {action.metavar}"


class Parser(argparse.ArgumentParser):
    """The parser of one verb.

    Args:
        verb: its name.
        usage: what follows the verb in the usage line.
        description: what it does.
        epilog: examples, shown as they are.
    """

    def __init__(self, verb: str, usage: str, description: str, epilog: str = "") -> None:
        super().__init__(
            prog=f"sfumato {verb}",
            usage=f"sfumato {verb} {usage}",
            description=description,
            epilog=epilog,
            formatter_class=Formatter,
            allow_abbrev=False,
            argument_default=argparse.SUPPRESS,
        )

    @property
    def option_names(self) -> frozenset[str]:
        """Every spelling of every option so far."""
        return frozenset(self._option_string_actions)

    def error(self, message: str) -> NoReturn:
        """Raise what argparse would print.

        Raises:
            InvalidRequest: always.
        """
        if match := re.fullmatch(r"argument ([^/:]+)[^:]*: expected .*argument.*", message):
            name = match[1]
            raise InvalidRequest(f"{name} lacks its value.", advice=f"One that begins with '-' is joined to it: {name}=-value.")
        raise InvalidRequest(f"{message[:1].upper()}{message[1:]}.", advice=f"See {self.prog} --help.")

    def read(self, argv: Sequence[str], words: str | None = None) -> argparse.Namespace:
        """Parse the words after the verb.

        Args:
            words: the attribute that collects what is not an option; everything after `--` goes there unread.

        Raises:
            InvalidRequest: an option is unknown or lacks its value.
        """
        end = list(argv).index("--") if "--" in argv else len(argv)
        options = [_with_dashes(word) for word in argv[:end]]
        if words is None:
            found, unknown = self.parse_known_args([*options, *argv[end + 1 :]])
        else:
            found, unknown = self.parse_known_intermixed_args(options)
            setattr(found, words, [*getattr(found, words, []), *argv[end + 1 :]])
        if unknown:
            raise self._unknown(unknown[0])
        return found

    def _unknown(self, word: str) -> InvalidRequest:
        if not word.startswith("-"):
            return InvalidRequest(f"{word[:100]!r} is one word too many.", advice=f"See {self.prog} --help.")
        name = word.partition("=")[0]
        near = difflib.get_close_matches(name[:100], [key for key in self.option_names if key.startswith("--")], n=1)
        advice = f"Did you mean {near[0]}?" if near else f"See {self.prog} --help."
        if " " in word or not word.startswith("--"):
            advice = "A prompt that begins with '-' goes behind '--'."
        return InvalidRequest(f"There is no option {name[:100]!r}.", advice=advice)


def _with_dashes(word: str) -> str:
    """`--cfg_scale=7` as `--cfg-scale=7`: A1111 writes names with underscores."""
    if not word.startswith("--"):
        return word
    name, equals, value = word.partition("=")
    return name.replace("_", "-") + equals + value
