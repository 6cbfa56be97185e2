"""A virtual environment for a program to compare with, made at the first use and kept in the user's cache folder."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

REQUIREMENTS = {"diffusers": ("diffusers>=0.35", "transformers>=4.50", "accelerate>=1.0", "safetensors>=0.5", "numpy>=1.26")}


def peer_python(peer: str, torch_version: str) -> str:
    """The Python of the environment of `peer` with this version of PyTorch."""
    folder = cache_folder() / f"{peer}-torch-{torch_version}-py{sys.version_info.major}.{sys.version_info.minor}"
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    ready = folder / "ready"
    if not ready.exists():
        print(f"Making an environment for {peer} in {folder} ...", flush=True)
        venv.create(folder, with_pip=True, clear=True)
        command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        index = os.environ.get("TORCH_INDEX_URL")
        torch = [f"torch=={torch_version}", *(["--index-url", index] if index else [])]
        for packages in (torch, list(REQUIREMENTS[peer])):
            subprocess.run([*command, *packages], check=True)
        ready.touch()
    return str(python)


def cache_folder() -> Path:
    """Where environments are kept."""
    if os.name == "nt":
        base = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData/Local"))
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    return base / "sfumato" / "benchmarks"
