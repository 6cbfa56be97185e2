"""Where things lie: A1111's folder layout under a data folder."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


def default_data_dir() -> Path:
    """The data folder: `SFUMATO_DATA_DIR`, else the checkout this file runs from, else the current folder."""
    named = os.environ.get("SFUMATO_DATA_DIR")
    if named:
        return Path(named).expanduser()
    checkout = Path(__file__).resolve().parents[3]
    return checkout if (checkout / "launch.py").is_file() else Path.cwd()


@dataclass(frozen=True, slots=True)
class Folders:
    """The folders of one installation, named as in A1111.

    Attributes:
        data: root of what belongs to the user.
        models: root of the models; `data / "models"` unless given.
    """

    data: Path
    models: Path

    @classmethod
    def under(cls, data: Path | str | None = None, models: Path | str | None = None) -> Folders:
        """The layout under a data folder, with the models elsewhere where `models` says so."""
        root = Path(data).expanduser() if data else default_data_dir()
        return cls(root.absolute(), Path(models).expanduser().absolute() if models else root.absolute() / "models")

    @property
    def checkpoints(self) -> Path:
        """Checkpoints."""
        return self.models / "Stable-diffusion"

    @property
    def vaes(self) -> Path:
        """Separate VAE files."""
        return self.models / "VAE"

    @property
    def previews(self) -> Path:
        """TAESD files: small decoders for previews."""
        return self.models / "VAE-approx"

    @property
    def outputs(self) -> Path:
        """Pictures."""
        return self.data / "outputs"

    @property
    def styles(self) -> Path:
        """The table of prompt styles."""
        return self.data / "styles.csv"

    @property
    def cache(self) -> Path:
        """What can be computed again: hashes."""
        return self.data / "cache"
