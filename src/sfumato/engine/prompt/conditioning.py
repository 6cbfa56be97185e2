"""Which conditions guide each call of the model for one picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from sfumato.engine.prompt.compose import split_parts
from sfumato.engine.prompt.encode import Conditioning, PromptEncoder
from sfumato.engine.prompt.timeline import Clock, Timeline, active_entry, timeline
from sfumato.errors import InvalidRequest

Padding = Literal["none", "empty", "last"]
"""How prompt and negative prompt of different length are made equal: not at all (then they need separate calls of the model);
the shorter one with the encoding of an empty prompt; or the negative one by repeating its last vector, or by cutting it."""

MAX_PARTS = 64
"""Parts joined with AND; each is one more call of the model per step."""


@dataclass(frozen=True, slots=True)
class ConditionSchedule:
    """One prompt without `AND` over the steps of a pass.

    Attributes:
        until: last steps, ascending, as in `Timeline`.
        conditions: what holds up to each of them; all have the same number of vectors.
    """

    until: Sequence[int]
    conditions: tuple[Conditioning, ...]

    def at(self, calls: int) -> Conditioning:
        """What holds when the model has been called so many times, from 0; see `Timeline.active`."""
        return self.conditions[active_entry(self.until, calls)]


@dataclass(frozen=True, slots=True)
class ActiveConditions:
    """What guides one call of the model.

    Attributes:
        positive: the conditions joined with `AND`, each with its weight; all have the same number of vectors.
        negative: the condition that guidance leads away from; its number of vectors may differ unless padding is on.
    """

    positive: tuple[tuple[Conditioning, float], ...]
    negative: Conditioning

    @property
    def equal_length(self) -> bool:
        """Whether all conditions can go through the model in one batch."""
        return self.negative.hidden.shape[0] == self.positive[0][0].hidden.shape[0]


class PromptPlan:
    """Prompt and negative prompt of one picture, encoded for every step of a pass.

    Nothing in it depends on other pictures of a batch.

    Args:
        parts: of the positive prompt, each with its weight; at least one.
        negative: the negative prompt.
        empty: the encoding of an empty prompt, one chunk, for the padding "empty".
        padding: see `Padding`.
    """

    def __init__(
        self,
        parts: Sequence[tuple[ConditionSchedule, float]],
        negative: ConditionSchedule,
        *,
        empty: Conditioning,
        padding: Padding = "none",
    ) -> None:
        self.parts = tuple(parts)
        self.negative = negative
        self._padder = _Padder(empty.hidden)
        self._padding: Padding = padding

    def at(self, calls: int) -> ActiveConditions:
        """What guides the model when it has been called so many times, from 0. Conditions are the same objects as long as
        nothing changes."""
        positive = [(schedule.at(calls), weight) for schedule, weight in self.parts]
        negative = self.negative.at(calls)
        length = max(condition.hidden.shape[0] for condition, _ in positive)
        pad = self._padder
        positive = [(pad.last(condition, length), weight) for condition, weight in positive]
        if self._padding == "last":
            negative = pad.last(negative, length)
        elif self._padding == "empty":
            longest = max(length, negative.hidden.shape[0])
            positive = [(pad.empty(condition, longest), weight) for condition, weight in positive]
            negative = pad.empty(negative, longest)
        return ActiveConditions(tuple(positive), negative)

    def __iter__(self) -> Iterator[Conditioning]:
        """Every different condition of the plan, before padding."""
        schedules = [*(schedule for schedule, _ in self.parts), self.negative]
        return iter(dict.fromkeys(condition for schedule in schedules for condition in schedule.conditions))


def plan_prompts(
    encoder: PromptEncoder, prompt: str, negative_prompt: str, clock: Clock, *, padding: Padding = "none"
) -> PromptPlan:
    """Encode what one picture needs in one pass.

    Args:
        encoder: of the job.
        prompt, negative_prompt: without comments and tags of networks. Only the prompt is split at `AND`.
        clock: the pass. Its steps are calls of the model: twice the steps for samplers that call it twice per step.
        padding: see `Padding`.

    Raises:
        InvalidRequest: a malformed weight, too much text, or too many parts.
    """
    parts = split_parts(prompt)
    if len(parts) > MAX_PARTS:
        raise InvalidRequest(f"The prompt joins {len(parts)} parts with AND.", advice=f"{MAX_PARTS} are the most.")
    schedules = [(_schedule(encoder, timeline(text, clock), negative=False), weight) for text, weight in parts]
    negative = _schedule(encoder, timeline(negative_prompt, clock), negative=True)
    return PromptPlan(schedules, negative, empty=encoder.encode(""), padding=padding)


def _schedule(encoder: PromptEncoder, line: Timeline, *, negative: bool) -> ConditionSchedule:
    return ConditionSchedule(line.until, tuple(encoder.encode_all([text for _, text in line], negative=negative)))


class _Padder:
    """Makes conditions longer, each only once."""

    def __init__(self, empty: Tensor) -> None:
        self._empty = empty
        self._done: dict[tuple[Conditioning, int, bool], Conditioning] = {}

    def last(self, condition: Conditioning, length: int) -> Conditioning:
        """Repeat the last vector up to a length, or cut."""
        hidden, missing = condition.hidden, length - condition.hidden.shape[0]
        if missing == 0:
            return condition
        if (condition, length, False) not in self._done:
            longer = hidden[:length] if missing < 0 else torch.cat([hidden, hidden[-1:].expand(missing, -1)])
            self._done[condition, length, False] = Conditioning(longer, condition.vector)
        return self._done[condition, length, False]

    def empty(self, condition: Conditioning, length: int) -> Conditioning:
        """Append encodings of an empty prompt up to a length, a multiple of a chunk's."""
        missing = (length - condition.hidden.shape[0]) // self._empty.shape[0]
        if missing <= 0:
            return condition
        if (condition, length, True) not in self._done:
            longer = torch.cat([condition.hidden, self._empty.repeat(missing, 1)])
            self._done[condition, length, True] = Conditioning(longer, condition.vector)
        return self._done[condition, length, True]
