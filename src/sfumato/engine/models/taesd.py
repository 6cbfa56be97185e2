"""TAESD, the tiny autoencoder (O. Bøer Bohan, 2023): latents to pixels in a hundredth of the time, for previews.

Encoder and decoder are sequences, so that their keys are the numbers of the published files.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sfumato.engine.models.layers import Conv2d


class TinyBlock(nn.Module):
    """Residual block of three convolutions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            Conv2d(channels, channels),
            nn.ReLU(inplace=True),
            Conv2d(channels, channels),
            nn.ReLU(inplace=True),
            Conv2d(channels, channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """[b, channels, h, w] -> the same shape."""
        return F.relu_(self.conv(x) + x)


class SoftClamp(nn.Module):
    """Keep latents within -3..3 smoothly."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape -> the same shape."""
        return torch.tanh(x / 3) * 3


def _blocks(count: int, channels: int) -> list[nn.Module]:
    return [TinyBlock(channels) for _ in range(count)]


def _apply(layers: nn.Sequential, x: Tensor) -> Tensor:
    """Apply `layers` one after the other, in the number format of their weights."""
    x = x.to(dtype=next(layers.parameters()).dtype, memory_format=torch.channels_last)
    for layer in layers:
        x = layer(x)
    return x


class TinyEncoder(nn.Sequential):
    """Pixels to latents.

    Args:
        latent_channels: channels of the latent (4).
        channels: width of all layers (64).
    """

    def __init__(self, latent_channels: int = 4, channels: int = 64) -> None:
        layers: list[nn.Module] = [Conv2d(3, channels), *_blocks(1, channels)]
        for _ in range(3):
            layers += [Conv2d(channels, channels, stride=2, padding=1, bias=False), *_blocks(3, channels)]
        super().__init__(*layers, Conv2d(channels, latent_channels))

    def forward(self, pixels: Tensor) -> Tensor:
        """Pixels [b, 3, h, w] in -1..1 -> latents as the UNet sees them, [b, latent_channels, h/8, w/8]."""
        return _apply(self, pixels * 0.5 + 0.5)


class TinyDecoder(nn.Sequential):
    """Latents to pixels; arguments as for `TinyEncoder`."""

    def __init__(self, latent_channels: int = 4, channels: int = 64) -> None:
        layers: list[nn.Module] = [SoftClamp(), Conv2d(latent_channels, channels), nn.ReLU(inplace=True)]
        for _ in range(3):
            layers += [*_blocks(3, channels), nn.Upsample(scale_factor=2), Conv2d(channels, channels, bias=False)]
        super().__init__(*layers, *_blocks(1, channels), Conv2d(channels, 3))

    def forward(self, latents: Tensor) -> Tensor:
        """Latents as the UNet sees them [b, latent_channels, h, w] -> pixels [b, 3, 8h, 8w], about -1..1, not clamped."""
        return _apply(self, latents) * 2 - 1
