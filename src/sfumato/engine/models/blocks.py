"""Convolutional blocks of the UNet. Names are those of latent diffusion's checkpoints."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from sfumato.engine.models.layers import Conv2d, GroupNorm, Linear, norm_conv, repeat_rows


class ResBlock(nn.Module):
    """Residual block with a time embedding (Ho et al. 2020, as in latent diffusion).

    Args:
        channels: of the input.
        out_channels: of the result.
        emb_channels: width of the time embedding.
        groups: groups of both norms.
    """

    def __init__(self, channels: int, out_channels: int, emb_channels: int, groups: int) -> None:
        super().__init__()
        # The activations' places are kept, as the file's numbering counts them: the norm applies the first SiLU itself,
        # and the UNet activates the embedding once for all blocks.
        self.in_layers = nn.Sequential(GroupNorm(groups, channels, silu=True), nn.Identity(), Conv2d(channels, out_channels))
        self.emb_layers = nn.Sequential(nn.Identity(), Linear(emb_channels, out_channels))
        self.out_layers = nn.Sequential(
            GroupNorm(groups, out_channels, silu=True), nn.Identity(), nn.Identity(), Conv2d(out_channels, out_channels)
        )
        self.skip_connection = nn.Identity() if channels == out_channels else Conv2d(channels, out_channels, 1)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        """[b, channels, h, w] and the activated embedding [b or 1, emb_channels] -> [b, out_channels, h, w]."""
        h = norm_conv(*_ends(self.in_layers), x, shift=repeat_rows(self.emb_layers(emb), x.shape[0]))
        return norm_conv(*_ends(self.out_layers), h, residual=self.skip_connection(x))


def _ends(layers: nn.Sequential) -> tuple[GroupNorm, Conv2d]:
    """The norm at the start and the convolution at the end of `layers`."""
    norm, conv = layers[0], layers[-1]
    assert isinstance(norm, GroupNorm)
    assert isinstance(conv, Conv2d)
    return norm, conv


class Downsample(nn.Module):
    """Halve each side with a strided convolution; an odd side is rounded up."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.op = Conv2d(channels, channels, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """[b, c, h, w] -> [b, c, ceil(h/2), ceil(w/2)]."""
        halved: Tensor = self.op(x)
        return halved


class Upsample(nn.Module):
    """Enlarge to a given size by repeating pixels, then convolve."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = Conv2d(channels, channels)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """[b, c, h, w] -> [b, c, *size]; `size` is that of the skip connection that comes next, which may be odd."""
        enlarged: Tensor = self.conv(F.interpolate(x, size=size, mode="nearest"))
        return enlarged
