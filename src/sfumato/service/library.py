"""The models at hand: found by scanning the folders, named as A1111 names them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sfumato.engine.checkpoint.hashes import SHORT, legacy_hash
from sfumato.errors import NotFound
from sfumato.service.folders import Folders

Kind = Literal["checkpoint", "vae", "taesd"]

SUFFIXES = frozenset({".safetensors", ".ckpt", ".pt", ".pth", ".bin"})
CHECKPOINT_SUFFIXES = frozenset({".safetensors", ".ckpt"})
LEGACY = 8
"""Digits of the hash by which early infotexts name a checkpoint."""
_HASH = re.compile(r"[0-9a-f]{8,64}")
STARTER = Path(__file__).resolve().parents[1] / "starter"


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """One model file or diffusers folder.

    Attributes:
        name: file name without its ending; what `request.model` usually holds.
        title: path below its folder, as lists show it.
        size: bytes of the file, 0 for a folder.
        short_hash: first 10 hex digits of the sha256 where it is known already, else empty.
    """

    name: str
    title: str
    path: Path
    kind: Kind
    size: int
    short_hash: str = ""


def is_vae(path: Path) -> bool:
    """Whether a file among the checkpoints is a VAE by A1111's naming (`name.vae.safetensors`)."""
    return path.name.lower().rpartition(".")[0].endswith(".vae")


def _existing(wanted: str) -> Path | None:
    """The model file or diffusers folder that a path leads to. Any other folder is none, whatever its name."""
    path = Path(os.path.abspath(os.path.expanduser(wanted))) if wanted and "\0" not in wanted else None
    if path is None or os.path.isfile(path):
        return path
    return path if any(os.path.exists(path / part) for part in ("model_index.json", "unet")) else None


class Library:
    """Finds models by name, title, hash or path.

    Args:
        folders: where to look.
        known_hash: gives the sha256 of a file where it has been computed before, else None.
    """

    def __init__(self, folders: Folders, known_hash: Callable[[Path], str | None] = lambda path: None) -> None:
        self.folders = folders
        self._known_hash = known_hash

    def entries(self, kind: Kind = "checkpoint") -> tuple[ModelEntry, ...]:
        """The models of one kind, by title; the starter model comes last."""
        found = sorted(self._scan(kind), key=lambda entry: entry.title.casefold())
        if kind == "checkpoint":
            found.extend(self._entry(path, STARTER, "checkpoint") for path in sorted(STARTER.glob("*.safetensors")))
        return tuple(found)

    def find(self, wanted: str, kind: Kind = "checkpoint") -> ModelEntry:
        """The model that a path, name, title or hash stands for; the first one there is when `wanted` is empty.

        Raises:
            NotFound: naming what there is.
        """
        if path := _existing(wanted):
            return self._entry(path, path.parent, kind)
        entries = self.entries(kind)
        if not wanted and entries:
            return entries[0]
        key = wanted.partition(" [")[0].casefold() or wanted.casefold()
        digest = key if _HASH.fullmatch(key) else ""
        tests: tuple[Callable[[ModelEntry], bool], ...] = (
            lambda entry: key in (entry.title.casefold(), entry.name.casefold(), entry.path.name.casefold()),
            lambda entry: bool(digest and entry.short_hash) and entry.short_hash.startswith(digest[:SHORT]),
            lambda entry: len(digest) == LEGACY and digest == legacy_hash(entry.path),
            lambda entry: bool(key) and key in entry.title.casefold(),
        )
        for test in tests:
            matches = sorted((entry for entry in entries if test(entry)), key=lambda entry: len(entry.title))
            if matches:
                return matches[0]
        raise self._missing(wanted, kind, entries)

    def vae_beside(self, checkpoint: Path) -> Path | None:
        """The VAE file named after a checkpoint (`<stem>.vae.*` beside it, or `<stem>.*` in the VAE folder)."""
        for suffix in (".safetensors", ".pt", ".ckpt"):
            for path in (
                checkpoint.with_name(f"{checkpoint.stem}.vae{suffix}"),
                self.folders.vaes / f"{checkpoint.stem}.vae{suffix}",
                self.folders.vaes / f"{checkpoint.stem}{suffix}",
            ):
                if path.is_file():
                    return path
        return None

    def _scan(self, kind: Kind) -> Iterator[ModelEntry]:
        places = {
            "checkpoint": (self.folders.checkpoints,),
            "vae": (self.folders.vaes, self.folders.checkpoints),
            "taesd": (self.folders.previews,),
        }
        for root in places[kind]:
            if not root.is_dir():
                continue
            suffixes = CHECKPOINT_SUFFIXES if root == self.folders.checkpoints and kind == "checkpoint" else SUFFIXES
            for path in root.rglob("*"):
                if path.name == "model_index.json" and kind == "checkpoint":
                    yield self._entry(path.parent, root, kind)
                elif path.suffix.lower() in suffixes and path.is_file() and self._belongs(path, root, kind):
                    yield self._entry(path, root, kind)

    def _belongs(self, path: Path, root: Path, kind: Kind) -> bool:
        if kind == "checkpoint":
            inside_folder = any((parent / "model_index.json").is_file() for parent in (path.parent, path.parent.parent))
            return not is_vae(path) and not inside_folder
        return kind != "vae" or root == self.folders.vaes or is_vae(path)

    def _entry(self, path: Path, root: Path, kind: Kind) -> ModelEntry:
        folder = path.is_dir()
        sha256 = None if folder else self._known_hash(path)
        return ModelEntry(
            name=path.name if folder else path.stem,
            title=path.relative_to(root).as_posix(),
            path=path,
            kind=kind,
            size=0 if folder else path.stat().st_size,
            short_hash=sha256[:SHORT] if sha256 else "",
        )

    def _missing(self, wanted: str, kind: Kind, entries: tuple[ModelEntry, ...]) -> NotFound:
        place = self.folders.checkpoints if kind == "checkpoint" else self.folders.vaes
        if not wanted:
            return NotFound(
                f"There is no {kind} yet.", advice=f"Put a .safetensors file into {place}, or name one with --model FILE."
            )
        names = ", ".join(entry.name for entry in entries[:10]) or "none"
        return NotFound(
            f"There is no {kind} {wanted[:200]!r}.",
            advice=f"At hand: {names}. Give one of these, a path, or put the file into {place}.",
        )
