"""Which text a prompt stands for at which step."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import overload

from sfumato.engine.prompt.grammar import Alternate, Edit, Pieces, Prompt, When, parse
from sfumato.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class Clock:
    """The pass of sampling that a prompt is read for.

    Attributes:
        base_steps: steps of the first pass.
        hires_steps: steps of the second pass when the prompt is read for that one, otherwise None. Steps in the prompt then
            count on from the first pass, and fractions from 1.0 to 2.0 address the second pass.
        old_scheduling: A1111's option of the same name: a number below 1 is a fraction, any other a step, and both passes
            are alike.

    Raises:
        InvalidRequest: a number of steps below 1.
    """

    base_steps: int
    hires_steps: int | None = None
    old_scheduling: bool = False

    def __post_init__(self) -> None:
        for steps in (self.base_steps, self.hires_steps):
            if steps is not None and steps < 1:
                raise InvalidRequest(f"A prompt cannot be scheduled over {steps} steps.", advice="Use at least 1 step.")

    @property
    def steps(self) -> int:
        """Steps of the pass."""
        return self.base_steps if self.hires_steps is None or self.old_scheduling else self.hires_steps

    def last_step(self, when: When) -> int:
        """The last step, 0 to `steps`, before an edit happens."""
        second = self.hires_steps is not None and not self.old_scheduling
        value = when.value
        if self.old_scheduling:
            value = value * self.steps if value < 1 else value
        elif when.fraction:
            value = (value - second) * self.steps
        else:
            value -= self.base_steps if second else 0
        return int(min(max(value, 0), self.steps))


class Timeline(Sequence[tuple[int, str]]):
    """A prompt over the steps of a pass: a sequence of (last step, text), the last one ending at the last step.

    Texts are made when they are asked for, so a long prompt that alternates costs nothing until it is used. Steps count
    from 1. A prompt that alternates has one entry for every step, also where nothing changes.
    """

    def __init__(self, prompt: Prompt, clock: Clock) -> None:
        self.prompt = prompt
        self.clock = clock

    @cached_property
    def until(self) -> Sequence[int]:
        """The last steps of the entries, ascending."""
        steps = self.clock.steps
        if self.prompt.alternates:
            return range(1, steps + 1)
        return sorted({steps, *self._edit_steps} - {0})

    @cached_property
    def _edit_steps(self) -> list[int]:
        return sorted({self.clock.last_step(edit.when) for edit in self.prompt.edits})

    @cached_property
    def _period(self) -> int:
        """Steps after which all alternations are where they were, at most the number of steps."""
        period = 1
        for size in {len(alternate.options) for alternate in self.prompt.alternates}:
            period = math.lcm(period, size)
            if period >= self.clock.steps:
                return self.clock.steps
        return period

    @cached_property
    def _rendered(self) -> dict[tuple[int, int], str]:
        return {}

    def text_at(self, step: int) -> str:
        """The text of a step, counted from 1."""
        key = (bisect_left(self._edit_steps, step), step % self._period)
        text = self._rendered.get(key)
        if text is None:
            text = self._rendered[key] = "".join(_visible(self.prompt.pieces, step, self.clock))
        return text

    def active(self, calls: int) -> int:
        """The index of the entry in use after so many calls of the model, from 0.

        That is the first entry whose last step is not below `calls`; when there is none, the first of all. Mind that call
        0 and call 1 share the first step: this is how A1111 counts.
        """
        return active_entry(self.until, calls)

    def __len__(self) -> int:
        return len(self.until)

    @overload
    def __getitem__(self, index: int) -> tuple[int, str]: ...
    @overload
    def __getitem__(self, index: slice) -> list[tuple[int, str]]: ...
    def __getitem__(self, index: int | slice) -> tuple[int, str] | list[tuple[int, str]]:
        if isinstance(index, slice):
            return [(step, self.text_at(step)) for step in self.until[index]]
        step = self.until[index]
        return step, self.text_at(step)


def timeline(text: str, clock: Clock) -> Timeline:
    """Parse a prompt and put it on the clock of a pass."""
    return Timeline(parse(text), clock)


def active_entry(until: Sequence[int], calls: int) -> int:
    """Index of the first last step that is not below `calls`, or 0 when there is none; see `Timeline.active`."""
    index = bisect_left(until, calls)
    return index if index < len(until) else 0


def _visible(pieces: Pieces, step: int, clock: Clock) -> Iterator[str]:
    """The strings that show at a step, in order. A stack instead of recursion: constructs nest as deep as the text is long."""
    stack = [iter(pieces)]
    while stack:
        for piece in stack[-1]:
            if isinstance(piece, str):
                yield piece
                continue
            chosen = _chosen(piece, step, clock)
            if len(chosen) == 1 and isinstance(chosen[0], str):
                yield chosen[0]
            elif chosen:
                stack.append(iter(chosen))
                break
        else:
            stack.pop()


def _chosen(node: Edit | Alternate, step: int, clock: Clock) -> Pieces:
    if isinstance(node, Alternate):
        return node.options[(step - 1) % len(node.options)]
    return node.before if step <= clock.last_step(node.when) else node.after
