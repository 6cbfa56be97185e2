"""Training runs: from the name of a recipe to a run in its folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from sfumato.errors import NotFound
from sfumato.service.folders import Folders

if TYPE_CHECKING:
    from sfumato.train.loop import Run
    from sfumato.train.recipe import Recipe
    from sfumato.train.report import Progress
    from sfumato.train.together import Together


STAGES = "stages.txt"
"""In a folder of recipes: their names in the order in which they are run, one per line."""


def find_recipes(word: str, folders: Folders) -> tuple[Path, ...]:
    """The files that a word stands for: a recipe's path, its name below the folder `recipes`, or a folder of stages.

    Raises:
        NotFound: there is none; those that there are, are named.
    """
    below = folders.data / "recipes"
    for path in (Path(word).expanduser(), below / word, below / f"{word}.toml"):
        if path.is_file():
            return (path,)
        if (path / STAGES).is_file():
            return tuple(path / f"{name}.toml" for name in (path / STAGES).read_text(encoding="utf-8").split())
    known = [str(path.relative_to(below).with_suffix("")) for path in below.rglob("*.toml")]
    known += [str(path.parent.relative_to(below)) for path in below.rglob(STAGES)]
    raise NotFound(
        f"There is no recipe {word[:100]!r}.", advice=f"There are: {', '.join(sorted(known)) or 'none'}; or give a file."
    )


def find_start(path: Path | None, runs: Path) -> Path | None:
    """A file that a recipe builds on: a path, or the name of an earlier run.

    Raises:
        NotFound: it is neither.
    """
    if path is None or path.exists():
        return path
    result = runs / path / f"{path}.safetensors"
    if not result.is_file():
        raise NotFound(
            f"The recipe builds on {str(path)!r}, which is neither a file nor a finished run.",
            advice=f"Train it first; its result will be {result}.",
        )
    return result


def open_recipe(path: Path, changes: Mapping[str, str], runs: Path) -> Recipe:
    """Read and check a recipe, with the files that it builds on.

    Raises:
        NotFound, CorruptFile, InvalidRequest: with what is wrong, before anything starts.
    """
    from sfumato.train.recipe import read_recipe

    recipe = read_recipe(path, changes)
    found = {name: find_start(getattr(recipe, name), runs) for name in ("start", "vae", "text")}
    return recipe.model_copy(update=found)


def train(
    word: str,
    folders: Folders,
    *,
    folder: Path | None = None,
    changes: Mapping[str, str] | None = None,
    device: str = "auto",
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[Progress]:
    """Run a recipe or several stages, or go on with them; stages that are done are passed over.

    Args:
        word: see `find_recipes`.
        folder: of the run; one with the recipe's name among the outputs by default. Of all stages: where their folders go.
        changes: values that replace those of the recipes, by dotted name.
        device: "auto", "cpu", "cuda", ...
        stop: asked after each update; the run keeps its state and ends when it says so.

    Raises:
        SfumatoError: what is wrong with recipe or data, before training; see `Run.train` for what can happen meanwhile.
    """
    from sfumato.train.recipe import read_recipe

    runs = folders.outputs / "training"
    paths = find_recipes(word, folders)
    if len(paths) == 1:
        recipe = open_recipe(paths[0], changes or {}, runs)
        run = open_run(recipe, folder or runs / recipe.name, folders, device)
        yield from run.train(stop)
        return
    runs = folder or runs
    for path in paths:  # a mistake in the last stage is found before the first one starts
        read_recipe(path, changes)
    for path in paths:
        name = read_recipe(path, changes).name
        if (runs / name / f"{name}.safetensors").is_file():
            continue
        run = open_run(open_recipe(path, changes or {}, runs), runs / name, folders, device)
        yield from run.train(stop)
        if not run.finished:
            return


def open_run(recipe: Recipe, folder: Path, folders: Folders, device: str) -> Run:
    """Everything that a recipe names, made and checked: target, samples, memory, and the state so far.

    Raises:
        SfumatoError: with what is wrong.
    """
    import torch

    import sfumato.train.targets  # noqa: F401 - fills the registry
    from sfumato.train.data import source_of
    from sfumato.train.loop import Run
    from sfumato.train.memory import check_memory
    from sfumato.train.target import targets

    if recipe.loop.threads:
        torch.set_num_threads(recipe.loop.threads)
    together = _together(device)
    atlas = folders.cache / "pictograms.safetensors"
    source = source_of(recipe.data, recipe.seed, together.device, atlas_cache=atlas)
    target = targets[recipe.target](recipe, together.device)
    check_memory(recipe, target, source, together.device)
    return Run(recipe, target, source, folder, together)


def _together(device: str) -> Together:
    """All processes of `accelerate launch` or `torchrun`; usually one."""
    from sfumato.engine.device import choose_device
    from sfumato.train.together import Accelerated, Alone

    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        return Accelerated(cpu=device == "cpu")
    return Alone(choose_device(device))
