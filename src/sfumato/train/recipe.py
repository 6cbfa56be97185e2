"""A recipe: everything that decides a training run, read from TOML and checked before anything starts."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from sfumato.errors import CorruptFile, InvalidRequest, NotFound
from sfumato.train.rates import parse_rates, shapes


class Section(BaseModel):
    """A table of the recipe: frozen, and without room for unknown names."""

    model_config = ConfigDict(frozen=True, extra="forbid")


Side = Annotated[int, Field(ge=16, le=1024, multiple_of=8)]


class DataSection(Section):
    """Where samples come from.

    Attributes:
        folder: of pictures, each with its caption in a `.txt` file beside it; None for the rendered world.
        mix: of the starter world, see `train.starter.mix`.
        size: side of the pictures in pixels; several where crops are taken.
        crop: side of a crop; None for whole pictures.
        crops: how many are taken from each picture.
        seed: of the world; None for the recipe's.
        pictograms: draw pictures of the emoji font, where it is installed.
        keep: samples that are learned from again and again, their latents kept in a file (denoiser); 0 for ever new ones.
        workers: threads that draw ahead.
    """

    folder: Path | None = None
    mix: str = "full"
    size: Side | tuple[Side, ...] = 128
    crop: Side | None = None
    crops: int = Field(default=1, ge=1, le=64)
    seed: int | None = None
    pictograms: bool = True
    keep: int = Field(default=0, ge=0, le=10_000_000)
    workers: int = Field(default=1, ge=0, le=64)


class OptimizerSection(Section):
    """What changes the weights, and by how much.

    Attributes:
        name: see `train.optim.optimizers`.
        rate: a number, or A1111's "rate:step, rate:step".
        schedule: see `train.rates.shapes`.
        final: what is left of the rate at the end, as a share.
        clip: largest norm of all gradients together; 0 for no limit.
    """

    name: str = "AdamW"
    rate: str = "1e-4"
    schedule: str = "constant"
    warmup: int = Field(default=0, ge=0)
    final: float = Field(default=0.0, ge=0.0, le=1.0)
    cycles: int = Field(default=1, ge=1)
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = Field(default=1e-8, gt=0.0)
    weight_decay: float = Field(default=0.01, ge=0.0)
    clip: float = Field(default=1.0, ge=0.0)

    @field_validator("rate", mode="before")
    @classmethod
    def _number_as_text(cls, value: object) -> object:
        text = str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value
        if isinstance(text, str):
            parse_rates(text)
        return text

    @field_validator("schedule")
    @classmethod
    def _known_schedule(cls, value: str) -> str:
        return shapes.resolve(value)


class ObjectiveSection(Section):
    """What is minimised; each target uses what concerns it.

    Attributes:
        offset_noise: strength of a shift of whole channels in the noise.
        min_snr: gamma of min-SNR weighting (Hang et al. 2023); 0 for none.
        caption_dropout: share of captions that are emptied.
        kl: weight of the autoencoder's KL term, a mean over all values.
        l2: weight of squared differences (autoencoder; absolute ones count 1).
        edges: weight of differences between neighbouring pixels (autoencoder).
        pyramid: weight of differences at every scale (autoencoder).
        decoder_only: the encoder stays as it is (autoencoder).
        latent_noise: added to latents before decoding, as a share of their spread (autoencoder).
        train_text: the denoiser's text encoder learns with it.
        guidance: range of the teacher's guidance (consistency).
    """

    offset_noise: float = Field(default=0.0, ge=0.0, le=1.0)
    min_snr: float = Field(default=0.0, ge=0.0)
    caption_dropout: float = Field(default=0.0, ge=0.0, le=1.0)
    kl: float = Field(default=1e-4, ge=0.0)
    l2: float = Field(default=0.0, ge=0.0)
    edges: float = Field(default=0.25, ge=0.0)
    pyramid: float = Field(default=0.5, ge=0.0)
    decoder_only: bool = False
    latent_noise: float = Field(default=0.0, ge=0.0)
    train_text: bool = False
    guidance: tuple[float, float] = (4.0, 6.0)


class AdapterSection(Section):
    """Low-rank adapters (targets `lora` and `consistency`).

    Attributes:
        rank: of each difference.
        alpha: a factor of alpha / rank is applied.
    """

    rank: int = Field(default=16, ge=1, le=1024)
    alpha: float = Field(default=16.0, gt=0.0)


class LoopSection(Section):
    """How long, how much at a time, and what is kept.

    Attributes:
        steps: updates.
        batch: samples per step of a process.
        accumulate: steps per update.
        ema: decay of the averaged weights; 0 for none.
        precision: "bf16" computes in bfloat16 where the device is good at it.
        minutes: wall-clock limit of one call; 0 for none. What is done then is kept, and the next call goes on.
        save_every, sheet_every, log_every: in updates; 0 for never (the end always saves).
        threads: of the processor that compute; 0 for PyTorch's choice.
    """

    steps: int = Field(default=1000, ge=1)
    batch: int = Field(default=16, ge=1)
    accumulate: int = Field(default=1, ge=1)
    ema: float = Field(default=0.0, ge=0.0, lt=1.0)
    precision: Literal["fp32", "bf16"] = "fp32"
    minutes: float = Field(default=0.0, ge=0.0)
    save_every: int = Field(default=200, ge=0)
    sheet_every: int = Field(default=0, ge=0)
    log_every: int = Field(default=10, ge=1)
    threads: int = Field(default=0, ge=0, le=256)


class SheetSection(Section):
    """Samples that show how far training is, always from the same prompts and seeds."""

    prompts: tuple[str, ...] = ()
    seed: int = 1
    steps: int = Field(default=20, ge=1, le=1000)
    guidance: float = Field(default=5.0, ge=0.0)
    sampler: str = "Euler"


class Recipe(Section):
    """A training run.

    Attributes:
        name: of the run's folder and files.
        target: what learns, see `train.target.targets`.
        architecture: see `train.starter.architecture`; not needed where `start` says which model goes on learning.
        start: a checkpoint to start from, or None for nothing.
        vae: a checkpoint whose autoencoder replaces that of `start`, or None.
        text: a checkpoint whose text encoder replaces that of `start`, or None.
    """

    name: str = Field(pattern=r"^[\w.-]{1,100}$")
    target: str
    architecture: str = "starter"
    start: Path | None = None
    vae: Path | None = None
    text: Path | None = None
    seed: int = 0
    data: DataSection = DataSection()
    optimizer: OptimizerSection = OptimizerSection()
    objective: ObjectiveSection = ObjectiveSection()
    loop: LoopSection = LoopSection()
    adapter: AdapterSection = AdapterSection()
    sheet: SheetSection = SheetSection()


def read_recipe(path: Path, changes: Mapping[str, str] | None = None) -> Recipe:
    """Read a recipe.

    Args:
        changes: values that replace those of the file, by dotted name: {"loop.steps": "100"}.

    Raises:
        NotFound: there is no such file.
        CorruptFile: it is no TOML; the line is named.
        InvalidRequest: a name or value makes no sense; a name that is nearly right is suggested.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise NotFound(f"There is no recipe {path}.", advice="See the folder `recipes`.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CorruptFile(f"The recipe {path} is not valid TOML: {error}.") from error
    for name, value in (changes or {}).items():
        _change(tables, name, value)
    return recipe_from(tables)


def recipe_from(tables: Mapping[str, Any]) -> Recipe:
    """Check tables as TOML gives them.

    Raises:
        InvalidRequest: see `read_recipe`.
    """
    try:
        return Recipe.model_validate(dict(tables))
    except ValidationError as error:
        raise InvalidRequest(" ".join(_explain(entry) for entry in error.errors()[:5])) from error


def _change(tables: dict[str, Any], name: str, value: str) -> None:
    *parents, last = name.split(".")
    for parent in parents:
        tables = tables.setdefault(parent, {})
    try:
        tables[last] = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        tables[last] = value


def _explain(entry: Mapping[str, Any]) -> str:
    """One sentence for one of pydantic's errors."""
    place = ".".join(str(part) for part in entry["loc"])
    if entry["type"] == "extra_forbidden":
        *parents, last = [str(part) for part in entry["loc"]]
        known = list(_section(parents).model_fields)
        near = difflib.get_close_matches(last, known, n=1, cutoff=0.5)
        hint = f"did you mean {'.'.join([*parents, near[0]])!r}?" if near else f"known here: {', '.join(known)}."
        return f"The recipe has no {place!r}; {hint}"
    if entry["type"] == "missing":
        return f"The recipe lacks {place!r}."
    return f"{place} in the recipe: {entry['msg']} (given: {str(entry['input'])[:60]!r})."


def _section(parents: list[str]) -> type[BaseModel]:
    section: type[BaseModel] = Recipe
    for parent in parents:
        inner = section.model_fields[parent].annotation
        section = inner if isinstance(inner, type) and issubclass(inner, BaseModel) else section
    return section
