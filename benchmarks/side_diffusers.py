"""The side of diffusers in `engine.py`: its own modules with random weights, used as its pipeline does."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from side import Work, serve, touched
from transformers import CLIPTextConfig, CLIPTextModel

VAE = {
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "latent_channels": 4,
}
TEXT = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "hidden_act": "quick_gelu",
}

_models: list[torch.nn.Module] = []


def prepare(case: str, scratch: str) -> Work:
    """The work of a case, with SD1.5's shapes."""
    torch.manual_seed(0)
    side = 32 if case.endswith("_256") else 64
    if case == "load":
        return loading(Path(scratch) / "diffusers")
    if case.startswith("unet_step"):
        unet = UNet2DConditionModel(cross_attention_dim=768, attention_head_dim=8).eval()
        _models.append(unet)
        latents, context = torch.randn(1, 4, side, side), torch.randn(2, 77, 768)
        return lambda: unet(torch.cat([latents] * 2), 500, encoder_hidden_states=context, return_dict=False)
    if case.startswith("vae_decode"):
        vae = AutoencoderKL(**VAE).eval()
        _models.append(vae)
        latents = torch.randn(1, 4, side, side)
        return lambda: vae.decode(latents, return_dict=False)
    encoder = CLIPTextModel(CLIPTextConfig(**TEXT)).eval()
    _models.append(encoder)
    tokens = torch.randint(0, 49406, (2, 77))
    return lambda: encoder(tokens)


def loading(folder: Path) -> Work:
    """Loading the three networks of a pipeline from a folder."""
    if not folder.exists():
        pipeline = StableDiffusionPipeline(
            vae=AutoencoderKL(**VAE),
            text_encoder=CLIPTextModel(CLIPTextConfig(**TEXT)),
            tokenizer=None,
            unet=UNet2DConditionModel(cross_attention_dim=768, attention_head_dim=8),
            scheduler=None,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
        for name in ("unet", "vae", "text_encoder"):
            getattr(pipeline, name).save_pretrained(folder / name)

    networks = {"unet": UNet2DConditionModel, "vae": AutoencoderKL, "text_encoder": CLIPTextModel}
    return lambda: touched(*(kind.from_pretrained(folder / name) for name, kind in networks.items()))


def layout(name: str) -> None:
    """Put the model into a memory layout."""
    wanted = torch.channels_last if name == "channels_last" else torch.contiguous_format
    for model in _models:
        model.to(memory_format=wanted)


if __name__ == "__main__":
    serve(prepare, layout, _models.clear)
