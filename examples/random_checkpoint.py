"""Write a small checkpoint with random weights: its pictures show nothing, but they go all the way that real ones go.

    python examples/random_checkpoint.py tiny.safetensors

For trying out the program, its interfaces and their clients where no model is at hand.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from sfumato.engine.checkpoint.save import save
from sfumato.engine.models.config import ModelSpec, TextConfig, TextEncoderSpec, UNetConfig, VAEConfig
from sfumato.engine.models.diffusion import DiffusionModel

SPEC = ModelSpec(
    family="sd1",
    unet=UNetConfig(
        model_channels=32,
        channel_mult=(1, 2),
        num_res_blocks=(1, 1),
        transformer_depth=(0, 1),
        transformer_depth_output=(1, 1, 0, 0),
        context_dim=48,
        norm_num_groups=8,
    ),
    vae=VAEConfig(ch=16, ch_mult=(1, 1, 2, 2), num_res_blocks=1, norm_num_groups=4),
    text=(TextEncoderSpec(TextConfig(width=48, layers=2, heads=3, mlp_width=96), "cond_stage_model.transformer."),),
    title="random weights",
)


def main(path: Path) -> None:
    """Write the checkpoint to `path`."""
    torch.manual_seed(0)
    save(DiffusionModel(SPEC), path, dtype=torch.float16)
    print(path)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "tiny.safetensors"))
