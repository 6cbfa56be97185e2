"""An application that makes grey pictures at once: no torch, no models."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from sfumato.cli.app import AppOptions
from sfumato.errors import CorruptFile
from sfumato.events import Event, Finished, ImageDone, PhaseChanged, Started, StepDone, Warned
from sfumato.request import Img2Img, Txt2Img


@dataclass(frozen=True)
class FakePicture:
    image: Image.Image
    infotext: str
    seed: int
    index: int

    def save(self, path: Path, *, replace: bool = True) -> Path:
        with path.open("wb" if replace else "xb") as file:
            self.image.save(file, {".jpg": "jpeg"}.get(path.suffix, path.suffix[1:]))
        return path


@dataclass(frozen=True)
class FakeModel:
    name: str
    title: str
    path: Path
    kind: str = "checkpoint"
    size: int = 2_132_000_000
    short_hash: str = "abcdef0123"


@dataclass(frozen=True)
class FakeRow:
    name: str = "relations"
    value: float = 50.0
    low: float = 40.0
    high: float = 60.0
    goal: float = 85.0
    count: int = 12
    unit: str = "%"

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass
class FakeApp:
    """Records what it is asked."""

    outputs: Path
    options: AppOptions = field(default_factory=AppOptions)
    requests: list[Txt2Img | Img2Img] = field(default_factory=list)
    converted: list[tuple[Any, ...]] = field(default_factory=list)
    trained: list[tuple[Any, ...]] = field(default_factory=list)
    evaluated: list[tuple[Any, ...]] = field(default_factory=list)
    closed: int = 0
    interrupt_at: int | None = None
    entries: tuple[FakeModel, ...] = ()

    def __call__(self, options: AppOptions) -> FakeApp:
        """Stands in for the class, too."""
        self.options = options
        return self

    def generate(self, request: Txt2Img | Img2Img) -> Iterator[Event | FakePicture]:
        self.requests.append(request)
        try:
            yield Started(request.images, request.steps * request.batch_count)
            yield PhaseChanged("load")
            yield Warned("a small one")
            for batch in range(request.batch_count):
                yield PhaseChanged("sample", batch)
                for step in range(1, request.steps + 1):
                    if step == self.interrupt_at:
                        raise KeyboardInterrupt
                    yield StepDone(step, request.steps, 1.0)
                yield PhaseChanged("decode", batch)
                for position in range(request.batch_size):
                    index = batch * request.batch_size + position
                    seed = request.seed + index
                    yield ImageDone(index, seed)
                    text = f"{request.prompt}\nSteps: {request.steps}, Seed: {seed}"
                    yield FakePicture(Image.new("RGB", (request.width // 8, request.height // 8)), text, seed, index)
            yield Finished()
        finally:
            self.closed += 1

    def models(self) -> tuple[FakeModel, ...]:
        return self.entries

    def inspect(self, path: Path) -> dict[str, Any]:
        if path.suffix == ".bad":
            raise CorruptFile("The file is cut.", advice="Copy it again.")
        return {
            "kind": "picture",
            "infotext": "a cat\nSteps: 7, Sampler: Euler, Seed: 3",
            "size": {"width": 8, "height": 8},
            "empty": "",
        }

    def convert(self, source: Path, target: Path, **choices: Any) -> Path:
        self.converted.append((source, target, choices))
        return target

    def train(self, recipe: str, **choices: Any) -> Iterator[Any]:
        self.trained.append((recipe, choices["folder"], dict(choices["changes"])))
        return iter(())

    def evaluate(self, model: str, **choices: Any) -> Iterator[FakeRow]:
        self.evaluated.append((model, choices))
        yield FakeRow()

    def output_folder(self, kind: str) -> Path:
        return self.outputs / f"{kind}-images"
