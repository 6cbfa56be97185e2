"""The starter's shapes can be said in the diffusers layout: diffusers reads our export and computes the same."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sfumato.engine.checkpoint.load import load
from sfumato.engine.checkpoint.save import save
from sfumato.train.starter.architecture import architectures, new_model

diffusers = pytest.importorskip("diffusers")


@pytest.mark.parametrize("name", ["starter", "nano"])
def test_diffusers_computes_the_same(name: str, tmp_path: Path) -> None:
    model = new_model(architectures[name].spec, seed=1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for weight in model.unet.parameters():
            weight += 0.02 * torch.randn(weight.shape, generator=generator)
    save(model, tmp_path / "folder", layout="diffusers")
    save(model, tmp_path / "single.safetensors", dtype=torch.float16)
    side = min(16, model.spec.size // 8)
    x = torch.randn(2, 4, side, side, generator=generator)
    times, context = torch.tensor([3.0, 700.0]), torch.randn(2, 77, model.spec.unet.context_dim, generator=generator)
    pixels = torch.rand(1, 3, 64, 64, generator=generator) * 2 - 1
    unet = diffusers.UNet2DConditionModel.from_pretrained(tmp_path / "folder" / "unet")
    vae = diffusers.AutoencoderKL.from_pretrained(tmp_path / "folder" / "vae")
    with torch.no_grad():
        torch.testing.assert_close(unet(x, times, context).sample, model.unet(x, times, context), atol=2e-4, rtol=1e-3)
        torch.testing.assert_close(vae.encode(pixels).latent_dist.mean, model.vae.encode(pixels).mean, atol=2e-4, rtol=1e-3)
        torch.testing.assert_close(vae.decode(x).sample, model.vae.decode(x), atol=5e-4, rtol=1e-3)
    loaded = load(tmp_path / "single.safetensors")
    assert (loaded.spec.unet, loaded.spec.vae, loaded.spec.text) == (model.spec.unet, model.spec.vae, model.spec.text)


def test_the_starter_is_as_small_as_promised() -> None:
    with torch.device("meta"):
        from sfumato.engine.models.diffusion import DiffusionModel

        model = DiffusionModel(architectures["starter"].spec)
    megabytes = 2 * sum(weight.numel() for weight in model.parameters()) / 1e6
    assert megabytes < 50, "64 MB with everything beside it"
    widths = {module.out_features for name, module in model.unet.named_modules() if name.endswith("attn1.to_q")}
    assert model.spec.unet.context_dim not in widths, "hypernetworks are kept by width"
