r"""The grammar of prompt editing and alternation: text in, a flat tree out. What a step shows is the timeline's business.

Constructs, where `x`, `y` stand for text that may hold further complete constructs:

* `[x:y:when]`, `[y:when]`, `[x::when]`: editing; `when` is a number with optional white space around it;
* `[x|y|...]`: alternation, any part may be empty;
* `(x)`, `(x:y)`, `[x]`: emphasis, kept as it is for the emphasis parser.

A bracket that belongs to no construct is plain text, and so is one around it: a construct holds complete constructs only.
A colon outside brackets is plain text. But a `|` outside an alternation, or a backslash with nothing (or a line break)
behind it, cannot be read, and makes the *whole* prompt plain text. A backslash before any other character keeps both.
These are A1111's rules, except that where its parser chooses at random we always prefer the construct.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_TOKEN = re.compile(r"[\[\]():|]|(?:[^\\\[\]():|]|\\[^\n])++")
_OPENING = ("(", "[")
_CLOSING = {")": "(", "]": "["}
_SEPARATOR = (":", "|")
_NUMBER = re.compile(r"\s*+([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)\s*+")


@dataclass(frozen=True, slots=True)
class When:
    """The number of an edit.

    Attributes:
        value: the number; may be infinite.
        fraction: it was written with a point, hence it is a fraction of a pass rather than a step.
    """

    value: float
    fraction: bool


@dataclass(frozen=True, slots=True, eq=False)
class Edit:
    """`[before:after:when]`."""

    before: Pieces
    after: Pieces
    when: When


@dataclass(frozen=True, slots=True, eq=False)
class Alternate:
    """`[option|option|...]`, at least two, each possibly empty."""

    options: tuple[Pieces, ...]


Piece = str | Edit | Alternate
Pieces = tuple[Piece, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Prompt:
    """A parsed prompt.

    Attributes:
        pieces: the prompt in order; no two strings in a row.
        edits: every edit in it, however deep.
        alternates: every alternation in it, however deep.
    """

    pieces: Pieces
    edits: tuple[Edit, ...] = ()
    alternates: tuple[Alternate, ...] = ()


class _UnreadableError(Exception):
    """The prompt as a whole is plain text."""


class _Bracket:
    """An open bracket.

    Attributes:
        shape: "(" or "[".
        start: index of the bracket in the output.
        mark: index of its first separator among all separators.
        plain: it holds a bracket that is plain text, hence is no construct itself.
    """

    __slots__ = ("mark", "plain", "shape", "start")

    def __init__(self, shape: str, start: int, mark: int) -> None:
        self.shape = shape
        self.start = start
        self.mark = mark
        self.plain = False


def parse(text: str) -> Prompt:
    """Parse any text; linear in its length and without recursion."""
    plain = Prompt((text,) if text else ())
    if "[" not in text or "]" not in text:
        return plain
    try:
        return _Parser().read(text)
    except _UnreadableError:
        return plain


class _Parser:
    """One pass over the tokens, with a stack of open brackets.

    The output is one flat list: separators and brackets stay in it as text until the closing bracket tells whether they are
    a construct. So nothing has to be put back, and every piece moves at most once, into its node. `marks` are the indexes
    of the separators of all open brackets.
    """

    def __init__(self) -> None:
        self.out: list[Piece] = []
        self.open: list[_Bracket] = []
        self.marks: list[int] = []
        self.edits: list[Edit] = []
        self.alternates: list[Alternate] = []

    def read(self, text: str) -> Prompt:
        tokens = _TOKEN.findall(text)
        if sum(map(len, tokens)) != len(text):
            raise _UnreadableError
        out, stack, marks = self.out, self.open, self.marks
        for token in tokens:
            if token in _OPENING:
                stack.append(_Bracket(token, len(out), len(marks)))
            elif token in _CLOSING:
                self.close(token)
                continue
            elif stack and token in _SEPARATOR:
                marks.append(len(out))
            elif token == "|":
                raise _UnreadableError
            out.append(token)
        self.abandon_open()
        return Prompt(_joined(out), tuple(self.edits), tuple(self.alternates))

    def close(self, token: str) -> None:
        if not self.open or self.open[-1].shape != _CLOSING[token]:
            # Nothing that is open can contain this bracket, so nothing that is open can be completed.
            self.abandon_open()
            self.out.append(token)
            return
        bracket = self.open.pop()
        separators = self.marks[bracket.mark :]
        del self.marks[bracket.mark :]
        if token == "]" and separators and not bracket.plain:
            node = self.node(bracket.start + 1, separators)
            if node is not None:
                self.out[bracket.start :] = [node]
                return
        emphasis = not bracket.plain and len(separators) <= (1 if token == ")" else 0)
        self.require_colons(separators)
        if self.open and not emphasis:
            self.open[-1].plain = True
        self.out.append(token)

    def node(self, inside: int, separators: list[int]) -> Edit | Alternate | None:
        """The edit or alternation from index `inside` to the end of the output, if it is one."""
        kinds = {self.out[index] for index in separators}
        if kinds == {"|"}:
            alternate = Alternate(tuple(self.between(inside, separators)))
            self.alternates.append(alternate)
            return alternate
        if len(kinds) > 1 or len(separators) > 2 or len(self.out) != separators[-1] + 2:
            return None
        last = self.out[-1]
        number = _NUMBER.fullmatch(last) if isinstance(last, str) else None
        if number is None:
            return None
        *before, after, _ = self.between(inside, separators)
        edit = Edit(before[0] if before else (), after, When(float(number[1]), "." in number[1]))
        self.edits.append(edit)
        return edit

    def between(self, start: int, separators: list[int]) -> list[Pieces]:
        """The output from `start` to its end, cut at the separators."""
        parts: list[Pieces] = []
        for end in (*separators, len(self.out)):
            parts.append(_joined(self.out[start:end]))
            start = end + 1
        return parts

    def abandon_open(self) -> None:
        """All open brackets are plain text."""
        self.require_colons(self.marks)
        self.marks.clear()
        self.open.clear()

    def require_colons(self, separators: list[int]) -> None:
        """These separators become plain text, which a `|` cannot."""
        if any(self.out[index] == "|" for index in separators):
            raise _UnreadableError


def _joined(pieces: Sequence[Piece]) -> Pieces:
    """The pieces with neighbouring strings made one."""
    if len(pieces) < 2:
        return tuple(pieces)
    joined: list[Piece] = []
    run: list[str] = []
    for piece in pieces:
        if isinstance(piece, str):
            run.append(piece)
            continue
        if run:
            joined.append("".join(run))
            run = []
        joined.append(piece)
    if run:
        joined.append("".join(run))
    return tuple(joined)
