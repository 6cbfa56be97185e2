"""A folder of pictures with captions as a source of samples; what is wrong with it is found before training starts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from sfumato.errors import CorruptFile, InvalidRequest, NotFound
from sfumato.train.starter.dice import Dice
from sfumato.train.target import Batch

PICTURES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif"})
"""Endings of files that are taken for pictures."""

_NAMED = 5
"""How many files a complaint names."""


@dataclass(frozen=True, slots=True)
class Example:
    """A picture and what it shows."""

    path: Path
    caption: str


def examples_in(folder: Path) -> tuple[Example, ...]:
    """Every picture of a folder, sorted by name, with the text of the `.txt` file beside it, else the words of its name.

    Raises:
        NotFound: there is no such folder.
        InvalidRequest: there are no pictures in it, or captions without their pictures.
        CorruptFile: a picture or caption cannot be read; the first few are named.
    """
    if not folder.is_dir():
        raise NotFound(f"There is no folder {folder}.", advice="Set data.folder to a folder of pictures.")
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    pictures = [path for path in files if path.suffix.lower() in PICTURES]
    if not pictures:
        raise InvalidRequest(
            f"There are no pictures in {folder}; it has {len(files)} other files.",
            advice=f"Known endings are {', '.join(sorted(PICTURES))}.",
        )
    known = {path.with_suffix("") for path in pictures}
    lonely = [path for path in files if path.suffix.lower() == ".txt" and path.with_suffix("") not in known]
    if lonely:
        raise InvalidRequest(
            f"In {folder} {_listed(lonely, 'caption has', 'captions have')} no picture.",
            advice="A caption has the name of its picture with the ending .txt; move other texts elsewhere.",
        )
    broken = [path for path in pictures if not _readable(path)]
    if broken:
        raise CorruptFile(
            f"In {folder} {_listed(broken, 'picture', 'pictures')} cannot be read.",
            advice="Open and save them anew in a picture editor, or remove them.",
        )
    return tuple(Example(path, _caption(path)) for path in pictures)


def _listed(paths: Sequence[Path], one: str, many: str) -> str:
    names = ", ".join(path.name for path in paths[:_NAMED])
    more = f" and {len(paths) - _NAMED} more" if len(paths) > _NAMED else ""
    return f"{len(paths)} {one if len(paths) == 1 else many} ({names}{more})"


def _readable(path: Path) -> bool:
    """Whether all pixels of a picture can be had."""
    try:
        with Image.open(path) as image:
            image.load()
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False
    return True


def _caption(path: Path) -> str:
    text = path.with_suffix(".txt")
    if text.is_file():
        try:
            return " ".join(text.read_text(encoding="utf-8-sig").split())
        except UnicodeDecodeError as error:
            raise CorruptFile(f"The caption {text} is not UTF-8 text.", advice="Save it anew as UTF-8.") from error
    return re.sub(r"^[-\d]+\s*", "", path.stem).replace("_", " ")


class FolderSource:
    """Pictures of a folder, shuffled anew for each round.

    Args:
        folder: see `examples_in`.
        size: side that pictures are brought to: scaled until they cover it, and cropped in the middle.
        seed: of the shuffling.
        device: where samples go.
    """

    def __init__(self, folder: Path, size: int, seed: int, device: torch.device | str = "cpu") -> None:
        self.examples = examples_in(folder)
        self.size, self.seed, self.device = size, seed, device
        self._order = lru_cache(maxsize=2)(self._shuffled)

    def batch(self, indices: Sequence[int]) -> Batch:
        """The samples with these numbers."""
        chosen = [self._example(index) for index in indices]
        pixels = torch.stack([self._pixels(example.path) for example in chosen]).to(self.device)
        return Batch(tuple(indices), pixels, tuple(example.caption for example in chosen))

    def captions(self, indices: Sequence[int]) -> tuple[str, ...]:
        """Captions of samples."""
        return tuple(self._example(index).caption for index in indices)

    def _example(self, index: int) -> Example:
        number, place = divmod(index, len(self.examples))
        return self.examples[self._order(number)[place]]

    def _shuffled(self, number: int) -> tuple[int, ...]:
        return tuple(Dice(self.seed, number).shuffled(range(len(self.examples))))

    def _pixels(self, path: Path) -> Tensor:
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image).convert("RGBA")
        flat = Image.alpha_composite(Image.new("RGBA", upright.size, "white"), upright).convert("RGB")
        fitted = ImageOps.fit(flat, (self.size, self.size), Image.Resampling.LANCZOS)
        return torch.from_numpy(np.array(fitted)).permute(2, 0, 1).float() / 127.5 - 1.0
