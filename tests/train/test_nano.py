"""From nothing to pictures of what words say, in a few minutes on a processor: the whole way of training in small."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import pytest

from sfumato.engine.checkpoint.load import load
from sfumato.service.folders import Folders
from sfumato.service.training import train
from sfumato.train.starter.captions import prompt
from sfumato.train.starter.detect.judge import judge
from sfumato.train.starter.evaluate import ModelPainter
from sfumato.train.starter.mix import mixes
from sfumato.train.starter.scene import Backdrop, Scene, Thing

RECIPES = Path(__file__).resolve().parents[2] / "recipes" / "nano"


STAGES = ("vae-32", "vae", "unet")


def test_the_stages_follow_one_another(tmp_path: Path) -> None:
    """A few steps of each: recipes are sound, and each finds what the one before left."""
    changes = {"loop.steps": "2", "loop.batch": "2", "loop.threads": "1"}
    for name in STAGES:
        more = {"data.keep": "8", "sheet.prompts": "[]"} if name == "unet" else {}
        reports = list(train(str(RECIPES / f"{name}.toml"), Folders.under(tmp_path), device="cpu", changes=changes | more))
        assert reports[-1].step == 2
    model = load(tmp_path / "outputs" / "training" / "nano" / "nano.safetensors")
    assert model.spec.vae.norm_num_groups == 1
    assert model.spec.unet.context_dim == 48


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_model_learns_from_nothing(tmp_path: Path) -> None:
    folders = Folders.under(tmp_path)
    began = time.process_time()
    for name in STAGES:
        reports = list(train(str(RECIPES / f"{name}.toml"), folders, device="cpu", changes={"loop.threads": "1"}))
        assert reports[-1].step == reports[-1].steps
        assert reports[-1].loss < reports[0].loss
    minutes = (time.process_time() - began) / 60.0
    painter = ModelPainter(load(tmp_path / "outputs" / "training" / "nano" / "nano.safetensors"), steps=15, guidance=2.0)
    right = []
    for colour, shape in itertools.product(mixes["nano"].colours, mixes["nano"].shapes):
        scene = Scene(Backdrop(), (Thing(shape, colour, 0.5, 0.5, 0.55),))
        verdicts = [judge(scene, picture) for picture in painter(scene, prompt(scene), "", (1, 2))]
        right += [bool(verdict.colour and verdict.shape) for verdict in verdicts]
    share = sum(right) / len(right)
    print(f"{minutes:.1f} minutes of processor time; {100 * share:.0f} % of {len(right)} pictures are right; chance is 2 %")
    # The goal is 80 %; 73 % were measured when this was written, where chance is 2 %.
    assert share >= 0.6
    assert minutes <= 5.0
