"""The UNet's stage: objective, gradients, kept latents, and what is written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sfumato.engine.checkpoint.load import load
from sfumato.engine.sampling.prediction import Prediction
from sfumato.errors import DiskFull, InvalidRequest, NotFound
from sfumato.train import latents as latents_module
from sfumato.train.diagnose import first_bad_gradient, first_bad_layer
from sfumato.train.latents import encoded
from sfumato.train.recipe import Recipe, recipe_from
from sfumato.train.target import Batch, draw
from sfumato.train.targets.autoencoder import Autoencoder
from sfumato.train.targets.contrastive import Contrastive
from sfumato.train.targets.denoiser import Denoiser

CPU = torch.device("cpu")


def recipe(objective: dict[str, object] | None = None, data: dict[str, object] | None = None, **more: object) -> Recipe:
    pictures = {"mix": "nano", "size": 32, "pictograms": False, **(data or {})}
    tables = {"name": "t", "target": "unet", "architecture": "nano", "data": pictures, "objective": objective or {}, **more}
    return recipe_from(tables)


@pytest.fixture
def batch() -> Batch:
    generator = torch.Generator().manual_seed(0)
    return Batch((5, 9), torch.empty(2, 0), ("a red circle", ""), torch.randn(2, 4, 4, 4, generator=generator))


def bend(target: Denoiser) -> None:
    """Weights that are no longer zero where a fresh network's are."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in target.weights.values():
            weight += 0.02 * torch.randn(weight.shape, generator=generator)


def test_gradients_reach_every_weight(batch: Batch) -> None:
    target = Denoiser(recipe({"train_text": True, "offset_noise": 0.1, "min_snr": 5.0}), CPU)
    bend(target)
    target.loss(batch, 0).total.backward()
    dead = [name for name, weight in target.weights.items() if weight.grad is None or not weight.grad.abs().sum() > 0]
    assert [name for name in dead if "k_proj.bias" not in name] == []
    assert any("token_embedding" in name for name in target.weights)


def test_a_fresh_network_predicts_nothing(batch: Batch) -> None:
    """The loss of the prediction zero is the mean of the squared noise."""
    target = Denoiser(recipe(), CPU)
    noise = draw((4, 4, 4), 0, batch.indices, salt=3)
    assert target.loss(batch, 0).total.item() == pytest.approx(noise.square().mean().item(), rel=1e-5)


def test_min_snr_weights_follow_the_definition() -> None:
    target = Denoiser(recipe({"min_snr": 5.0}), CPU)
    alphas = torch.tensor([0.999, 0.9, 0.5, 0.01])
    snr = alphas / (1 - alphas)
    torch.testing.assert_close(target._importance(alphas), torch.minimum(snr, torch.tensor(5.0)) / snr)


def test_noise_levels_are_those_of_the_sampler() -> None:
    target = Denoiser(recipe(), CPU)
    sigmas = torch.as_tensor(Prediction.of(target.model.spec).levels.sigmas)
    torch.testing.assert_close(((1 - target._alphas) / target._alphas).sqrt().double(), sigmas.double(), rtol=1e-4, atol=1e-6)


def test_dropped_captions_become_empty(batch: Batch) -> None:
    target = Denoiser(recipe({"caption_dropout": 1.0}), CPU)
    bend(target)
    bare = Batch(batch.indices, batch.pixels, ("", ""), batch.latents)
    assert target.loss(batch, 0).total == target.loss(bare, 0).total
    assert Denoiser(recipe(), CPU).loss(batch, 0).total.isfinite()


def test_kept_latents_are_those_of_the_pictures(tmp_path: Path) -> None:
    target = Denoiser(recipe(data={"keep": 6}), CPU)
    source = target._held
    kept = target.prepared(source, tmp_path)
    first = kept.batch([0, 4, 7])
    assert first.latents is not None
    expected = encoded(target.model.vae, source.batch([0, 4, 1]).pixels)
    torch.testing.assert_close(first.latents, expected, atol=2e-3, rtol=2e-3)
    assert first.captions == source.captions([0, 4, 1]) == kept.captions([0, 4, 7])
    again = Denoiser(recipe(data={"keep": 6}), CPU).prepared(source, tmp_path)
    again._source = None  # type: ignore[attr-defined]  # what is kept is not drawn again
    assert len(list(tmp_path.iterdir())) == 1
    rows = np.fromfile(next(tmp_path.iterdir()), np.float16).reshape(6, -1)
    assert [bool(row.any()) for row in rows] == [True, True, False, False, True, False]


def test_another_autoencoder_has_its_own_latents(tmp_path: Path) -> None:
    target = Denoiser(recipe(data={"keep": 6}), CPU)
    target.prepared(target._held, tmp_path)
    with torch.no_grad():
        target.model.vae.quant_conv.weight[0, 0] += 1
    target.prepared(target._held, tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_no_room_for_latents_is_said_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(latents_module.os, "posix_fallocate", full)
    target = Denoiser(recipe(data={"keep": 6}), CPU)
    with pytest.raises(DiskFull, match="MiB"):
        target.prepared(target._held, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_parts_of_other_stages_and_the_result(tmp_path: Path) -> None:
    base = recipe()
    vae, clip = Autoencoder(base, CPU), Contrastive(recipe(data={"size": 64}), CPU)
    vae.save(tmp_path / "vae.safetensors")
    clip.save(tmp_path / "clip.safetensors")
    more = {"vae": tmp_path / "vae.safetensors", "text": tmp_path / "clip.safetensors"}
    sheet = {"prompts": ["a red circle"], "steps": 2}
    target = Denoiser(recipe(data={"size": 64}, sheet=sheet, **more), CPU)
    torch.testing.assert_close(target.model.vae.decoder.conv_in.weight, vae.vae.decoder.conv_in.weight)
    made = target.sheet()
    assert made.pictures is not None
    assert made.pictures.shape == (1, 3, 64, 64)
    assert made.figures["held_error"] == pytest.approx(1.0, abs=0.1)
    target.save(tmp_path / "model.safetensors")
    loaded = load(tmp_path / "model.safetensors")
    assert loaded.spec.unet == target.model.spec.unet
    assert loaded.spec.text == target.model.spec.text
    assert loaded.spec.vae == target.model.spec.vae


def test_several_sizes_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="one size"):
        Denoiser(recipe(data={"size": [32, 64]}), CPU)


def test_a_part_of_another_architecture_is_refused(tmp_path: Path) -> None:
    other = recipe_from({**recipe().model_dump(), "architecture": "starter"})
    Autoencoder(other, CPU).save(tmp_path / "vae.safetensors")
    with pytest.raises(InvalidRequest, match="autoencoder of recipe 't' does not fit"):
        Denoiser(recipe(vae=tmp_path / "vae.safetensors"), CPU)


def test_the_layer_where_numbers_go_bad_is_named(batch: Batch) -> None:
    target = Denoiser(recipe(), CPU)
    assert first_bad_layer(target, batch, 0) is None
    with torch.no_grad():
        target.weights["model.diffusion_model.time_embed.2.bias"][3] = float("nan")
    assert first_bad_layer(target, batch, 0) == "model.diffusion_model.time_embed.2"
    target.loss(batch, 0).total.backward()
    assert first_bad_gradient(target.weights) is not None


def test_a_sheet_that_cannot_be_made_is_found_at_once() -> None:
    with pytest.raises(NotFound, match="Eulr"):
        Denoiser(recipe(sheet={"prompts": ["a"], "sampler": "Eulr"}), CPU)
