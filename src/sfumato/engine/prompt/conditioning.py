"""Which conditions guide each call of the model for one picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Literal

import torch
from torch import Tensor

from sfumato.engine.prompt.compose import split_parts
from sfumato.engine.prompt.encode import Conditioning, PromptEncoder
from sfumato.engine.prompt.timeline import Clock, Timeline, active_entry, timeline
from sfumato.engine.sampling.guidance import Conditions
from sfumato.errors import InvalidRequest

Padding = Literal["none", "empty", "last"]
"""How prompt and negative prompt of different length are made equal: not at all (then they need separate calls of the model);
the shorter one with the encoding of an empty prompt; or the negative one by repeating its last vector, or by cutting it."""

MAX_PARTS = 64
"""Parts joined with AND; each is one more call of the model per step."""


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


@dataclass(frozen=True, slots=True)
class PromptPlan:
    """Prompt and negative prompt of one picture, encoded for every step of a pass.

    Nothing in it depends on other pictures of a batch. A condition that stays the same stays the same object.

    Attributes:
        until: last steps, ascending, as in `Timeline`.
        active: what guides the model up to each of them.
    """

    until: tuple[int, ...]
    active: tuple[ActiveConditions, ...]

    def at(self, calls: int) -> ActiveConditions:
        """What guides the model when it has been called so many times, from 0; see `Timeline.active`."""
        return self.active[active_entry(self.until, calls)]

    def conditions(self) -> Conditions[Conditioning]:
        """The same for `guide`."""
        entries = list(zip(self.until, self.active, strict=True))
        return Conditions(
            parts=tuple(
                (weight, [(last, active.positive[part][0]) for last, active in entries])
                for part, (_, weight) in enumerate(self.active[0].positive)
            ),
            uncond=[(last, active.negative) for last, active in entries],
        )

    def __iter__(self) -> Iterator[Conditioning]:
        """Every different condition of the plan."""
        used = ((*(condition for condition, _ in active.positive), active.negative) for active in self.active)
        return iter(dict.fromkeys(chain.from_iterable(used)))


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
    schedules = [_Schedule.encoded(encoder, timeline(text, clock), negative=False) for text, _ in parts]
    negative = _Schedule.encoded(encoder, timeline(negative_prompt, clock), negative=True)
    padder = _Padder(encoder.encode("").hidden, padding)
    until = tuple(sorted(set(chain(negative.until, *(schedule.until for schedule in schedules)))))
    active = []
    for last in until:
        positive, uncond = padder.padded([schedule.at(last) for schedule in schedules], negative.at(last))
        weighted = tuple((condition, weight) for condition, (_, weight) in zip(positive, parts, strict=True))
        active.append(ActiveConditions(weighted, uncond))
    return PromptPlan(until, tuple(active))


@dataclass(frozen=True, slots=True)
class _Schedule:
    """An encoded timeline; all conditions have the same number of vectors."""

    until: Sequence[int]
    conditions: list[Conditioning]

    @classmethod
    def encoded(cls, encoder: PromptEncoder, line: Timeline, *, negative: bool) -> _Schedule:
        return cls(line.until, encoder.encode_all([text for _, text in line], negative=negative))

    def at(self, calls: int) -> Conditioning:
        return self.conditions[active_entry(self.until, calls)]


class _Padder:
    """Makes conditions longer or shorter, each only once."""

    def __init__(self, empty: Tensor, padding: Padding) -> None:
        self._empty = empty
        self._padding = padding
        self._done: dict[tuple[Conditioning, int, bool], Conditioning] = {}

    def padded(self, positive: list[Conditioning], negative: Conditioning) -> tuple[list[Conditioning], Conditioning]:
        """The conditions of a step: the parts of the prompt at equal length, the negative prompt as the padding says."""
        length = max(condition.hidden.shape[0] for condition in positive)
        positive = [self.last(condition, length) for condition in positive]
        if self._padding == "last":
            return positive, self.last(negative, length)
        if self._padding == "empty":
            length = max(length, negative.hidden.shape[0])
            return [self.empty(condition, length) for condition in positive], self.empty(negative, length)
        return positive, negative

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
