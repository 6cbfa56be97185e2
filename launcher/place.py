"""Where Sfumato's packages live, and whether they are there already.

Everything here runs at every start, so it imports little and reads three small files.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from launcher.errors import LaunchError, unwritable

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src"


class Place:
    """The environment that Sfumato runs in: a virtual environment, or the running Python as it is.

    Args:
        folder: the virtual environment; None stands for the running Python.

    Attributes:
        python: the interpreter to run Sfumato with.
        stamps: the folder of the stamps, the files that say what was installed.
        lock: the file that is locked during an installation, and names what was interrupted.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        if folder is None:
            import zlib

            self.python = Path(sys.executable)
            self.stamps = ROOT / ".launch" / f"{zlib.crc32(os.fsencode(sys.prefix)):08x}"
            self.lock = self.stamps.with_suffix(".lock")
        else:
            self.python = folder / "Scripts/python.exe" if sys.platform == "win32" else folder / "bin/python"
            self.stamps = folder
            self.lock = folder.parent / f"{folder.name}.lock"

    @classmethod
    def from_environment(cls) -> Place:
        """The place that VENV_DIR names; a relative one is meant from the project's folder."""
        name = os.environ.get("VENV_DIR", ".venv").strip().strip('"')
        return cls(None if name in ("", "-") else Path(os.path.abspath(ROOT / os.path.expanduser(name))))

    @property
    def site_packages(self) -> Path | None:
        """The virtual environment's package folder; None while there is none."""
        if self.folder is None:
            return None
        pattern = "Lib/site-packages" if sys.platform == "win32" else "lib/python*/site-packages"
        return next(iter(self.folder.glob(pattern)), None)

    def has_package(self, name: str) -> bool:
        """Whether a package of that name lies in the virtual environment (said of the running Python: no)."""
        site = self.site_packages
        return site is not None and (site / name).is_dir()

    def stamp(self, group: str) -> Path:
        """The file that says what was installed, written last; its text is the `wanted` of that time."""
        return self.stamps / f"sfumato-{group}.stamp"

    def wanted(self, group: str) -> str:
        """All that decides what gets installed, as one text.

        Raises:
            LaunchError: the list of packages is missing.
        """
        # The running Python gets the declared ranges, so that versions which suffice are left alone; see install.py.
        source = ROOT / "pyproject.toml" if self.folder is None else lock_file(group)
        packages = read_text(source)
        if packages is None:
            raise LaunchError(f"The list of packages {str(source)!r} is missing; REQS_FILE or the copy of Sfumato is wrong.")
        choices = (f"{name}={os.environ.get(name, '').strip()}\n" for name in ("TORCH_COMMAND", "TORCH_INDEX_URL"))
        return "".join(choices) + packages

    def is_ready(self, group: str) -> bool:
        """Whether `group` of packages is installed exactly as wanted: one comparison, no package work."""
        return read_text(self.stamp(group)) == self.wanted(group) and self.python.exists()

    def link_source(self) -> None:
        """Make `import sfumato` find this copy's `src`: one line in the virtual environment, renewed where it moved."""
        site = self.site_packages
        if site is None:
            return
        # Relative inside the project: that survives moving the folder, and an older Python reads this file in the
        # system's encoding, which may not have the letters of the path.
        line = f"{os.path.relpath(SOURCE, site) if site.is_relative_to(ROOT) else SOURCE}\n"
        if read_text(site / "sfumato.pth") != line:
            write_text(site / "sfumato.pth", line)


def lock_file(group: str) -> Path:
    """The locked requirements of `group`, "base" or "dev"; REQS_FILE stands in for the first."""
    name = os.environ.get("REQS_FILE", "").strip() if group == "base" else ""
    return ROOT / (name or f"requirements/{group}.txt")


def read_text(path: Path) -> str | None:
    """The text of a small file, None where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return None


def write_text(path: Path, text: str) -> None:
    """Write a small file so that it is there whole or not at all.

    Raises:
        LaunchError: the folder cannot be written to, or the disk is full.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise unwritable(path.parent, error) from None
