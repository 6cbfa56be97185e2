"""The nano recipes: the whole way of training in small. That it learns is for `sfumato evaluate` to say."""

from __future__ import annotations

from pathlib import Path

from sfumato.engine.checkpoint.load import load
from sfumato.service.folders import Folders
from sfumato.service.training import train

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
