"""A progress bar on standard error, as a fold over events."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, NoReturn, Self

from sfumato.events import Event, Progress, Started, StepDone, Warned, fold

if TYPE_CHECKING:
    from tqdm import tqdm

PHASES: Mapping[str, str] = {
    "load": "Loading",
    "encode": "Reading the prompt",
    "sample": "Sampling",
    "hires": "Second pass",
    "decode": "Decoding",
    "save": "Saving",
    "done": "Done",
}
FORMAT = "{desc}: {percentage:3.0f}% |{bar}| {n_fmt}/{total_fmt} steps [{elapsed}<{remaining}, {rate_fmt}]"


class ProgressBar:
    """Shows phase, steps, speed and remaining time of one job; prints warnings beside it.

    Args:
        shown: whether a bar is drawn.
        quiet: whether warnings are left out too.
        label: what stands before the phase, such as "2/10".
    """

    def __init__(self, *, shown: bool, quiet: bool = False, label: str = "") -> None:
        self.progress = Progress()
        self._shown = shown
        self._quiet = quiet
        self._label = label
        self._bar: tqdm[NoReturn] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.close()

    def update(self, event: Event) -> None:
        """Take in one event."""
        self.progress = fold(self.progress, event)
        if isinstance(event, Warned) and not self._quiet:
            self.write(f"warning: {event.message}")
        if not self._shown:
            return
        if isinstance(event, Started):
            self._open(event.steps)
        if self._bar is not None:
            self._bar.set_description_str(f"{self._label}{PHASES[self.progress.phase]}", refresh=False)
            if isinstance(event, StepDone):
                self._bar.update(event.weight)
            else:
                self._bar.refresh()

    def write(self, text: str) -> None:
        """A line on standard error that leaves the bar intact."""
        if self._bar is not None:
            self._bar.clear()
        print(text, file=sys.stderr, flush=True)

    def _open(self, steps: int) -> None:
        from tqdm import tqdm

        if self._bar is None:
            self._bar = tqdm(total=steps, file=sys.stderr, bar_format=FORMAT, unit="it", dynamic_ncols=True, leave=True)
        else:
            self._bar.total = steps
