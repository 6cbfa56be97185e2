"""The autoencoder on large pictures, in strips of rows: the same result, a fraction of the memory.

Other programs cut a picture into tiles, decode each as a picture of its own and blend them, which shows as seams and shifts
of colour: group normalisation takes its statistics over the whole picture. Here all strips go through one layer before any
goes through the next. Each strip sees the neighbouring rows that its convolution reaches, and each norm is given the
moments of the whole picture, merged from those of the strips. So nothing is approximated and nothing computed twice but a
row at each border.

Feature maps lie in `store` (main memory), a strip at a time visits the device: what the device needs is a strip's work.
Strips that are no longer needed are given back while the next map grows, so that one map and a bit is held, or two inside
a residual block.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

import torch
from torch import Tensor
from torch.nn import functional as F

from sfumato.engine.kernels import norm
from sfumato.engine.models.attention import AttentionFunction, flash_attention
from sfumato.engine.models.layers import Conv2d, GroupNorm, norm_conv
from sfumato.engine.models.vae import AutoencoderKL, Moments, VAEDownsample, VAELevel, VAEResnetBlock, VAEUpsample

STRIP_PIXELS = 512 * 512
"""Pixels of a strip at full size, about: a strip then needs what a picture of 512 x 512 needs."""


class Strips:
    """A feature map [1, c, h, w] as strips of rows.

    Args:
        parts: from top to bottom.
        store: where they are kept.
        device: where they are computed with.
    """

    def __init__(self, parts: list[Tensor], store: torch.device, device: torch.device) -> None:
        self._parts: list[Tensor | None] = [part.to(store) for part in parts]
        self.store = store
        self.device = device

    @classmethod
    def cut(cls, x: Tensor, rows: int, store: torch.device) -> Strips:
        """Cut `x` into strips of `rows` rows."""
        return cls([part.contiguous(memory_format=torch.channels_last) for part in torch.split(x, rows, dim=2)], store, x.device)

    def __len__(self) -> int:
        return len(self._parts)

    def at(self, number: int) -> Tensor:
        """Strip `number`, on the device."""
        part = self._parts[number]
        assert part is not None, "the strip was given back"
        return part.to(self.device)

    def drop(self, number: int) -> None:
        """Give a strip back."""
        self._parts[number] = None

    def joined(self) -> Tensor:
        """The whole map, on the device."""
        return torch.cat([self.at(number) for number in range(len(self))], dim=2)

    def window(self, number: int, above: int, below: int, *, wrap: bool) -> tuple[Tensor, int, int]:
        """A strip with up to `above` and `below` rows of its neighbours, and how many it got of each.

        Args:
            wrap: the last strip is the first one's neighbour.
        """
        last = len(self) - 1
        pieces, got = [self.at(number)], [0, 0]
        if above and (number > 0 or wrap):
            pieces.insert(0, self.at(number - 1 if number else last)[:, :, -above:])
            got[0] = above
        if below and (number < last or wrap):
            pieces.append(self.at(number + 1 if number < last else 0)[:, :, :below])
            got[1] = below
        return torch.cat(pieces, dim=2) if len(pieces) > 1 else pieces[0], got[0], got[1]

    def moments(self) -> norm.Moments:
        """Those of the whole map."""
        return reduce(norm.Moments.merge, (norm.moments(self.at(number)) for number in range(len(self))))

    def mapped(self, change: Callable[[int], Tensor], *, keep: bool = False, wrap: bool = False) -> Strips:
        """A new map of `change` of every strip's number; the strips of this one are given back as soon as may be.

        Args:
            keep: give none back.
            wrap: the first strip is still needed by the last.
        """
        results = []
        for number in range(len(self)):
            results.append(change(number).to(self.store))
            if not keep and number - 1 >= (1 if wrap else 0):
                self.drop(number - 1)
        if not keep:
            self._parts = [None] * len(self)
        return Strips(results, self.store, self.device)


def decode_in_strips(
    vae: AutoencoderKL,
    latents: Tensor,
    *,
    rows: int | None = None,
    store: torch.device | None = None,
    attention: AttentionFunction = flash_attention,
) -> Tensor:
    """`vae.decode` of one picture's latents [1, c, h, w], to within rounding.

    Args:
        vae: on the device of `latents`.
        latents: without the scale factor.
        rows: of latents per strip; by default as many as make `STRIP_PIXELS`.
        store: where feature maps are kept; main memory by default.
        attention: of the middle; see `chunked_attention` for devices without a fused kernel.
    """
    decoder, x = vae.decoder, latents.to(dtype=vae.dtype, memory_format=torch.channels_last)
    middle = decoder.mid(decoder.conv_in(vae.post_quant_conv(x)), attention)
    cell = vae.config.downsampling
    h = Strips.cut(middle, rows or max(1, STRIP_PIXELS // (cell * cell * x.shape[-1])), store or torch.device("cpu"))
    del middle
    for level in reversed(decoder.up):
        assert isinstance(level, VAELevel)
        h = _level(level, h)
    return _normed(decoder.norm_out, decoder.conv_out, h).joined()


def encode_in_strips(
    vae: AutoencoderKL,
    pixels: Tensor,
    *,
    rows: int | None = None,
    store: torch.device | None = None,
    attention: AttentionFunction = flash_attention,
) -> Moments:
    """`vae.encode` of one picture [1, 3, h, w], to within rounding; see `decode_in_strips`.

    Args:
        rows: of latents per strip. The picture's height must be a multiple of the autoencoder's cell.
    """
    encoder, x = vae.encoder, pixels.to(dtype=vae.dtype, memory_format=torch.channels_last)
    cell = vae.config.downsampling
    step = cell * (rows or max(1, STRIP_PIXELS // (cell * x.shape[-1])))
    source = Strips.cut(x, step, store or torch.device("cpu"))
    h = source.mapped(lambda number: _convolved(source, number, encoder.conv_in), wrap=encoder.conv_in.wrap[1])
    for level in encoder.down:
        assert isinstance(level, VAELevel)
        h = _level(level, h)
    middle = encoder.mid(h.joined(), attention)
    moments = vae.quant_conv(encoder.conv_out(encoder.norm_out(middle)))
    mean, logvar = moments.chunk(2, dim=1)
    return Moments(mean, logvar.clamp(-30.0, 20.0))


def _level(level: VAELevel, x: Strips) -> Strips:
    """`VAELevel.forward`."""
    for block in level.block:
        assert isinstance(block, VAEResnetBlock)
        x = _block(block, x)
    if isinstance(level.downsample, VAEDownsample):
        x = _halved(level.downsample.conv, x)
    if isinstance(level.upsample, VAEUpsample):
        x = _doubled(level.upsample.conv, x)
    return x


def _block(block: VAEResnetBlock, x: Strips) -> Strips:
    """`VAEResnetBlock.forward`."""
    h = _normed(block.norm1, block.conv1, x, keep=True)
    # The input's own strip is read as its residual, not its neighbours', so it goes when its result is there.
    moments, wrap = h.moments(), block.conv2.wrap[1]

    def second(number: int) -> Tensor:
        window, above, below = h.window(number, 1, 1, wrap=wrap)
        result = norm_conv(block.norm2, block.conv2, window, parts=moments)
        result = _inner(result, above, below).add_(block.nin_shortcut(x.at(number)))
        x.drop(number)
        return result

    return h.mapped(second, wrap=wrap)


def _normed(before: GroupNorm, conv: Conv2d, x: Strips, *, keep: bool = False) -> Strips:
    """Norm, activation and convolution of a map."""
    moments, wrap = x.moments(), conv.wrap[1]

    def change(number: int) -> Tensor:
        window, above, below = x.window(number, 1, 1, wrap=wrap)
        return _inner(norm_conv(before, conv, window, parts=moments), above, below)

    return x.mapped(change, keep=keep, wrap=wrap)


def _convolved(x: Strips, number: int, conv: Conv2d) -> Tensor:
    window, above, below = x.window(number, 1, 1, wrap=conv.wrap[1])
    return _inner(conv(window), above, below)


def _doubled(conv: Conv2d, x: Strips) -> Strips:
    """`VAEUpsample.forward`."""
    wrap = conv.wrap[1]

    def change(number: int) -> Tensor:
        window, above, below = x.window(number, 1, 1, wrap=wrap)
        return _inner(conv(F.interpolate(window, scale_factor=2.0, mode="nearest")), 2 * above, 2 * below)

    return x.mapped(change, wrap=wrap)


def _halved(conv: Conv2d, x: Strips) -> Strips:
    """`VAEDownsample.forward`: it reaches one row down; what the convolution pads below that is not read."""
    wrap = conv.wrap[1]

    def change(number: int) -> Tensor:
        halved: Tensor = conv(x.window(number, 0, 1, wrap=wrap)[0])
        return halved

    return x.mapped(change, wrap=wrap)


def _inner(x: Tensor, above: int, below: int) -> Tensor:
    """The rows that belong to the strip itself."""
    return x[:, :, above : x.shape[2] - below].contiguous(memory_format=torch.channels_last)
