"""The autoencoder's stage: gradients reach everything, whitening changes latents but not pictures."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sfumato.engine.checkpoint.load import load_vae
from sfumato.train.recipe import Recipe, recipe_from
from sfumato.train.target import Batch
from sfumato.train.targets.autoencoder import Autoencoder, whiten


def recipe(**objective: object) -> Recipe:
    data = {"mix": "nano", "size": 32, "pictograms": False}
    return recipe_from({"name": "t", "target": "vae", "architecture": "nano", "data": data, "objective": objective})


@pytest.fixture
def batch() -> Batch:
    return Batch((0, 1), torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1, ("", ""))


def test_gradients_reach_every_weight(batch: Batch) -> None:
    target = Autoencoder(recipe(latent_noise=0.1, l2=1.0), torch.device("cpu"))
    target.loss(batch, 0).total.backward()
    dead = [name for name, weight in target.weights.items() if weight.grad is None or not weight.grad.abs().sum() > 0]
    # A bias of keys moves all scores of a query alike, which softmax does not see.
    assert [name for name in dead if not name.endswith("attn_1.k.bias")] == []


def test_only_the_decoder_learns_where_asked(batch: Batch) -> None:
    target = Autoencoder(recipe(decoder_only=True), torch.device("cpu"))
    assert all(name.startswith(("decoder.", "post_quant_conv.")) for name in target.weights)
    target.loss(batch, 0).total.backward()
    assert all(weight.grad is None for weight in target.vae.encoder.parameters())


def test_loss_depends_on_seed_and_numbers_only(batch: Batch) -> None:
    target = Autoencoder(recipe(latent_noise=0.1), torch.device("cpu"))
    first = target.loss(batch, 0).total.item()
    torch.manual_seed(123)
    assert target.loss(batch, 0).total.item() == first
    assert target.loss(batch, 1).total.item() != first


def test_whitened_latents(batch: Batch, tmp_path: Path) -> None:
    target = Autoencoder(recipe(), torch.device("cpu"))
    vae = target.vae
    with torch.no_grad():
        vae.quant_conv.weight.normal_(std=0.3, generator=torch.Generator().manual_seed(1))
        before = vae.encode(batch.pixels)
        picture = vae.decode(before.mean)
        mean, deviation = before.mean.mean(dim=(0, 2, 3)), before.mean.std(dim=(0, 2, 3))
        whiten(vae, mean, deviation)
        after = vae.encode(batch.pixels)
        torch.testing.assert_close(vae.decode(after.mean), picture, atol=2e-5, rtol=1e-4)
    latents = vae.to_latents(after.mean)
    torch.testing.assert_close(latents.mean(dim=(0, 2, 3)), torch.zeros(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(latents.std(dim=(0, 2, 3)), torch.ones(4), atol=1e-4, rtol=0)
    # The noise that belongs to a latent grows with it.
    ratio = (0.5 * (after.logvar - before.logvar)).exp().mean(dim=(0, 2, 3))
    torch.testing.assert_close(ratio, 1 / (deviation * 0.18215), atol=1e-4, rtol=1e-4)


def test_saved_autoencoder_loads_as_any_other(tmp_path: Path) -> None:
    target = Autoencoder(recipe(), torch.device("cpu"))
    target.save(tmp_path / "vae.safetensors")
    loaded = load_vae(tmp_path / "vae.safetensors")
    assert loaded.config == target.vae.config
    sheet = target.sheet()
    assert sheet.pictures is not None
    assert sheet.pictures.shape == (24, 3, 32, 32)
    assert 0 < sheet.figures["psnr"] < 60
