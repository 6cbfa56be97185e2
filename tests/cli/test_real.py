"""The command line and the README's example with the real application and a small random checkpoint."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image
from tests.tiny import random_model

from sfumato.cli.main import main
from sfumato.engine.checkpoint.save import save

ROOT = Path(__file__).resolve().parents[2]
COMMON = ("--steps", "2", "--size", "64x64")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "tiny.safetensors"
    save(random_model(), path)
    return path


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SFUMATO_DATA_DIR", str(tmp_path / "data"))
    for name in ("data/cache", "data/models"):
        (tmp_path / name).mkdir(parents=True)


def pixels(path: str | Path) -> bytes:
    with Image.open(path) as image:
        return image.convert("RGB").tobytes()


def in_another_process(*words: str, **options: object) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    return subprocess.Popen([sys.executable, "-m", "sfumato", *words], env=environment, stderr=subprocess.PIPE)


def test_a_picture_is_the_same_alone_in_a_batch_from_its_infotext_and_elsewhere(checkpoint: Path) -> None:
    words = ("txt2img", "a red circle", "--model", str(checkpoint), *COMMON)
    assert main([*words, "--seed", "2", "-o", "alone.png"]) == 0
    assert main([*words, "--seed", "1", "--batch-size", "3", "-o", "batch.png"]) == 0
    assert main(["txt2img", "--infotext", "alone.png", "--model", str(checkpoint), "-o", "again.png"]) == 0
    other = in_another_process(*words, "--seed", "2", "-o", "other.png")
    assert other.communicate(timeout=120)[1] == b""
    wanted = pixels("alone.png")
    assert all(pixels(name) == wanted for name in ("batch-2.png", "again.png", "other.png"))
    assert pixels("batch-1.png") != wanted


@pytest.mark.skipif(sys.platform == "win32", reason="sends a POSIX signal")
def test_interrupt_leaves_nothing_behind(checkpoint: Path, tmp_path: Path) -> None:
    process = in_another_process(
        "txt2img", "x", "--model", str(checkpoint), "--steps", "1000", "--size", "256x256", "-o", "out/x.png", "--progress"
    )
    assert process.stderr is not None
    seen = b""
    began = time.monotonic()
    while b"1/1000" not in seen and time.monotonic() - began < 100:
        seen += process.stderr.read1()
    process.send_signal(signal.SIGINT)
    rest = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert rest.endswith(b"sfumato: Cancelled.\n")
    assert b"Traceback" not in rest
    assert list((tmp_path / "out").iterdir()) == []


def test_converted_there_and_back_it_makes_the_same_picture(checkpoint: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", str(checkpoint), "folder"]) == 0
    assert main(["convert", "folder", "back.safetensors"]) == 0
    for model in (str(checkpoint), "folder", "back.safetensors"):
        assert main(["txt2img", "x", "--seed", "1", "--model", model, *COMMON, "-o", f"{Path(model).stem}.png"]) == 0
    assert pixels("tiny.png") == pixels("folder.png") == pixels("back.png")
    capfd.readouterr()
    assert main(["info", str(checkpoint), "tiny.png", "--json"]) == 0
    model_facts, picture_facts = (json.loads(line) for line in capfd.readouterr().out.splitlines())
    assert model_facts["base"] == "sd1"
    assert len(model_facts["hashes"]["sha256"]) == 64
    assert picture_facts["infotext"].startswith("x\nSteps: 2, ")


def test_img2img_and_kept_steps(checkpoint: Path, tmp_path: Path) -> None:
    Image.new("RGB", (64, 64), "red").save("source.png")
    words = ("img2img", "x", "--image", "source.png", "--model", str(checkpoint), *COMMON, "--seed", "1")
    assert main([*words, "--strength", "1", "--preview-strip", "-o", "made.webp"]) == 0
    (kept,) = tmp_path.glob("made-steps.*")
    with Image.open(kept) as strip:
        assert strip.width > strip.height


def test_cut_checkpoint(checkpoint: Path, capfd: pytest.CaptureFixture[str]) -> None:
    Path("cut.safetensors").write_bytes(checkpoint.read_bytes()[:100])
    assert main(["txt2img", "x", "--model", "cut.safetensors"]) == 4
    assert "incomplete" in capfd.readouterr().err


@pytest.mark.parametrize("page", ["README.md", "docs/howto/library.md"])
def test_examples_in_the_documentation_run(page: str, checkpoint: Path, tmp_path: Path) -> None:
    """Each with a small model, and as few and as small pictures as can be."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)
    assert blocks
    Path("model.safetensors").write_bytes(checkpoint.read_bytes())
    smaller = re.sub(r"(steps=\d+, width=\d+, height=\d+|batch_count=2)", "steps=2, width=64, height=64", "\n".join(blocks))
    assert "steps=2" in smaller
    with contextlib.redirect_stdout(None):
        exec(compile(smaller, page, "exec"), {})
    if page == "README.md":
        assert pixels(tmp_path / "circle-1.png")


def test_a_grid_of_all_pictures_lies_beside_the_first(checkpoint: Path) -> None:
    words = (
        "txt2img",
        "a red circle",
        "--model",
        str(checkpoint),
        *COMMON,
        "--seed",
        "1",
        "--batch-count",
        "3",
        "-o",
        "many.png",
    )
    assert main([*words, "--grid"]) == 0
    with Image.open("many-1-grid.png") as sheet, Image.open("many-3.png") as third:
        assert sheet.size == (128, 128)
        assert sheet.crop((0, 64, 64, 128)).tobytes() == third.convert("RGB").tobytes()
        assert "Seed: 1" in sheet.text["parameters"]  # type: ignore[attr-defined]
