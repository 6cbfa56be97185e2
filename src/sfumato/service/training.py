"""Training runs: from the name of a recipe to a run in its folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from sfumato.errors import NotFound
from sfumato.service.folders import Folders

if TYPE_CHECKING:
    from sfumato.train.recipe import Recipe
    from sfumato.train.report import Progress
    from sfumato.train.together import Together


def find_recipe(word: str, folders: Folders) -> Path:
    """The file of a recipe: a path, or a name such as "starter/vae" below the folder `recipes`.

    Raises:
        NotFound: there is none; those that there are, are named.
    """
    below = folders.data / "recipes"
    for path in (Path(word).expanduser(), below / word, below / f"{word}.toml"):
        if path.is_file():
            return path
    known = sorted(str(path.relative_to(below).with_suffix("")) for path in below.rglob("*.toml"))
    raise NotFound(f"There is no recipe {word[:100]!r}.", advice=f"There are: {', '.join(known) or 'none'}; or give a file.")


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


def open_recipe(word: str, folders: Folders, changes: Mapping[str, str], runs: Path) -> Recipe:
    """Read and check a recipe, with the files that it builds on.

    Raises:
        NotFound, CorruptFile, InvalidRequest: with what is wrong, before anything starts.
    """
    from sfumato.train.recipe import read_recipe

    recipe = read_recipe(find_recipe(word, folders), changes)
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
    """Run a recipe, or go on with it.

    Args:
        word: see `find_recipe`.
        folder: of the run; one with the recipe's name among the outputs by default.
        changes: values that replace those of the recipe, by dotted name.
        device: "auto", "cpu", "cuda", ...
        stop: asked after each update; the run keeps its state and ends when it says so.

    Raises:
        SfumatoError: what is wrong with recipe or data, before training; see `Run.train` for what can happen meanwhile.
    """
    runs = folders.outputs / "training"
    recipe = open_recipe(word, folders, changes or {}, runs)

    import torch

    import sfumato.train.targets  # noqa: F401 - fills the registry
    from sfumato.train.data import source_of
    from sfumato.train.loop import Run
    from sfumato.train.memory import check_memory
    from sfumato.train.target import targets

    if recipe.loop.threads:
        torch.set_num_threads(recipe.loop.threads)
    together = _together(device)
    target = targets[recipe.target](recipe, together.device)
    cache = folders.cache / "pictograms.safetensors"
    source = source_of(recipe.data, recipe.seed, together.device, atlas_cache=cache)
    check_memory(recipe, target, source, together.device)
    run = Run(recipe, target, source, folder or runs / recipe.name, together)
    yield from run.train(stop)


def _together(device: str) -> Together:
    """All processes of `accelerate launch` or `torchrun`; usually one."""
    from sfumato.engine.device import choose_device
    from sfumato.train.together import Accelerated, Alone

    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        return Accelerated(cpu=device == "cpu")
    return Alone(choose_device(device))
