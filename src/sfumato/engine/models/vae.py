"""The KL autoencoder of latent diffusion (Rombach et al. 2022): pixels to latents and back.

Attribute names are the keys of single-file checkpoints below `first_stage_model.`.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sfumato.engine.models.attention import AttentionFunction, AttentionSite, flash_attention
from sfumato.engine.models.config import VAEConfig
from sfumato.engine.models.layers import Conv2d, GroupNorm, TokenConv, norm_conv, to_image, to_tokens

_EPS = 1e-6


@dataclass(frozen=True, slots=True)
class Moments:
    """The distribution that the encoder gives for each latent value, before the model's scale factor.

    Attributes:
        mean: [b, embed_dim, h/8, w/8].
        logvar: logarithm of the variance, clamped to -30..20; the same shape.
    """

    mean: Tensor
    logvar: Tensor

    def sample(self, noise: Tensor) -> Tensor:
        """One draw, made with standard normal `noise` of the shape of `mean`."""
        return self.mean + torch.exp(0.5 * self.logvar) * noise


class VAEResnetBlock(nn.Module):
    """Residual block without a time embedding."""

    def __init__(self, channels: int, out_channels: int, groups: int) -> None:
        super().__init__()
        self.norm1 = GroupNorm(groups, channels, _EPS, silu=True)
        self.conv1 = Conv2d(channels, out_channels)
        self.norm2 = GroupNorm(groups, out_channels, _EPS, silu=True)
        self.conv2 = Conv2d(out_channels, out_channels)
        self.nin_shortcut = nn.Identity() if channels == out_channels else Conv2d(channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[b, channels, h, w] -> [b, out_channels, h, w]."""
        h = norm_conv(self.norm1, self.conv1, x)
        return norm_conv(self.norm2, self.conv2, h, residual=self.nin_shortcut(x))


class VAEAttention(nn.Module):
    """Single-head self-attention over all pixels of the smallest feature map."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.site = AttentionSite("mid.attn_1", "self", 0, channels, channels, 1)
        self.norm = GroupNorm(groups, channels, _EPS)
        self.q = TokenConv(channels, channels)
        self.k = TokenConv(channels, channels)
        self.v = TokenConv(channels, channels)
        self.proj_out = TokenConv(channels, channels)

    def forward(self, x: Tensor, attention: AttentionFunction) -> Tensor:
        """[b, channels, h, w] -> the same shape."""
        tokens = to_tokens(self.norm(x))
        query, key, value = (layer(tokens).unsqueeze(1) for layer in (self.q, self.k, self.v))
        attended = attention(query, key, value, self.site).squeeze(1)
        return to_image(self.proj_out(attended), *x.shape[-2:]).add_(x)


class VAEMiddle(nn.Module):
    """The middle of encoder and decoder."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.block_1 = VAEResnetBlock(channels, channels, groups)
        self.attn_1 = VAEAttention(channels, groups)
        self.block_2 = VAEResnetBlock(channels, channels, groups)

    def forward(self, x: Tensor, attention: AttentionFunction) -> Tensor:
        """[b, channels, h, w] -> the same shape."""
        h: Tensor = self.block_2(self.attn_1(self.block_1(x), attention))
        return h


class VAEDownsample(nn.Module):
    """Halve each side with a strided convolution that is padded on the right and at the bottom only."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = Conv2d(channels, channels, stride=2, padding=(0, 1, 0, 1))

    def forward(self, x: Tensor) -> Tensor:
        """[b, c, h, w] -> [b, c, h // 2, w // 2]."""
        halved: Tensor = self.conv(x)
        return halved


class VAEUpsample(nn.Module):
    """Double each side by repeating pixels, then convolve."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = Conv2d(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """[b, c, h, w] -> [b, c, 2h, 2w]."""
        doubled: Tensor = self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return doubled


class VAELevel(nn.Module):
    """One resolution of encoder or decoder: residual blocks, then a change of size.

    Args:
        widths: channels before the first block, after it, after the second, ...
        resample: what follows the blocks, as a child named "downsample" or "upsample"; None at the last level.
    """

    def __init__(self, widths: list[int], groups: int, resample: VAEDownsample | VAEUpsample | None) -> None:
        super().__init__()
        self.block = nn.ModuleList(VAEResnetBlock(a, b, groups) for a, b in pairwise(widths))
        self.downsample = resample if isinstance(resample, VAEDownsample) else nn.Identity()
        self.upsample = resample if isinstance(resample, VAEUpsample) else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """[b, widths[0], h, w] -> [b, widths[-1], h', w']."""
        for block in self.block:
            x = block(x)
        resampled: Tensor = self.upsample(self.downsample(x))
        return resampled


class Encoder(nn.Module):
    """Pixels [b, 3, h, w] -> twice `z_channels` numbers per latent cell."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        widths = [config.ch * mult for mult in config.ch_mult]
        groups = config.norm_num_groups
        self.conv_in = Conv2d(config.in_channels, config.ch)
        self.down = nn.ModuleList()
        before = config.ch
        for level, width in enumerate(widths):
            last = level == len(widths) - 1
            resample = None if last else VAEDownsample(width)
            self.down.append(VAELevel([before] + [width] * config.num_res_blocks, groups, resample))
            before = width
        self.mid = VAEMiddle(before, groups)
        self.norm_out = GroupNorm(groups, before, _EPS, silu=True)
        self.conv_out = Conv2d(before, 2 * config.z_channels)

    def forward(self, x: Tensor, attention: AttentionFunction) -> Tensor:
        """[b, 3, h, w] -> [b, 2 * z_channels, h/8, w/8]."""
        h = self.conv_in(x)
        for level in self.down:
            h = level(h)
        h = self.mid(h, attention)
        moments: Tensor = self.conv_out(self.norm_out(h))
        return moments


class Decoder(nn.Module):
    """Latents [b, z_channels, h, w] -> pixels. Level 0 of `up` is the outermost one, which is applied last."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        widths = [config.ch * mult for mult in config.ch_mult]
        groups = config.norm_num_groups
        self.conv_in = Conv2d(config.z_channels, widths[-1])
        self.mid = VAEMiddle(widths[-1], groups)
        levels = []
        for level, width in enumerate(widths):
            before = widths[min(level + 1, len(widths) - 1)]
            resample = VAEUpsample(width) if level else None
            levels.append(VAELevel([before] + [width] * (config.num_res_blocks + 1), groups, resample))
        self.up = nn.ModuleList(levels)
        self.norm_out = GroupNorm(groups, widths[0], _EPS, silu=True)
        self.conv_out = Conv2d(widths[0], config.out_channels)

    def forward(self, x: Tensor, attention: AttentionFunction) -> Tensor:
        """[b, z_channels, h, w] -> [b, 3, 8h, 8w]."""
        h = self.mid(self.conv_in(x), attention)
        for level in reversed(self.up):
            h = level(h)
        pixels: Tensor = self.conv_out(self.norm_out(h))
        return pixels


class AutoencoderKL(nn.Module):
    """Compresses pictures into latents.

    Args:
        config: the shapes.

    Attributes:
        config: as given.
    """

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.quant_conv = Conv2d(2 * config.z_channels, 2 * config.embed_dim, 1)
        self.post_quant_conv = Conv2d(config.embed_dim, config.z_channels, 1)

    @property
    def dtype(self) -> torch.dtype:
        """Number format of the weights, in which the network computes."""
        return self.quant_conv.weight.dtype

    def encode(self, pixels: Tensor, *, attention: AttentionFunction = flash_attention) -> Moments:
        """Pixels [b, 3, h, w] in -1..1 -> the distribution of their latents, without the scale factor."""
        x = pixels.to(dtype=self.dtype, memory_format=torch.channels_last)
        mean, logvar = self.quant_conv(self.encoder(x, attention)).chunk(2, dim=1)
        return Moments(mean, logvar.clamp(-30.0, 20.0))

    def decode(self, latents: Tensor, *, attention: AttentionFunction = flash_attention) -> Tensor:
        """Latents [b, embed_dim, h, w] without the scale factor -> pixels [b, 3, 8h, 8w], about -1..1, not clamped."""
        x = latents.to(dtype=self.dtype, memory_format=torch.channels_last)
        pixels: Tensor = self.decoder(self.post_quant_conv(x), attention)
        return pixels

    def to_latents(self, encoded: Tensor) -> Tensor:
        """Scale what `encode` gives to what the UNet works on."""
        return encoded * self.config.scale_factor

    def from_latents(self, latents: Tensor) -> Tensor:
        """Scale what the UNet works on to what `decode` takes."""
        return latents / self.config.scale_factor
