"""Two processes learn what one process learns with a batch twice as large."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tests.train.toy import Line, Noise, toy_recipe

from sfumato.engine.checkpoint.safetensors import read_safetensors
from sfumato.train.loop import Run

ROOT = Path(__file__).resolve().parents[2]

PART = """
import sys
from pathlib import Path
from sfumato.train.loop import Run
from sfumato.train.together import Accelerated
from tests.train.toy import Line, Noise, toy_recipe
together = Accelerated(cpu=True)
assert together.count == 2 and together.device.type == "cpu"
run = Run(toy_recipe(batch=4), Line(), Noise(), Path(sys.argv[1]), together)
reports = list(run.train(stop=lambda: len(sys.argv) > 2 and run.state.step == int(sys.argv[2])))
assert reports[-1].images_per_second > 0
"""


def in_two(folder: Path, *words: str) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {
        **os.environ,
        "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}",
        "OMP_NUM_THREADS": "1",
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    parts = [
        subprocess.Popen(
            [sys.executable, "-c", PART, str(folder), *words],
            env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    for part in parts:
        _, errors = part.communicate(timeout=200)
        assert part.returncode == 0, errors


def test_two_processes_equal_one_with_twice_the_batch(tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    list(Run(toy_recipe(batch=8), Line(), Noise(), tmp_path / "one").train())
    in_two(tmp_path / "two", "6")
    in_two(tmp_path / "two")
    one, two = (read_safetensors(tmp_path / name / "state.safetensors") for name in ("one", "two"))
    for name in one:
        if not name.startswith("random"):
            torch.testing.assert_close(two[name].read(), one[name].read(), atol=1e-6, rtol=1e-6, msg=name)
    assert (tmp_path / "two" / "toy.safetensors").is_file()
    lines = (tmp_path / "two" / "log.csv").read_text().splitlines()
    assert [line.partition(",")[0] for line in lines] == ["step", *map(str, range(1, 13))], "one process writes"
