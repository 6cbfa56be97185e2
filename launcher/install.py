"""Making the environment and installing the packages: imported only by a start that has to."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from launcher.errors import DISK_FULL, LaunchError, explain, unwritable
from launcher.place import ROOT, Place, lock_file, write_text

GIGABYTE = 10**9
MINIMUM = (3, 11)


def say(text: str) -> None:
    """One line for the person at the terminal; standard output belongs to the program that is started."""
    print(text, file=sys.stderr, flush=True)


def prepare(place: Place, group: str, *, reinstall_torch: bool = False) -> None:
    """Make `group` of packages available in `place`.

    What was interrupted is written in the lock file, so that the next start can clear it away and go on; the stamp is
    written last.

    Raises:
        LaunchError: with one sentence for the disk, the network, the Python or the folder that stands in the way.
    """
    with exclusive(place) as file:
        file.seek(0)
        interrupted = file.read()
        if place.is_ready(group) and not (reinstall_torch or interrupted):
            return  # another start did it while this one waited
        require_space(place)
        if place.folder is not None:
            make_environment(place, place.folder, file, clear=interrupted == "creating")
        note(file, "installing")
        if interrupted:
            mend(place)
        install(place, group, reinstall_torch=reinstall_torch)
        for satisfied in ("base", "dev"):
            if satisfied == group or includes(place, group, satisfied):
                write_text(place.stamp(satisfied), place.wanted(satisfied))
        note(file, "")


def includes(place: Place, group: str, other: str) -> bool:
    """Whether installing `group` has installed `other` as well: the packages of "dev" are those of "base" and more."""
    return set(requirements(place, other)) <= set(requirements(place, group))


# --- one at a time ----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def exclusive(place: Place) -> Iterator[IO[str]]:
    """Hold the only right to install into `place`; yields the open lock file, whose text says what was interrupted."""
    try:
        place.lock.parent.mkdir(parents=True, exist_ok=True)
        file = place.lock.open("a+", encoding="utf-8")
    except OSError as error:
        raise unwritable(place.lock.parent, error) from None
    with file:
        os.set_inheritable(file.fileno(), True)  # a pip that outlives a killed launcher keeps the lock
        if not try_lock(file):
            say("Another start is installing packages; waiting for it to finish.")
            while not try_lock(file):
                time.sleep(0.2)
        yield file


def try_lock(file: IO[str]) -> bool:
    """Lock the file for this process if nobody else holds it; the lock ends with the process, however it ends."""
    try:
        if sys.platform == "win32":
            import msvcrt

            file.seek(1 << 20)  # beyond the text, which then stays readable
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def note(file: IO[str], text: str) -> None:
    """Replace the text of the lock file: what is going on, or nothing."""
    file.seek(0)
    file.truncate()
    file.write(text)
    file.flush()


# --- the environment --------------------------------------------------------------------------------------------------


def free_bytes(folder: Path) -> int:
    """Room on the disk that `folder` lies on, or will lie on."""
    while not folder.is_dir():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def required_bytes(place: Place) -> int:
    """Room that the installation needs; torch for Linux brings the CUDA libraries along."""
    if place.folder is None or place.has_package("torch"):
        return GIGABYTE // 2
    own_choice = os.environ.get("TORCH_COMMAND") or os.environ.get("TORCH_INDEX_URL")
    return int(8.5 * GIGABYTE) if sys.platform == "linux" and not own_choice else 3 * GIGABYTE


def require_space(place: Place) -> None:
    """Say now that the disk is too full, rather than after minutes of downloading."""
    folder = place.folder or place.stamps
    free, needed = free_bytes(folder), required_bytes(place)
    if free < needed:
        room = f"{needed / GIGABYTE:.1f} GB of free disk space at {str(folder)!r}, but only {free / GIGABYTE:.1f} GB are free"
        raise LaunchError(f"Setting up needs about {room}; make room, or name a folder elsewhere in VENV_DIR.", DISK_FULL)


def chosen_python() -> str:
    """The interpreter that PYTHON names, or the running one.

    Raises:
        LaunchError: PYTHON names nothing that runs, or a Python that is too old.
    """
    name = os.environ.get("PYTHON", "").strip().strip('"')
    if not name:
        return sys.executable
    python = shutil.which(name)
    if python is None:
        raise LaunchError(f"PYTHON names {name!r}, but there is no such program.")
    code = f"import sys; sys.exit(sys.version_info[:2] < {MINIMUM})"
    if subprocess.run([python, "-c", code], capture_output=True).returncode and "--skip-python-version-check" not in sys.argv:
        raise LaunchError(f"PYTHON names {name!r}, which is not a Python {MINIMUM[0]}.{MINIMUM[1]} or newer.")
    return python


def make_environment(place: Place, folder: Path, file: IO[str], *, clear: bool) -> None:
    """Create the virtual environment, or again where only the ruin of one is left."""
    if place.python.exists() and not clear:
        if not place.has_package("pip"):  # some tools make environments without it
            run_module(place, ["ensurepip"])
        return
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "pyvenv.cfg").exists() and not clear:
        raise LaunchError(f"VENV_DIR names {str(folder)!r}, which holds other files; name an empty or a new folder.")
    python = chosen_python()
    say(f"Creating the virtual environment {folder}")
    note(file, "creating")
    command = [python, "-m", "venv", "--clear", str(folder)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode:
        raise explain(f"Making the virtual environment {str(folder)!r}", done.stdout.decode(errors="replace"))


def mend(place: Place) -> None:
    """Remove what an interrupted pip leaves: packages that look installed without the list of their files."""
    site = place.site_packages
    for path in site.iterdir() if site else ():
        half_written = path.suffix == ".dist-info" and not (path / "RECORD").exists()
        half_removed = path.name.startswith("~")
        if half_written or half_removed:
            say(f"Removing {path.name}, left by an interrupted installation")
            shutil.rmtree(path, ignore_errors=True)


# --- the packages -----------------------------------------------------------------------------------------------------


def is_torch(requirement: str) -> bool:
    """Whether a line of a lock belongs to torch and the libraries that only it needs."""
    return re.match(r"(torch|torchvision|torchaudio|triton|pytorch-triton|nvidia|cuda)\b", requirement.strip()) is not None


def install(place: Place, group: str, *, reinstall_torch: bool) -> None:
    """Install `group` with pip, torch by the way that TORCH_COMMAND or TORCH_INDEX_URL ask for."""
    say("Installing the packages; this happens once and takes a few minutes")
    if reinstall_torch:
        run_module(place, ["pip", "uninstall", "--yes", "torch", "torchvision"])
    pins = requirements(place, group)
    command, torch_index = os.environ.get("TORCH_COMMAND", "").strip(), os.environ.get("TORCH_INDEX_URL", "").strip()
    if command:
        run_module(place, shlex.split(command, posix=sys.platform != "win32"))
    elif torch_index:
        torch = [pin for pin in pins if re.match(r"torch(vision)?\b", pin)]
        run_module(place, ["pip", "install", "--index-url", torch_index, *torch])
    if command or torch_index:
        pins = [pin for pin in pins if not is_torch(pin)]
    index = os.environ.get("INDEX_URL", "").strip()
    listing = place.stamps / "sfumato-requirements.txt"
    write_text(listing, "\n".join(pins) + "\n")
    run_module(place, ["pip", "install", *(["--index-url", index] if index else []), "-r", str(listing)])


def requirements(place: Place, group: str) -> list[str]:
    """The lines to install. The running Python gets what pyproject.toml declares: its own versions stay where they suffice."""
    if place.folder is not None:
        return lock_file(group).read_text(encoding="utf-8").splitlines()
    import tomllib

    with (ROOT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)["project"]
    return [*project["dependencies"], *(project["optional-dependencies"]["dev"] if group == "dev" else [])]


def environment(place: Place) -> dict[str, str]:
    """What pip runs with: its temporary files on the disk that was checked, a cache only where there is room for it."""
    own = {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1", "PYTHONIOENCODING": "utf-8"}
    if place.folder is not None:
        temporary = place.folder / "tmp"
        temporary.mkdir(exist_ok=True)
        own["TMPDIR"] = str(temporary)
        if free_bytes(place.folder) < 12 * GIGABYTE:
            own["PIP_NO_CACHE_DIR"] = "1"
    return {**os.environ, **own}


def run_module(place: Place, arguments: list[str]) -> None:
    """Run `python -m ARGUMENTS` in `place`, its progress shown, its complaints kept back and put into one sentence.

    Raises:
        LaunchError: it failed.
    """
    command = [str(place.python), "-m", *arguments]
    own = environment(place)
    # Its output goes to our standard error; the lock file is inherited.
    with subprocess.Popen(command, stdout=sys.stderr.fileno(), stderr=subprocess.PIPE, env=own, close_fds=False) as process:
        complaints = process.communicate()[1].decode(errors="replace")
    shutil.rmtree(place.stamps / "tmp", ignore_errors=True)
    if process.returncode:
        raise explain("Installing the packages", complaints)
