"""Every stage goes on to the bit, with its real networks, samples and kept latents."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import sfumato.train.targets  # noqa: F401 - fills the registry
from sfumato.engine.checkpoint.safetensors import read_safetensors
from sfumato.train.data import source_of
from sfumato.train.loop import Run
from sfumato.train.recipe import recipe_from
from sfumato.train.target import targets

CPU = torch.device("cpu")
CROPS = {"size": [32, 64], "crop": 32, "crops": 2}


def run(folder: Path, target: str, data: dict[str, object], objective: dict[str, object]) -> Run:
    tables = {
        "name": "small",
        "target": target,
        "architecture": "nano",
        "data": {"mix": "nano", "pictograms": False, "workers": 1, **data},
        "optimizer": {"rate": 1e-3, "warmup": 2},
        "objective": objective,
        "loop": {"steps": 4, "batch": 4, "ema": 0.9, "log_every": 1, "save_every": 0},
    }
    recipe = recipe_from(tables)
    return Run(recipe, targets[target](recipe, CPU), source_of(recipe.data, recipe.seed), folder)


@pytest.mark.parametrize(
    ("target", "data", "objective"),
    [
        ("autoencoder", CROPS, {"latent_noise": 0.1}),
        ("contrastive", {"size": 64}, {}),
        ("denoiser", {"size": 32}, {"offset_noise": 0.1, "caption_dropout": 0.3}),
        ("denoiser", {"size": 32, "keep": 6}, {"min_snr": 5.0}),
        ("lora", {"size": 32}, {}),
        ("consistency", {"size": 32, "keep": 8}, {}),
    ],
)
def test_goes_on_to_the_bit(tmp_path: Path, target: str, data: dict[str, object], objective: dict[str, object]) -> None:
    list(run(tmp_path / "whole", target, data, objective).train())
    first = run(tmp_path / "parts", target, data, objective)
    list(first.train(stop=lambda: first.state.step == 2))
    torch.manual_seed(99)
    list(run(tmp_path / "parts", target, data, objective).train())
    whole, parts = (read_safetensors(tmp_path / name / "state.safetensors") for name in ("whole", "parts"))
    assert list(whole) == list(parts)
    assert [name for name in whole if not torch.equal(whole[name].read(), parts[name].read())] == []
    results = [read_safetensors(tmp_path / name / "small.safetensors") for name in ("whole", "parts")]
    assert [name for name in results[0] if not torch.equal(*(table[name].read() for table in results))] == []
