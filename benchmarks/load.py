"""Time and memory of loading a checkpoint, against the time of only reading its bytes.

    python benchmarks/load.py [--dtype float32|float16|bfloat16|float8_e4m3fn] [--tiny] [--rounds N] [--json FILE]

Writes a checkpoint of Stable Diffusion 1.5's shapes with random weights (4.3 GB in float32) to a temporary folder. Each round
reads the file and loads it as float32, each in a fresh process, with the file dropped from the system's cache ("cold") and with
it cached ("warm"). Reading is measured twice: into one small buffer, and into fresh memory of the file's size, which is what
whoever keeps the bytes has to do.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from sfumato.engine.checkpoint.family import families
from sfumato.engine.checkpoint.load import load
from sfumato.engine.checkpoint.table import GivenTensor
from sfumato.engine.checkpoint.writer import write_safetensors
from sfumato.engine.models.config import ModelSpec, TextConfig, TextEncoderSpec, UNetConfig, VAEConfig
from sfumato.engine.models.diffusion import DiffusionModel

PIECE = 8 << 20


def read(path: Path) -> float:
    """Seconds that reading all bytes into one small buffer takes: no memory to make, nothing to arrange."""
    buffer = bytearray(PIECE)
    began = time.perf_counter()
    with path.open("rb", buffering=0) as file:
        while file.readinto(buffer):
            pass
    return time.perf_counter() - began


def read_and_keep(path: Path) -> float:
    """Seconds that reading all bytes into memory takes."""
    began = time.perf_counter()
    target = torch.empty(path.stat().st_size, dtype=torch.uint8)
    view = memoryview(target.numpy())  # type: ignore[arg-type]
    with path.open("rb", buffering=0) as file:
        done = 0
        while count := file.readinto(view[done : done + (64 << 20)]):
            done += count
    return time.perf_counter() - began


def loaded(path: Path) -> tuple[float, float]:
    """Seconds that loading takes, and the growth of the highest resident memory as a part of the weights' size."""
    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    model = load(path)
    took = time.perf_counter() - began
    size = sum(value.numel() * value.element_size() for value in model.state_dict().values())
    return took, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / size


def spec(*, tiny: bool) -> ModelSpec:
    """Stable Diffusion 1.5, or a tenth of it."""
    unet = UNetConfig(model_channels=64) if tiny else UNetConfig()
    return ModelSpec("sd1", unet, VAEConfig(), (TextEncoderSpec(TextConfig(), families["sd1"].encoders[0].prefix),))


def make(path: Path, dtype: torch.dtype, *, tiny: bool) -> None:
    """Write random weights, a tensor at a time."""
    with torch.device("meta"):
        names = DiffusionModel(spec(tiny=tiny)).state_dict()
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(1 << 20, generator=generator)

    class Random(GivenTensor):
        def __init__(self, shape: tuple[int, ...]) -> None:
            self.shape, self.dtype = shape, torch.float32

        def _fill(self, target: torch.Tensor) -> None:
            target.copy_(noise.repeat(target.numel() // noise.numel() + 1)[: target.numel()].view(target.shape))

    write_safetensors(path, {name: Random(tuple(value.shape)) for name, value in names.items()}, dtype=dtype)


def forget(path: Path) -> None:
    """Drop the file from the system's cache, where the system can do that."""
    if hasattr(os, "posix_fadvise"):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def child(task: str, path: Path) -> list[float]:
    """Run one measurement in a fresh process."""
    done = subprocess.run([sys.executable, __file__, "--task", task, "--file", path], capture_output=True, text=True, check=True)
    return [float(word) for word in done.stdout.split()]


def measure(path: Path, rounds: int) -> dict[str, dict[str, float]]:
    """Medians over rounds, read and load in turn."""
    cases: dict[str, dict[str, float]] = {}
    for case in ("cold", "warm"):
        figures: dict[str, list[float]] = {"read": [], "keep": [], "load": []}
        peak = 0.0
        for _ in range(rounds):
            for task, seconds in figures.items():
                forget(path) if case == "cold" else read(path)
                took, *more = child(task, path)
                seconds.append(took)
                peak = max(peak, *more, 0.0)
        ours, buffered, kept = (statistics.median(figures[task]) for task in ("load", "read", "keep"))
        cases[f"load_{case}"] = {
            "sfumato_s": ours,
            "read_s": buffered,
            "read_and_keep_s": kept,
            "ratio": ours / kept,
            "ratio_to_buffered": ours / buffered,
            "peak_of_weights": peak,
        }
    return cases


def main() -> None:
    """Parse the arguments and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtype", default="float32", choices=["float32", "float16", "bfloat16", "float8_e4m3fn"])
    parser.add_argument("--tiny", action="store_true", help="a tenth of the size")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--folder", type=Path, help="where to put the checkpoint for the time of the run")
    parser.add_argument("--task", choices=["read", "keep", "load"], help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.task:
        tasks = {"read": lambda path: (read(path),), "keep": lambda path: (read_and_keep(path),), "load": loaded}
        print(*tasks[arguments.task](arguments.file))
        return
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        path = Path(folder) / "model.safetensors"
        make(path, getattr(torch, arguments.dtype), tiny=arguments.tiny)
        result = {"bytes": path.stat().st_size, "dtype": arguments.dtype, "cases": measure(path, arguments.rounds)}
    for name, case in result["cases"].items():  # type: ignore[attr-defined]
        print(name, "  ".join(f"{key} {value:.3f}" for key, value in case.items()))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
