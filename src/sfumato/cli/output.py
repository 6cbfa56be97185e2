"""Where pictures go: a name given by the user, a pattern, or the next number in the output folder."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable
from pathlib import Path

from sfumato.cli.app import Picture
from sfumato.errors import InvalidRequest
from sfumato.filenames import NameFacts, file_name, folder_parts, next_number, safe_name
from sfumato.request import Generation, Img2Img

FORMATS = ("png", "jpg", "jpeg", "webp", "avif")


def choose_format(output: str | None, wanted: str | None) -> str:
    """The ending (with its dot) of the pictures, from `--output` and `--format`.

    Raises:
        InvalidRequest: the ending is none we write, or the two disagree.
    """
    named = Path(output).suffix.lower().removeprefix(".") if output and not output.endswith(("/", "\\", "]")) else ""
    if named and named not in FORMATS:
        raise InvalidRequest(f"--output: {named!r} is no picture format.", advice=f"Formats: {', '.join(FORMATS)}.")
    if wanted is not None:
        wanted = wanted.lower().removeprefix(".")
        if wanted not in FORMATS:
            raise InvalidRequest(f"--format: {wanted!r} is no picture format.", advice=f"Formats: {', '.join(FORMATS)}.")
        if named and {named, wanted} not in ({named}, {"jpg", "jpeg"}):
            raise InvalidRequest(f"--output ends in .{named}, but --format is {wanted}.", advice="Leave one of them out.")
    return f".{named or wanted or 'png'}"


class Output:
    """Gives every picture its place and saves it there.

    Args:
        target: what `--output` says: a file, a folder, or a pattern with [words]; None for the output folder.
        folder: where numbered pictures go.
        suffix: the ending, with its dot.
        total: how many pictures will come; more than one get numbers.
    """

    def __init__(self, target: str | None, folder: Path, suffix: str, total: int) -> None:
        self._folder = folder
        self._suffix = suffix
        self._total = total
        self._saved = 0
        self._target = target
        if target is not None and (target.endswith(("/", "\\")) or Path(target).expanduser().is_dir()):
            self._folder, self._target = Path(target).expanduser(), None
        self._prepare()

    def _prepare(self) -> None:
        """Make the folder now: better no picture is begun than one that cannot be saved (OSError)."""
        folder = self._folder if self._target is None else Path(self._target).expanduser().parent
        fixed = next((index for index, part in enumerate(folder.parts) if "[" in part), len(folder.parts))
        folder = Path(*folder.parts[:fixed])
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, "Nothing may be written here", str(folder))

    def save(self, picture: Picture, request: Generation) -> Path:
        """Save a picture and say where it is; a name that was made up never replaces a file."""
        self._saved += 1
        if self._target is None:
            return self._save_numbered(picture, self._folder, "[seed]", facts(picture, request))
        path = Path(self._target).expanduser()
        if "[" in self._target:
            return self._save_by_pattern(picture, path, facts(picture, request))
        stem = path.name.removesuffix(path.suffix) + (f"-{self._saved}" if self._total > 1 else "")
        path = path.with_name(stem + self._suffix)
        return picture.save(path)

    def _save_by_pattern(self, picture: Picture, path: Path, known: NameFacts) -> Path:
        parts = path.parts
        first = next(index for index, part in enumerate(parts) if "[" in part)
        folder = Path(*parts[:first])
        for part in parts[first:-1]:
            folder = folder.joinpath(*folder_parts(part, known))
        name = parts[-1].removesuffix(self._suffix) if parts[-1].lower().endswith(self._suffix) else parts[-1]
        wanted = file_name(name, known, self._suffix).removesuffix(self._suffix)

        def numbered(attempt: int) -> str:
            return safe_name(wanted if attempt == 0 else f"{wanted}-{attempt}", self._suffix)

        return claim(picture, folder, numbered)

    def _save_numbered(self, picture: Picture, folder: Path, pattern: str, known: NameFacts) -> Path:
        number = next_number(path.name for path in folder.iterdir())
        return claim(picture, folder, lambda attempt: file_name(pattern, known, self._suffix, number + attempt))


def claim(picture: Picture, folder: Path, name: Callable[[int], str]) -> Path:
    """Save under the first of the names that nobody else has taken."""
    folder.mkdir(parents=True, exist_ok=True)
    attempt = 0
    while True:
        with contextlib.suppress(FileExistsError):
            return picture.save(folder / name(attempt), replace=False)
        attempt += 1


def facts(picture: Picture, request: Generation) -> NameFacts:
    """What the words of a pattern stand for."""
    strength = request.denoising_strength if isinstance(request, Img2Img) else None
    return NameFacts(
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        seed=picture.seed,
        seeds=tuple(picture.seed - picture.index + i for i in range(request.images)),
        width=picture.image.width,
        height=picture.image.height,
        steps=request.steps,
        cfg_scale=request.cfg_scale,
        sampler=request.sampler,
        scheduler=request.scheduler,
        model=Path(request.model).stem,
        vae=Path(request.vae).name,
        styles=request.styles,
        clip_skip=request.clip_skip,
        denoising_strength=strength,
        batch_size=request.batch_size,
        batch_count=request.batch_count,
        batch_index=picture.index % request.batch_size,
        iteration=picture.index // request.batch_size,
        pixels=picture.image.tobytes,
    )
