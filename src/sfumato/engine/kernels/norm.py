"""Group normalisation with SiLU on channels-last tensors, in as few passes over memory as possible.

Once mean and variance are known, normalising is one multiplication and one addition per value, with one factor and one
term per picture and channel. Held as such (`Affine`), it can be applied by whoever reads the tensor next, a block at a time
in the cache: the normalised tensor need not exist.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

_MANY_PIXELS = 4096
"""Pixels from which on PyTorch's sums are not exact enough."""
_STRIP_PIXELS = 8192
"""Values of one channel that are summed in float32."""
_STRIP_FLOATS = 1_000_000
"""Values per strip of which the statistics are taken at once (4 MB)."""


@dataclass(frozen=True, slots=True)
class Affine:
    """x * scale + shift, then SiLU where `silu` says so.

    Attributes:
        scale: [b, c].
        shift: [b, c].
    """

    scale: Tensor
    shift: Tensor
    silu: bool

    def __call__(self, x: Tensor) -> Tensor:
        """The result for `x` [b, c, h, w]."""
        image = x.permute(0, 2, 3, 1)
        out = torch.empty_like(image)
        self.apply(image, out, slice(None))
        return out.permute(0, 3, 1, 2)

    def apply(self, x: Tensor, out: Tensor, images: slice) -> None:
        """Write the result for `x` [n, h, w, c] to `out`, of the same shape; `images` says which pictures these are."""
        scale, shift = (t[images, None, None] for t in (self.scale, self.shift))
        torch.addcmul(shift, x, scale, out=out)
        if self.silu:
            F.silu(out, inplace=True)


@dataclass(frozen=True, slots=True)
class Moments:
    """Mean and sum of squared deviations of `count` values per picture and channel, in float64, [b, c].

    Those of two parts of a picture can be merged exactly, so that they can be gathered piece by piece.
    """

    count: int
    mean: Tensor
    deviation: Tensor

    def merge(self, other: Moments) -> Moments:
        """The moments of both parts together (Chan, Golub and LeVeque 1979)."""
        count = self.count + other.count
        delta = other.mean - self.mean
        mean = self.mean + delta * (other.count / count)
        deviation = self.deviation + other.deviation + delta.square() * (self.count * other.count / count)
        return Moments(count, mean, deviation)


def many_pixels(x: Tensor) -> bool:
    """Whether `x` [b, c, h, w] needs `moments` rather than PyTorch's own group norm.

    For channels-last tensors on the CPU the latter sums all values of a group one after the other in float32: with 512 x 512
    pixels the result is wrong by 3e-4, a hundred times what every other operation adds. Where gradients are wanted it is used
    all the same, as `moments` has none.
    """
    exact = x.device.type == "cpu" and x.dtype == torch.float32 and not torch.is_grad_enabled()
    return exact and not torch.compiler.is_compiling() and x.shape[2] * x.shape[3] >= _MANY_PIXELS


def moments(x: Tensor) -> Moments:
    """Moments of each channel of [b, c, h, w], channels-last.

    PyTorch's batch statistics read the tensor once and sum in float32; a strip at a time, merged in float64, they are exact
    to about 1e-7 however many pixels there are.
    """
    batch, channels, height, width = x.shape
    rows = max(1, min(_STRIP_FLOATS // (channels * width), _STRIP_PIXELS // width))
    strips = torch.split(x, rows, dim=2)
    counts = torch.tensor([strip.shape[2] * width for strip in strips], dtype=torch.float64, device=x.device)
    pieces = [torch.batch_norm_update_stats(strip[i : i + 1], None, None, 0.0) for i in range(batch) for strip in strips]
    means = torch.stack([mean for mean, _ in pieces]).view(batch, -1, channels).double()
    variances = torch.stack([variance for _, variance in pieces]).view(batch, -1, channels).double()
    weights = (counts / counts.sum())[None, :, None]
    mean = (means * weights).sum(1)
    variance = ((variances + (means - mean[:, None]).square()) * weights).sum(1)
    return Moments(height * width, mean, variance * (height * width))


def group_affine(parts: Moments, groups: int, weight: Tensor, bias: Tensor, eps: float, *, silu: bool) -> Affine:
    """What group normalisation does to each channel, from the channels' moments (Wu and He 2018).

    Args:
        parts: moments of the input's channels.
        groups: number of groups that the channels form.
        weight, bias: [c], applied to the normalised values.
        eps: added to the variance.
        silu: whether SiLU follows.
    """
    batch, channels = parts.mean.shape
    grouped = (batch, groups, channels // groups)
    means = parts.mean.view(grouped)
    mean = means.mean(2, keepdim=True)
    variance = parts.deviation.view(grouped).mean(2, keepdim=True) / parts.count + (means - mean).square().mean(2, keepdim=True)
    inverse = (variance + eps).rsqrt().expand(grouped).reshape(batch, channels)
    scale = weight.double() * inverse
    shift = bias.double() - mean.expand(grouped).reshape(batch, channels) * scale
    return Affine(scale.to(weight.dtype), shift.to(weight.dtype), silu)
