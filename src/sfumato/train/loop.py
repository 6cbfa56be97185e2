"""The loop that runs every recipe."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from sfumato.errors import InvalidRequest, NotANumber
from sfumato.train.ahead import batches
from sfumato.train.average import Average
from sfumato.train.diagnose import first_bad_gradient, first_bad_layer
from sfumato.train.optim import groups_of, optimizers
from sfumato.train.rates import Course, last_update, parse_rates, rate_at
from sfumato.train.recipe import Recipe
from sfumato.train.report import COLUMNS, Log, Progress, write_sheet
from sfumato.train.state import State
from sfumato.train.target import Batch, Loss, Source, Target
from sfumato.train.together import Alone, Together


class Run:
    """One training run in its folder: the recipe, the state, the log, the sheets and in the end the model.

    The same run made again goes on where it was.

    Args:
        target: what learns.
        source: where its samples come from.
        folder: is made if it is not there.
        together: the processes that share the work.

    Raises:
        InvalidRequest: the folder holds the run of another recipe, or nothing would be trained.
        CorruptFile: the folder's state is damaged.
    """

    def __init__(self, recipe: Recipe, target: Target, source: Source, folder: Path, together: Together | None = None) -> None:
        if not target.weights:
            raise InvalidRequest(f"The target {recipe.target!r} has nothing to train with this recipe.")
        self.recipe, self.target, self.folder = recipe, target, folder
        self.together = together or Alone()
        chosen = recipe.optimizer
        optimizer = optimizers[chosen.name](groups_of(target.weights, chosen.weight_decay), chosen)
        average = Average(target.weights, recipe.loop.ema) if recipe.loop.ema else None
        self.state = State(recipe, target.weights, optimizer, average)
        self._pieces = parse_rates(chosen.rate)
        self.steps = last_update(self._pieces, recipe.loop.steps)
        """Updates of the whole run."""
        folder.mkdir(parents=True, exist_ok=True)
        self.source = target.prepared(source, folder)
        self.resumed = self.state.resume(self.state_file)
        """Whether this run goes on from a saved state."""
        if not self.resumed:
            # Targets draw from sample numbers; what a layer may draw besides (dropout) begins at the seed, too.
            torch.manual_seed(recipe.seed)

    @property
    def state_file(self) -> Path:
        """Where the state is kept."""
        return self.folder / "state.safetensors"

    @property
    def model_file(self) -> Path:
        """Where the result is written."""
        return self.folder / f"{self.recipe.name}.safetensors"

    @property
    def finished(self) -> bool:
        """All updates have been made."""
        return self.state.step >= self.steps

    def train(self, stop: Callable[[], bool] = lambda: False) -> Iterator[Progress]:
        """Train until the end or until the time is up; a report now and then. Closing the iterator keeps what was done.

        Args:
            stop: asked after each update; the state is kept when it says so.

        Raises:
            NotANumber: loss or gradients are not finite; the last saved state stays as it was.
            DiskFull: the state cannot be written; the one before stays.
        """
        if self.finished and self.model_file.is_file():
            return
        main = self.together.rank == 0
        log = Log(self.folder / "log.csv", self.state.step, COLUMNS) if main else None
        meter = _Meter(self)
        try:
            yield from self._updates(meter, log, stop)
        except GeneratorExit:  # only ever raised between two updates
            self._keep(main)
            raise
        self._keep(main)
        if self.finished and main:
            self._sheet()
            with self._averaged():
                self.target.save(self.model_file)
        self.together.wait()

    def _updates(self, meter: _Meter, log: Log | None, stop: Callable[[], bool]) -> Iterator[Progress]:
        loop = self.recipe.loop
        feed = batches(self.source, self._numbers(), self.recipe.data.workers)
        began, before = time.perf_counter(), self.state.seconds
        while not self.finished:
            rate = self._set_rate()
            loss, norm = self._update(list(islice(feed, loop.accumulate)))
            self.state.step += 1
            self.state.samples += self.images
            self.state.seconds = before + time.perf_counter() - began
            meter.add(loss)
            step = self.state.step
            if step % loop.log_every == 0 or self.finished:
                progress = meter.report(rate, norm)
                if log:
                    log.add(progress.row)
                yield progress
            if loop.save_every and step % loop.save_every == 0 and not self.finished:
                self._keep(self.together.rank == 0)
            if loop.sheet_every and step % loop.sheet_every == 0 and self.together.rank == 0 and not self.finished:
                self._sheet()
            late = bool(loop.minutes) and time.perf_counter() - began >= 60.0 * loop.minutes
            # All processes must stop at the same update, or one would wait for the others for ever.
            if self.together.any(stop() or late):
                return

    @property
    def images(self) -> int:
        """Samples of one update, of all processes together."""
        return self.recipe.loop.batch * self.recipe.loop.accumulate * self.together.count

    def _numbers(self) -> Iterator[Sequence[int]]:
        """The samples of each step of this process, from the present update on: all processes together take them in order."""
        batch, count = self.recipe.loop.batch, self.together.count
        first = self.state.samples + self.together.rank * batch
        for number in range((self.steps - self.state.step) * self.recipe.loop.accumulate):
            start = first + number * count * batch
            yield range(start, start + batch)

    def _set_rate(self) -> float:
        chosen = self.recipe.optimizer
        course = Course(self.steps, chosen.warmup, chosen.final, chosen.cycles)
        rate = rate_at(self.state.step, self._pieces, chosen.schedule, course)
        for group in self.state.optimizer.param_groups:
            group["lr"] = rate
        return rate

    def _update(self, steps: Sequence[Batch]) -> tuple[Loss, float]:
        """One update from some batches; the loss is that of the last one."""
        weights = list(self.target.weights.values())
        for weight in weights:
            weight.grad = None
        total = 0.0
        for batch in steps:
            with self._precision():
                loss = self.target.loss(batch, self.recipe.seed)
            (loss.total / len(steps)).backward()  # type: ignore[no-untyped-call]
            total += float(loss.total.detach()) / len(steps)
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        self.together.mean(gradients)
        limit = self.recipe.optimizer.clip or math.inf
        norm = float(torch.nn.utils.clip_grad_norm_(weights, limit))
        if not (math.isfinite(total) and math.isfinite(norm)):
            raise self._not_a_number(total, steps[-1])
        self.state.optimizer.step()
        if self.state.average:
            self.state.average.update(self.target.weights)
        return Loss(torch.tensor(total), loss.parts), norm

    def _not_a_number(self, loss: float, batch: Batch) -> NotANumber:
        layer = first_bad_layer(self.target, batch, self.recipe.seed)
        gradient = first_bad_gradient(self.target.weights)
        where = f"the gradient of {gradient!r} is not finite" if gradient else "the gradients are finite"
        if layer:
            where = f"the first layer that gives no number is {layer!r}"
        return NotANumber(
            f"At update {self.state.step + 1} the loss is {loss:g}; {where}.",
            advice="The last saved state is untouched. Lower the learning rate, add warm-up, or compute in fp32.",
        )

    def _precision(self) -> AbstractContextManager[object]:
        device = self.together.device
        if self.recipe.loop.precision == "bf16" and device.type != "cpu":
            return torch.autocast(device.type, torch.bfloat16)
        return nullcontext()

    def _averaged(self) -> AbstractContextManager[object]:
        return self.state.average.applied(self.target.weights) if self.state.average else nullcontext()

    def _keep(self, main: bool) -> None:
        if main:
            self.state.save(self.state_file)

    def _sheet(self) -> None:
        with self._averaged(), torch.random.fork_rng():
            sheet = self.target.sheet()
        if sheet.pictures is not None:
            write_sheet(sheet.pictures, self.folder / "sheets" / f"{self.state.step:07d}.png")
        if sheet.figures:
            log = Log(self.folder / "figures.csv", self.state.step, ("step", *sheet.figures))
            log.add((self.state.step, *sheet.figures.values()))


class _Meter:
    """Means and speeds between two reports."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._losses: list[float] = []
        self._parts: tuple[tuple[str, float], ...] = ()
        self._began, self._step = time.perf_counter(), run.state.step

    def add(self, loss: Loss) -> None:
        """Count one update."""
        self._losses.append(float(loss.total))
        self._parts = tuple((name, float(_scalar(value))) for name, value in loss.parts.items())

    def report(self, rate: float, norm: float) -> Progress:
        """Everything since the last report."""
        run = self._run
        now = time.perf_counter()
        each = (now - self._began) / max(1, run.state.step - self._step)
        progress = Progress(
            name=run.recipe.name,
            step=run.state.step,
            steps=run.steps,
            loss=sum(self._losses) / max(1, len(self._losses)),
            rate=rate,
            norm=norm,
            images_per_second=run.images / max(each, 1e-9),
            seconds=run.state.seconds,
            remaining=each * (run.steps - run.state.step),
            parts=self._parts,
        )
        self._losses, self._began, self._step = [], now, run.state.step
        return progress


def _scalar(value: Tensor) -> Tensor:
    return value.detach().float().mean()
