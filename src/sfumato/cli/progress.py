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
        bar = self._bar if self._bar is not None else self._open()
        bar.set_description_str(f"{self._label}{PHASES[self.progress.phase]}", refresh=False)
        if isinstance(event, Started):
            bar.bar_format = FORMAT
            bar.reset(total=event.steps)
        if isinstance(event, StepDone):
            bar.update(event.weight)
        else:
            bar.refresh()

    def write(self, text: str) -> None:
        """A line on standard error that leaves the bar intact."""
        if self._bar is not None:
            self._bar.clear()
        print(text, file=sys.stderr, flush=True)

    def result(self, text: str) -> None:
        """A line on standard output that leaves the bar intact where both are the same terminal."""
        if self._bar is not None:
            self._bar.clear()
        print(text, flush=True)

    def _open(self) -> tqdm[NoReturn]:
        """A line that names the phase; it becomes a bar when the number of steps is known."""
        from tqdm import tqdm

        self._bar = tqdm(total=0, file=sys.stderr, bar_format="{desc} …", unit="it", dynamic_ncols=True, leave=True)
        return self._bar
