"""The program as a process of its own, with warnings as errors; `test_real` has what needs no process. Each costs seconds."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from tests.tiny import random_model

from sfumato.engine.checkpoint.save import save
from sfumato.picture import read

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A data folder with one checkpoint."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "models" / "Stable-diffusion").mkdir(parents=True)
    save(random_model(), folder / "models" / "Stable-diffusion" / "small.safetensors", dtype=torch.float16)
    return folder


def sfumato(home, *words, **more):
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "SFUMATO_DATA_DIR": str(home), "PYTHONWARNINGS": "error"}
    command = [sys.executable, "-m", "sfumato", *words]
    return subprocess.run(command, env=environment, cwd=home, capture_output=True, text=True, timeout=120, **more)


def test_prompts_from_standard_input(home, tmp_path):
    words = ("--model", "small", "--size", "64x64", "--steps", "2", "--seed", "1", "--json", "--prompts-from", "-")
    done = sfumato(home, "txt2img", *words, "--output-dir", str(tmp_path / "new"), input="a red circle\nb\n")
    assert (done.returncode, done.stderr) == (0, "")
    made = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(facts["seed"], facts["width"], facts["height"]) for facts in made] == [(1, 64, 64)] * 2
    assert sorted((tmp_path / "new").iterdir()) == sorted(Path(facts["path"]) for facts in made)
    for facts, prompt in zip(made, ("a red circle", "b"), strict=True):
        assert read(Path(facts["path"])).infotext == facts["infotext"]
        assert facts["infotext"].startswith(f"{prompt}\nSteps: 2,")
        with Image.open(facts["path"]) as image:
            assert image.size == (64, 64)


def test_a_mistake(home, tmp_path):
    done = sfumato(home, "txt2img", "x", "--model", "nothing", "--output", str(tmp_path / "one.png"))
    assert done.returncode not in (0, 1, 130)
    assert done.stdout == ""
    assert "'nothing'" in done.stderr
    assert "small" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []
