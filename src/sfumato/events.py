"""What happens during a job, as frozen values, and the fold that turns them into a progress snapshot.

The engine yields events, the caller decides what they mean: a console bar, a database row, a server-sent event and
`/sdapi/v1/progress` all fold the same stream.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

Phase = Literal["load", "encode", "sample", "hires", "decode", "save", "done"]


@dataclass(frozen=True, slots=True)
class Event:
    """Base of all events."""


@dataclass(frozen=True, slots=True)
class Started(Event):
    """The job begins: `images` pictures in all, `steps` sampling steps over all of them (hires passes included)."""

    images: int
    steps: int


@dataclass(frozen=True, slots=True)
class PhaseChanged(Event):
    """Another phase begins, for the picture with this index (from 0)."""

    phase: Phase
    image: int = 0


@dataclass(frozen=True, slots=True)
class StepDone(Event):
    """One sampling step of one batch is complete.

    Attributes:
        step: number of steps done in this pass, from 1.
        steps: steps of this pass.
        sigma: noise level the step ended at.
        weight: how many picture-steps this counts for (the batch size).
    """

    step: int
    steps: int
    sigma: float
    image: int = 0
    weight: int = 1


@dataclass(frozen=True, slots=True)
class Preview(Event):
    """A small picture of the state, as encoded bytes."""

    data: bytes
    mime: str
    image: int = 0


@dataclass(frozen=True, slots=True)
class ImageDone(Event):
    """A picture is finished: its index, seed and parameters text."""

    image: int
    seed: int
    infotext: str = ""


@dataclass(frozen=True, slots=True)
class Warned(Event):
    """Something the user should know, while the work goes on."""

    message: str


@dataclass(frozen=True, slots=True)
class Finished(Event):
    """The job is complete."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a job stands: a fold over its events."""

    phase: Phase = "load"
    images: int = 0
    images_done: int = 0
    steps: int = 0
    steps_done: int = 0
    step: int = 0
    steps_of_pass: int = 0
    preview: Preview | None = None
    warnings: tuple[str, ...] = field(default=())

    @property
    def fraction(self) -> float:
        """Share of the work done, 0 to 1."""
        if self.phase == "done":
            return 1.0
        return min(self.steps_done / self.steps, 1.0) if self.steps else 0.0


def fold(progress: Progress, event: Event) -> Progress:
    """The snapshot after `event`."""
    match event:
        case Started(images, steps):
            return replace(progress, images=images, steps=steps)
        case PhaseChanged(phase, _):
            return replace(progress, phase=phase)
        case StepDone(step, steps, _, _, weight):
            return replace(progress, step=step, steps_of_pass=steps, steps_done=progress.steps_done + weight)
        case Preview():
            return replace(progress, preview=event)
        case ImageDone():
            return replace(progress, images_done=progress.images_done + 1)
        case Warned(message):
            return replace(progress, warnings=(*progress.warnings, message))
        case Finished():
            return replace(progress, phase="done")
        case _:
            return progress
