"""Our side of `engine.py`."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import torch
from side import Work, serve, touched

from sfumato.engine.checkpoint.load import load
from sfumato.engine.checkpoint.save import save
from sfumato.engine.models.clip import CLIPText
from sfumato.engine.models.config import ModelSpec, TextConfig, TextEncoderSpec, UNetConfig, VAEConfig
from sfumato.engine.models.diffusion import DiffusionModel
from sfumato.engine.models.layers import kept_filters
from sfumato.engine.models.unet import UNet
from sfumato.engine.models.vae import AutoencoderKL
from sfumato.engine.process import prepare_process, release_memory
from sfumato.engine.residency import Weights, choose_plan, free_memory

SD15 = ModelSpec("sd1", UNetConfig(), VAEConfig(), (TextEncoderSpec(TextConfig(), "cond_stage_model.transformer."),))

_held = ExitStack()


def prepare(case: str, scratch: str) -> Work:
    """The work of a case, with SD1.5's shapes."""
    torch.manual_seed(0)
    side = 32 if case.endswith("_256") else 64
    if case.startswith("unet_step"):
        unet = UNet(UNetConfig()).eval().to(memory_format=torch.channels_last)
        latents, context = torch.randn(1, 4, side, side), torch.randn(2, 77, 768)
        kv = unet.project_context(context)
        plan = choose_plan(Weights(0, 0, 0), free_memory(torch.device("cpu")), device="cpu", number_bytes=4)
        _held.enter_context(kept_filters(unet, plan.filters))
        pair = latents.repeat(2, 1, 1, 1)
        return lambda: unet(pair, torch.tensor([500.0, 500.0]), kv)
    if case.startswith("vae_decode"):
        vae = AutoencoderKL(VAEConfig()).eval().to(memory_format=torch.channels_last)
        latents = torch.randn(1, 4, side, side)
        return lambda: vae.decode(latents)
    if case == "text_encode":
        encoder = CLIPText(TextConfig()).eval()
        tokens = torch.randint(0, 49406, (2, 77))
        return lambda: encoder(tokens)
    file = Path(scratch) / "sd15.safetensors"
    if not file.exists():
        save(DiffusionModel(SD15), file)
    return lambda: touched(load(file))


def release() -> None:
    """Forget what is held."""
    _held.close()
    release_memory()


if __name__ == "__main__":
    prepare_process(torch.get_num_threads())
    serve(prepare, lambda layout: None, release)
