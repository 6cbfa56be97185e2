"""Every example does what it says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from sfumato import Txt2Img, generate, load

ROOT = Path(__file__).resolve().parent.parent


def test_random_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "tiny.safetensors"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    subprocess.run([sys.executable, str(ROOT / "examples" / "random_checkpoint.py"), str(path)], check=True, env=environment)
    (picture,) = generate(Txt2Img(prompt="a red circle", seed=1, steps=2, width=64, height=64), load(path))
    assert picture.image.size == (64, 64)
    assert path.stat().st_size < 12_000_000
