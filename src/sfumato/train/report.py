"""What a run tells: a value per report, a CSV file, and sheets of pictures."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from sfumato.engine.checkpoint.writer import replacing, write_text

COLUMNS = ("step", "loss", "rate", "norm", "images_per_second", "seconds")
"""What the log of a run keeps of each report."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run is.

    Attributes:
        name: of the run.
        step, steps: updates made, and of the whole run.
        loss: mean since the last report.
        rate: learning rate.
        norm: of the gradients, before clipping.
        images_per_second: since the last report, of all processes together.
        seconds: spent so far, over all calls.
        remaining: seconds that the rest will take at this speed.
        parts: of the loss, of the last update.
    """

    name: str
    step: int
    steps: int
    loss: float
    rate: float
    norm: float
    images_per_second: float
    seconds: float
    remaining: float
    parts: tuple[tuple[str, float], ...] = ()

    @property
    def row(self) -> tuple[float, ...]:
        """The values of `COLUMNS`."""
        return (self.step, self.loss, self.rate, self.norm, self.images_per_second, self.seconds)

    def __str__(self) -> str:
        minutes, seconds = divmod(int(self.remaining), 60)
        return (
            f"{self.name}  {self.step}/{self.steps}  loss {self.loss:.4f}  rate {self.rate:.2e}  "
            f"{self.images_per_second:.1f} images/s  {minutes}:{seconds:02d} left"
        )


class Log:
    """Rows of numbers as a CSV file; a run that goes on drops what was written after its state was saved.

    Args:
        path: of the file.
        step: updates made when the run goes on.
        columns: names of the numbers, the first of which is "step".
    """

    def __init__(self, path: Path, step: int, columns: Sequence[str]) -> None:
        self._path = path
        kept = [row for row in self._rows() if row["step"].isdigit() and int(row["step"]) <= step] if step else []
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow(columns)
        writer.writerows([row.get(column, "") for column in columns] for row in kept)
        write_text(path, text.getvalue())

    def _rows(self) -> list[dict[str, str]]:
        if not self._path.is_file():
            return []
        with self._path.open(newline="", encoding="utf-8") as file:
            rows = [{key: value or "" for key, value in row.items() if key} for row in csv.DictReader(file)]
        return [row for row in rows if "step" in row]

    def add(self, values: Sequence[float]) -> None:
        """Append one row."""
        with self._path.open("a", newline="", encoding="utf-8") as file:
            csv.writer(file).writerow([f"{value:.6g}" if isinstance(value, float) else value for value in values])


def write_sheet(pictures: Tensor, path: Path, columns: int = 6) -> None:
    """Write pictures [n, 3, h, w] in 0..1 as one PNG file, `columns` to a row."""
    from PIL import Image

    count, _, height, width = pictures.shape
    columns = min(columns, count)
    rows, gap = -(-count // columns), 4
    sheet = torch.full((3, rows * (height + gap) + gap, columns * (width + gap) + gap), 0.5)
    for number, picture in enumerate(pictures.detach().cpu().clamp(0.0, 1.0)):
        row, column = divmod(number, columns)
        top, left = gap + row * (height + gap), gap + column * (width + gap)
        sheet[:, top : top + height, left : left + width] = picture
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray((sheet * 255.0).round().to(torch.uint8).permute(1, 2, 0).numpy())
    with replacing(path) as file:
        image.save(file, "PNG")
