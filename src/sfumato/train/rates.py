"""Learning rates over time: named shapes, and A1111's list of "rate:step"."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from sfumato.errors import InvalidRequest
from sfumato.registry import Registry


@dataclass(frozen=True, slots=True)
class Piece:
    """A rate that holds up to an update.

    Attributes:
        until: number of updates after which the next piece begins; None for the end of training.
    """

    rate: float
    until: int | None


def parse_rates(text: str) -> tuple[Piece, ...]:
    """Read "0.005:100, 1e-3:1000, 1e-5": pairs of a rate and the last update it holds for.

    A pair without a step, or with step -1, holds to the end.

    Raises:
        InvalidRequest: naming the pair that makes no sense.
    """
    pieces: list[Piece] = []
    for part in filter(None, (part.strip() for part in text[:10_000].split(","))):
        rate, _, step = part.partition(":")
        try:
            value, until = float(rate), int(step) if step.strip() else -1
        except ValueError:
            value, until = math.nan, 0
        before = pieces[-1].until if pieces else 0
        open_end = until == -1
        if not math.isfinite(value) or value < 0.0 or before is None or (not open_end and until <= before):
            raise InvalidRequest(
                f"The learning rate {part!r} makes no sense in {text[:80]!r}.",
                advice='Write a number, or pairs with rising steps such as "5e-3:100, 1e-3:1000, 1e-5".',
            )
        pieces.append(Piece(value, None if open_end else until))
    if not pieces:
        raise InvalidRequest("The learning rate is empty.", advice='Write a number such as 1e-4, or "5e-3:100, 1e-3".')
    return tuple(pieces)


@dataclass(frozen=True, slots=True)
class Course:
    """What a shape may know.

    Attributes:
        steps: updates of the whole run.
        warmup: updates in which the rate rises from 0.
        final: what remains of the rate at the end, as a share of it.
        cycles: of the shapes that repeat.
    """

    steps: int
    warmup: int = 0
    final: float = 0.0
    cycles: int = 1

    def progress(self, step: int) -> float:
        """The part of the way after the warm-up, 0..1."""
        return min(1.0, max(0.0, (step - self.warmup) / max(1, self.steps - self.warmup)))


Shape = Callable[[int, Course], float]
"""Update (from 0) and course -> factor of the rate, before the warm-up."""

shapes: Registry[Shape] = Registry("learning rate schedule")
"""Every shape by name."""


def _constant(step: int, course: Course) -> float:
    return 1.0


def _linear(step: int, course: Course) -> float:
    return 1.0 + (course.final - 1.0) * course.progress(step)


def _cosine(step: int, course: Course) -> float:
    return course.final + (1.0 - course.final) * (0.5 + 0.5 * math.cos(math.pi * course.progress(step)))


def _restarts(step: int, course: Course) -> float:
    place = course.progress(step) * course.cycles % 1.0 if course.progress(step) < 1.0 else 1.0
    return course.final + (1.0 - course.final) * (0.5 + 0.5 * math.cos(math.pi * place))


def _polynomial(step: int, course: Course) -> float:
    return course.final + (1.0 - course.final) * (1.0 - course.progress(step)) ** 2


def _inverse_square_root(step: int, course: Course) -> float:
    start = max(course.warmup, 1)
    return math.sqrt(start / max(step, start))


def _stable_then_decay(step: int, course: Course) -> float:
    """Constant, then linear over the last fifth (warmup-stable-decay)."""
    return min(1.0, course.final + (1.0 - course.final) * (1.0 - course.progress(step)) * 5.0)


shapes.add("constant", _constant)
shapes.add("linear", _linear)
shapes.add("cosine", _cosine)
shapes.add("cosine with restarts", _restarts, "cosine_with_restarts")
shapes.add("polynomial", _polynomial)
shapes.add("inverse square root", _inverse_square_root, "inverse_sqrt")
shapes.add("stable then decay", _stable_then_decay, "wsd")


def rate_at(step: int, pieces: tuple[Piece, ...], shape: str, course: Course) -> float:
    """The learning rate of an update, counted from 0.

    Raises:
        NotFound: there is no such shape.
    """
    base = next((piece.rate for piece in pieces if piece.until is None or step < piece.until), pieces[-1].rate)
    rising = min(1.0, (step + 1) / course.warmup) if course.warmup else 1.0
    return base * rising * shapes[shape](step, course)


def last_update(pieces: tuple[Piece, ...], steps: int) -> int:
    """How many updates a run makes: A1111 finishes when a list of rates ends before the run does."""
    return min(steps, pieces[-1].until or steps)
