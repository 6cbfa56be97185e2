"""A virtual environment for a program to compare with, made at the first use and kept in the user's cache folder.

PyTorch is not installed a second time: the environment sees the one that runs the benchmark, so both sides compute with the
same build of it. Whatever else the peer needs goes into its own environment, before what the running one has.
"""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from importlib.util import find_spec
from pathlib import Path

REQUIREMENTS = {"diffusers": ("diffusers>=0.35", "transformers>=4.50", "accelerate>=1.0", "safetensors>=0.5")}


def peer_python(peer: str, torch_version: str) -> str:
    """The Python of the environment of `peer` with this version of PyTorch."""
    folder = cache_folder() / f"{peer}-torch-{torch_version}-py{sys.version_info.major}.{sys.version_info.minor}"
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    ready = folder / "ready"
    if not ready.exists():
        print(f"Making an environment for {peer} in {folder} ...", flush=True)
        venv.create(folder, with_pip=True, clear=True)
        _show_torch(python)
        constraint = folder / "constraint.txt"
        constraint.write_text(f"torch=={torch_version}\n", encoding="utf-8")
        install = [
            str(python),
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--ignore-installed",
            "--no-deps",
        ]
        subprocess.run([*install, *REQUIREMENTS[peer]], check=True)
        # What these need and the running environment lacks.
        needed = [*install[:-2], "--no-warn-conflicts", "--constraint", str(constraint), *REQUIREMENTS[peer]]
        subprocess.run(needed, check=True)
        ready.touch()
    return str(python)


def _show_torch(python: Path) -> None:
    """Let the environment find the packages beside the PyTorch that runs this, after its own."""
    found = find_spec("torch")
    assert found is not None
    assert found.origin is not None
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = subprocess.run([str(python), "-c", code], check=True, capture_output=True, text=True).stdout.strip()
    (Path(packages) / "torch_of_the_benchmark.pth").write_text(f"{Path(found.origin).parent.parent}\n", encoding="utf-8")


def cache_folder() -> Path:
    """Where environments are kept."""
    if os.name == "nt":
        base = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData/Local"))
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    return base / "sfumato" / "benchmarks"
