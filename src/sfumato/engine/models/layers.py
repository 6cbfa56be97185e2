"""The few leaf modules that all networks are built from.

They are thin on purpose: every convolution, linear map and norm of every model goes through these classes, so that one
place decides about padding, memory format and (in `engine.kernels`) prepacked weights or faster algorithms. On the `meta`
device they skip their random initialisation, so that building an empty model neither costs time nor moves a random
generator.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sfumato.engine.kernels import norm, winograd
from sfumato.engine.kernels.filters import FilterCache
from sfumato.engine.kernels.linear import linear


class Linear(nn.Linear):
    """`nn.Linear` that leaves `meta` weights alone and takes the faster way where there is one."""

    def reset_parameters(self) -> None:
        """Initialise the weights, unless they have no storage."""
        if not self.weight.is_meta:
            super().reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        """Map [..., in_features] to [..., out_features]."""
        return linear(x, self.weight, self.bias)


class Embedding(nn.Embedding):
    """`nn.Embedding` that leaves `meta` weights alone."""

    def reset_parameters(self) -> None:
        """Initialise the table, unless it has no storage."""
        if not self.weight.is_meta:
            super().reset_parameters()


class LayerNorm(nn.LayerNorm):
    """`nn.LayerNorm` that leaves `meta` weights alone."""

    def reset_parameters(self) -> None:
        """Initialise scale and shift, unless they have no storage."""
        if not self.weight.is_meta:
            super().reset_parameters()


class GroupNorm(nn.GroupNorm):
    """Group normalisation, optionally followed by SiLU, as one operation.

    Args:
        silu: apply SiLU to the result. Norm and activation are one module because they are one kernel where that is faster.
    """

    def __init__(self, groups: int, channels: int, eps: float = 1e-5, *, silu: bool = False) -> None:
        super().__init__(groups, channels, eps)
        self.silu = silu

    def reset_parameters(self) -> None:
        """Initialise scale and shift, unless they have no storage."""
        if not self.weight.is_meta:
            super().reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        """Normalise [b, c, h, w]; the memory format of `x` is kept."""
        if norm.many_pixels(x):
            return self.per_channel(norm.moments(x))(x)
        h = F.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)
        return F.silu(h, inplace=True) if self.silu else h

    def per_channel(self, parts: norm.Moments) -> norm.Affine:
        """What the norm does to each channel of an input with these moments."""
        return norm.group_affine(parts, self.num_groups, self.weight, self.bias, self.eps, silu=self.silu)


class Conv2d(nn.Conv2d):
    """A 2-D convolution whose edges can be joined (tiling) and whose padding may differ per side.

    Args:
        padding: pixels added to every side, or (left, right, top, bottom).

    Attributes:
        pads: the padding as (left, right, top, bottom).
        wrap: whether the left edge continues at the right one (x) and the top one at the bottom (y); see `set_tiling`.
        filters: where transformed filters are kept meanwhile, if they are; see `kept_filters`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int = 3,
        *,
        stride: int = 1,
        padding: int | tuple[int, int, int, int] | None = None,
        bias: bool = True,
    ) -> None:
        around = kernel // 2 if padding is None else padding
        pads = (around,) * 4 if isinstance(around, int) else around
        # Unequal padding is applied by `forward`; the base class can only express equal padding.
        even = pads[0] if len(set(pads)) == 1 else 0
        super().__init__(in_channels, out_channels, kernel, stride=stride, padding=even, bias=bias)
        self.pads: tuple[int, int, int, int] = pads
        self.wrap: tuple[bool, bool] = (False, False)
        self.filters: FilterCache | None = None

    def reset_parameters(self) -> None:
        """Initialise the weights, unless they have no storage."""
        if not self.weight.is_meta:
            super().reset_parameters()

    @property
    def pads_itself(self) -> bool:
        """True where the padding is not the plain zero border that the convolution kernel adds for free."""
        return any(self.wrap) or len(set(self.pads)) > 1

    def forward(self, x: Tensor) -> Tensor:
        """Convolve [b, c, h, w]; the memory format of `x` is kept."""
        if self.quick(x):
            return winograd.convolve(x, self.transformed(), self.bias, wrap=self.wrap)
        if not self.pads_itself:
            return F.conv2d(x, self.weight, self.bias, self.stride, self.padding)
        return F.conv2d(pad(x, self.pads, self.wrap), self.weight, self.bias, self.stride)

    def quick(self, x: Tensor) -> bool:
        """Whether `x` is convolved by Winograd's algorithm."""
        plain = self.kernel_size == (3, 3) and self.stride == (1, 1) and self.pads == (1, 1, 1, 1)
        return plain and winograd.suits(x, self.weight)

    def transformed(self) -> Tensor:
        """The filters as Winograd's algorithm takes them."""
        return winograd.transform_weight(self.weight) if self.filters is None else self.filters.get(self.weight)


def norm_conv(
    before: GroupNorm,
    conv: Conv2d,
    x: Tensor,
    *,
    shift: Tensor | None = None,
    residual: Tensor | None = None,
    parts: norm.Moments | None = None,
) -> Tensor:
    """conv(before(x)) + shift + residual, in fewer passes over memory where that can be had.

    Args:
        x: [b, c, h, w].
        shift: [b, out], added to every pixel.
        residual: [b, out, h, w].
        parts: the moments to normalise with, where `x` is part of a larger picture; else its own.

    Returns:
        a new tensor [b, out, h, w].
    """
    if conv.quick(x):
        bias = conv.bias if shift is None else shift if conv.bias is None else shift + conv.bias
        first = before.per_channel(parts or norm.moments(x))
        return winograd.convolve(x, conv.transformed(), bias, before=first, residual=residual, wrap=conv.wrap)
    h: Tensor = conv(before(x) if parts is None else before.per_channel(parts)(x))
    if shift is not None:
        h = h.add_(shift[:, :, None, None])
    return h if residual is None else h.add_(residual)


class TokenConv(Conv2d):
    """A 1x1 convolution that is applied to tokens [b, n, c] instead of [b, c, h, w].

    Files keep such projections as 4-D convolution weights; on channels-last features they are plain linear maps.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map [b, n, in_channels] to [b, n, out_channels]."""
        return linear(x, self.weight.flatten(1), self.bias)


def to_tokens(x: Tensor) -> Tensor:
    """[b, c, h, w] -> [b, h*w, c]; a view of a channels-last tensor."""
    batch, channels, height, width = x.shape
    return x.permute(0, 2, 3, 1).reshape(batch, height * width, channels)


def to_image(tokens: Tensor, height: int, width: int) -> Tensor:
    """[b, h*w, c] -> [b, c, h, w], as a channels-last view."""
    batch, _, channels = tokens.shape
    return tokens.reshape(batch, height, width, channels).permute(0, 3, 1, 2)


def split_heads(x: Tensor, heads: int) -> Tensor:
    """[b, n, heads * d] -> [b, heads, n, d], as a view."""
    batch, count, _ = x.shape
    return x.view(batch, count, heads, -1).transpose(1, 2)


def repeat_rows(x: Tensor, rows: int) -> Tensor:
    """`x` [1 or rows, ...] with its single row repeated; `x` itself where nothing is to be done."""
    return x if x.shape[0] == rows else x.repeat(rows, *[1] * (x.dim() - 1))


def pad(x: Tensor, pads: tuple[int, int, int, int], wrap: tuple[bool, bool]) -> Tensor:
    """Pad [b, c, h, w] by (left, right, top, bottom): with the opposite edge where `wrap` (x, y) says so, else with zeros.

    Unlike `F.pad(mode="circular")` this keeps channels-last tensors channels-last.
    """
    left, right, top, bottom = pads
    if wrap[0] and left + right:
        x = torch.cat([x[..., x.shape[-1] - left :], x, x[..., :right]], dim=3)
        left = right = 0
    if wrap[1] and top + bottom:
        x = torch.cat([x[..., x.shape[-2] - top :, :], x, x[..., :bottom, :]], dim=2)
        top = bottom = 0
    return F.pad(x, (left, right, top, bottom)) if left + right + top + bottom else x


def set_tiling(model: nn.Module, x: bool, y: bool) -> None:
    """Make every convolution of `model` wrap around horizontally (`x`) and vertically (`y`), or stop doing so.

    With both on, the picture continues seamlessly over its edges. It is configuration of the model, not of a call: set
    it before a job and set (False, False) after it.
    """
    for module in model.modules():
        if isinstance(module, Conv2d):
            module.wrap = (x, y)


@contextmanager
def kept_filters(model: nn.Module, limit: int) -> Iterator[None]:
    """Keep the transformed filters that `model` uses, up to `limit` bytes, for the length of a sampling loop.

    The weights must not change meanwhile: networks (LoRA) are applied outside of it. Results are the same bits without it.
    """
    cache = FilterCache(limit)
    convolutions = [module for module in model.modules() if isinstance(module, Conv2d)]
    before = [module.filters for module in convolutions]
    for module in convolutions:
        module.filters = cache
    try:
        yield
    finally:
        for module, filters in zip(convolutions, before, strict=True):
            module.filters = filters
        cache.clear()


def timestep_embedding(timesteps: Tensor, width: int, *, max_period: float = 10000.0) -> Tensor:
    """Sinusoids of a position: [n] -> [n, width] in float32, cosines first (Vaswani et al. 2017, as in latent diffusion).

    Args:
        timesteps: any numbers, whole or not: diffusion timesteps, or sizes in pixels for SDXL's vector condition.
        width: length of each embedding; an odd one ends in a zero.
    """
    half = width // 2
    steps = torch.arange(half, dtype=torch.float32, device=timesteps.device)
    frequencies = torch.exp(steps * (-math.log(max_period) / half))
    angles = timesteps.to(torch.float32)[:, None] * frequencies
    embedding = torch.cat([angles.cos(), angles.sin()], dim=-1)
    return F.pad(embedding, (0, 1)) if width % 2 else embedding
