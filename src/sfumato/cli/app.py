"""What the command line needs from the application, and how it gets one.

The verbs are written against these protocols, so that their tests need neither torch nor a model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from sfumato.events import Event

if TYPE_CHECKING:
    from PIL.Image import Image

    from sfumato.request import Img2Img, Txt2Img


class Picture(Protocol):
    """A finished picture."""

    @property
    def image(self) -> Image:
        """The pixels."""

    @property
    def infotext(self) -> str:
        """Its parameters text."""

    @property
    def seed(self) -> int:
        """The seed that repeats it."""

    @property
    def index(self) -> int:
        """Its place in the job, from 0."""

    def save(self, path: Path, *, replace: bool = True) -> Path:
        """Write it with its parameters in the format that the ending of `path` names, or in one that can hold it.

        Returns:
            Where it is.

        Raises:
            FileExistsError: the name is taken and `replace` is false.
            DiskFull: no room is left.
        """


class Model(Protocol):
    """A model in the folders."""

    @property
    def name(self) -> str:
        """What `--model` takes."""

    @property
    def title(self) -> str:
        """Its path below the models' folder."""

    @property
    def path(self) -> Path:
        """Where it lies."""

    @property
    def kind(self) -> str:
        """checkpoint, vae, ..."""

    @property
    def size(self) -> int:
        """Bytes; 0 for a folder."""

    @property
    def short_hash(self) -> str:
        """First digits of its sha256 where that is known, else empty."""


class TrainingProgress(Protocol):
    """Where a training run is; `str` gives a line."""

    @property
    def name(self) -> str:
        """Of the run."""

    @property
    def step(self) -> int:
        """Updates made."""

    @property
    def steps(self) -> int:
        """Updates of the whole run."""

    @property
    def loss(self) -> float:
        """Mean since the last report."""

    @property
    def images_per_second(self) -> float:
        """Since the last report."""


class EvaluationRow(Protocol):
    """One measured property of a model."""

    @property
    def name(self) -> str:
        """What was measured."""

    @property
    def value(self) -> float:
        """The measure, in `unit`."""

    @property
    def low(self) -> float:
        """Lower end of the interval of 95 % confidence."""

    @property
    def high(self) -> float:
        """Its upper end."""

    @property
    def goal(self) -> float:
        """What the starter model aims at."""

    @property
    def count(self) -> int:
        """Pictures that were judged."""

    @property
    def unit(self) -> str:
        """One of "%", "dB" and "dE"."""

    def as_dict(self) -> dict[str, str | float | int]:
        """Everything by name."""


class Application(Protocol):
    """The composition root, as far as the command line uses it."""

    def generate(self, request: Txt2Img | Img2Img) -> Iterator[Event | Picture]:
        """Make the pictures of a request; closing the iterator cancels."""

    def models(self) -> Sequence[Model]:
        """The models in the folders."""

    def inspect(self, path: Path) -> dict[str, Any]:
        """What a picture, checkpoint or network file is, as plain data."""

    def convert(self, source: Path, target: Path, *, layout: str, dtype: str | None, vae: Path | None) -> Path:
        """Write a model in another layout or precision; answers with where it lies."""

    def train(
        self, recipe: str, *, folder: Path | None, changes: Mapping[str, str], stop: Callable[[], bool]
    ) -> Iterator[TrainingProgress]:
        """Run a training recipe, or go on with it, until `stop` says so; reports now and then."""

    def evaluate(
        self, model: str, *, prompts: int, seeds: int, steps: int, guidance: float, sampler: str, size: int
    ) -> Iterator[EvaluationRow]:
        """Measure how well a checkpoint knows the starter world, row by row."""

    def output_folder(self, kind: str) -> Path:
        """Where pictures of "txt2img" or "img2img" go when nothing else was said."""


@dataclass(frozen=True, slots=True)
class AppOptions:
    """How the application is set up: folders, device, precision and memory plan."""

    data_dir: Path | None = None
    models_dir: Path | None = None
    device: str = "auto"
    dtype: str = "auto"
    memory: str = "auto"


MakeApp = Callable[[AppOptions], Application]


def make_app(options: AppOptions) -> Application:
    """The real application; importing it is what makes a verb slower than its help."""
    from sfumato.service.app import App

    return App(
        data_dir=options.data_dir,
        models_dir=options.models_dir,
        device=options.device,
        dtype=options.dtype,
        memory=options.memory,
    )
