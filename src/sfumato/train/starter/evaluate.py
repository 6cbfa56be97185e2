"""How well a model knows the starter world, measured by detectors on prompts that training did not draw."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from sfumato.engine.models.diffusion import DiffusionModel
from sfumato.engine.pipeline import generate
from sfumato.request import Txt2Img
from sfumato.train.starter.captions import prompt
from sfumato.train.starter.detect.judge import Verdict, judge
from sfumato.train.starter.detect.quality import sharpness
from sfumato.train.starter.dice import Dice
from sfumato.train.starter.mix import Mix, mixes, weights
from sfumato.train.starter.pictograms import Atlas
from sfumato.train.starter.render import render
from sfumato.train.starter.scene import Scene
from sfumato.train.starter.world import World

EXAM_SEED = 0x7E57
"""Seed of the world that exams are drawn from; no recipe uses it."""


class Painter(Protocol):
    """Makes pictures from a scene's words (a model), or from the scene itself (the renderer, whose marks are the ceiling)."""

    def __call__(self, scene: Scene, words: str, negative: str, seeds: Sequence[int]) -> Tensor:
        """One picture per seed, [n, 3, h, w] in 0..1."""
        ...


@dataclass(frozen=True)
class ModelPainter:
    """A model that paints by the engine's ordinary way.

    Attributes:
        size: side of the pictures; 0 for the model's own.
    """

    model: DiffusionModel
    size: int = 0
    steps: int = 20
    guidance: float = 7.0
    sampler: str = "DPM++ 2M"

    def __call__(self, scene: Scene, words: str, negative: str, seeds: Sequence[int]) -> Tensor:
        """Pictures of the words, with consecutive seeds from the first on."""
        import numpy as np

        size = self.size or self.model.spec.size
        request = Txt2Img(
            prompt=words,
            negative_prompt=negative,
            seed=seeds[0],
            batch_size=len(seeds),
            steps=self.steps,
            cfg_scale=self.guidance,
            sampler=self.sampler,
            width=size,
            height=size,
        )
        pictures = [torch.from_numpy(np.asarray(picture.image).copy()) for picture in generate(request, self.model)]
        return torch.stack(pictures).permute(0, 3, 1, 2).float() / 255.0


@dataclass(frozen=True)
class RenderPainter:
    """The renderer as a painter: what the detectors make of perfect pictures."""

    atlas: Atlas | None
    size: int = 128

    def __call__(self, scene: Scene, words: str, negative: str, seeds: Sequence[int]) -> Tensor:
        """The scene itself, once per seed."""
        return render([scene], self.size, atlas=self.atlas).expand(len(seeds), -1, -1, -1)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the quality table.

    Attributes:
        value: the measure; `low` and `high` bound it with 95 % confidence (bootstrap over prompts).
        goal: what the starter model aims at.
        count: pictures that were judged.
        unit: "%" (more is better) or another.
    """

    name: str
    value: float
    low: float
    high: float
    goal: float
    count: int
    unit: str = "%"

    def as_dict(self) -> dict[str, str | float | int]:
        """The fields by name."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Report:
    """The quality table of a model."""

    rows: tuple[Row, ...]
    settings: dict[str, object] = field(default_factory=dict)

    def as_json(self) -> dict[str, object]:
        """Everything, ready for `json.dumps`."""
        return {"rows": [row.as_dict() for row in self.rows], "settings": dict(self.settings)}

    def __str__(self) -> str:
        wide = max((len(row.name) for row in self.rows), default=0)
        lines = [f"{'':{wide}}   value   95 % interval      goal  pictures"]
        lines += [
            f"{row.name:{wide}}  {row.value:6.1f}  {row.low:6.1f} .. {row.high:6.1f}  {row.goal:6.1f} {row.unit:3} {row.count:6d}"
            for row in self.rows
        ]
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Exam:
    """A kind of prompt and what is asked of its pictures.

    Attributes:
        mix: of the scenes.
        marks: what each measure takes from a verdict; None where it does not apply.
    """

    mix: Mix
    marks: tuple[tuple[str, float, Callable[[Verdict], float | None]], ...]


def _share(answer: bool | None) -> float | None:
    return None if answer is None else 100.0 * answer


_PLAIN = mixes["layout"].only(
    styles=0.0,
    defects=0.0,
    lights=0.0,
    backdrops=weights(white=0.4, plain=0.6),
    fills=weights(solid=1.0),
    pictograms=0.0,
    empty=0.0,
)


def _both(verdict: Verdict) -> float | None:
    return _share(bool(verdict.colour) and bool(verdict.shape))


EXAMS: tuple[Exam, ...] = (
    Exam(
        _PLAIN.only(layouts=weights(one=1.0), varied=0.0),
        (("shape and colour, one thing", 95.0, _both),),
    ),
    Exam(
        _PLAIN.only(layouts=weights(one=1.0), varied=0.0, held_out=True),
        (("the same, pairs never taught", 90.0, _both),),
    ),
    Exam(
        _PLAIN.only(layouts=weights(one=1.0), backdrops=weights(plain=1.0)),
        (
            ("place of one thing", 85.0, lambda v: _share(v.place)),
            ("backdrop, colour error", 8.0, lambda v: v.backdrop),
        ),
    ),
    Exam(
        _PLAIN.only(layouts=weights(pair=1.0)),
        (("two things, right colours", 80.0, lambda v: _share(v.colour)), ("two things, all right", 75.0, _both)),
    ),
    Exam(_PLAIN.only(layouts=weights(relation=1.0)), (("relations", 85.0, lambda v: _share(v.relation)),)),
    Exam(_PLAIN.only(layouts=weights(count=1.0)), (("counts 2 to 4", 75.0, lambda v: _share(v.count)),)),
    Exam(
        _PLAIN.only(layouts=weights(one=1.0), varied=0.0, pictograms=1.0, tiers=("core", "more")),
        (
            ("pictogram, best of all", 60.0, lambda v: _share(v.identity)),
            ("pictogram, among best five", 75.0, lambda v: _share(v.identity5)),
        ),
    ),
)
"""Every exam, with the goals of the starter model trained on an accelerator."""


def examine(
    painter: Painter,
    *,
    atlas: Atlas | None = None,
    prompts: int = 64,
    seeds: Sequence[int] = (1, 2, 3),
    exams: Sequence[Exam] = EXAMS,
) -> Iterator[Row]:
    """The rows of the table, one after another.

    Args:
        painter: who is examined.
        atlas: needed for pictograms; their rows are left out without it.
        prompts: per exam.
        seeds: consecutive; each prompt is painted with all of them.
    """
    for exam in exams:
        if exam.mix.pictograms and atlas is None:
            continue
        world = World(EXAM_SEED, exam.mix, atlas if exam.mix.pictograms else None)
        verdicts: list[list[Verdict]] = []
        for number in range(prompts):
            scene = world.scene(number)
            pictures = painter(scene, prompt(scene), "", seeds)
            verdicts.append([judge(scene, picture, atlas) for picture in pictures])
        for name, goal, mark in exam.marks:
            groups = [[m for v in group if (m := mark(v)) is not None] for group in verdicts]
            middle = _median if name.endswith("error") else _mean
            yield summarise(name, goal, [group for group in groups if group], middle, "dE" if middle is _median else "%")


def negative_prompt(painter: Painter, *, prompts: int = 64, seeds: Sequence[int] = (1, 2, 3)) -> Row:
    """How much sharper pictures become, in percent, when "blurry" is the negative prompt."""
    world = World(EXAM_SEED, _PLAIN.only(layouts=weights(one=1.0), varied=0.0))
    groups = []
    for number in range(prompts):
        scene = world.scene(number)
        plain, sharp = (sharpness(painter(scene, prompt(scene), words, seeds)) for words in ("", "blurry"))
        groups.append((100.0 * (sharp / plain.clamp(min=1e-8) - 1.0)).tolist())
    return summarise('sharper with negative "blurry"', 5.0, groups, _median, "%")


@torch.inference_mode()
def reconstruction(model: DiffusionModel, *, atlas: Atlas | None = None, size: int = 256, pictures: int = 64) -> Row:
    """PSNR in dB of what the autoencoder makes of scenes that it was not taught with."""
    world = World(EXAM_SEED, mixes["full"], atlas)
    weight = model.vae.quant_conv.weight
    groups = []
    for start in range(0, pictures, 4):
        pixels = world.batch(range(start, min(start + 4, pictures)), size)[0].to(weight.device) * 2.0 - 1.0
        made = model.vae.decode(model.vae.encode(pixels).mean).float().clamp(-1.0, 1.0)
        error = (made - pixels).square().mean(dim=(1, 2, 3)) / 4.0
        groups += [[value] for value in (-10.0 * error.clamp(min=1e-10).log10()).tolist()]
    return summarise("autoencoder, PSNR", 29.0, groups, _mean, "dB")


def evaluate(
    model: DiffusionModel,
    *,
    atlas: Atlas | None = None,
    prompts: int = 64,
    seeds: int = 3,
    steps: int = 20,
    guidance: float = 7.0,
    sampler: str = "DPM++ 2M",
    size: int = 0,
) -> Iterator[Row]:
    """The whole quality table of a model, row by row.

    Args:
        seeds: pictures of each prompt.
        size: side of the pictures; 0 for the model's own.

    Raises:
        SfumatoError: as generating a picture does.
    """
    painter = ModelPainter(model, size, steps, guidance, sampler)
    numbers = range(1, seeds + 1)
    yield reconstruction(model, atlas=atlas, size=size or model.spec.size, pictures=prompts)
    yield from examine(painter, atlas=atlas, prompts=prompts, seeds=numbers)
    yield negative_prompt(painter, prompts=prompts, seeds=numbers)


def summarise(
    name: str, goal: float, groups: Sequence[Sequence[float]], middle: Callable[[Sequence[float]], float], unit: str
) -> Row:
    """Mean or median with a bootstrap interval; a prompt is drawn with all of its pictures, which are alike."""
    values = [value for group in groups for value in group]
    if not values:
        return Row(name, math.nan, math.nan, math.nan, goal, 0, unit)
    dice = Dice(EXAM_SEED, len(values))
    repeats = sorted(middle([v for _ in groups for v in dice.choice(groups)]) for _ in range(400))
    return Row(name, middle(values), repeats[10], repeats[-11], goal, len(values), unit)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _median(values: Sequence[float]) -> float:
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2.0
