"""The spatial transformer of the UNet: self-attention, cross-attention to the text, and a gated feed-forward part."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from sfumato.engine.kernels.linear import geglu
from sfumato.engine.models.attention import AttentionSite, ContextKV, Seams
from sfumato.engine.models.layers import GroupNorm, LayerNorm, Linear, TokenConv, repeat_rows, split_heads, to_image, to_tokens


class CrossAttention(nn.Module):
    """Multi-head attention from the picture's features to themselves or to the text.

    Args:
        width: channels of the picture's features.
        context_width: channels of what keys and values are made from.
        heads: number of heads; they share `width` evenly.
        kind: "self" or "cross".

    Attributes:
        site: where in the UNet this is; the UNet fills in name and index when it is assembled.
    """

    def __init__(self, width: int, context_width: int, heads: int, kind: Literal["self", "cross"]) -> None:
        super().__init__()
        self.site = AttentionSite("", kind, 0, width, context_width, heads)
        self.to_q = Linear(width, width, bias=False)
        self.to_k = Linear(context_width, width, bias=False)
        self.to_v = Linear(context_width, width, bias=False)
        self.to_out = nn.Sequential(Linear(width, width), nn.Identity())

    def keys_values(self, source: Tensor, seams: Seams) -> tuple[Tensor, Tensor]:
        """Project `source` [b, m, context_width] to keys and values, each [b, m, width]."""
        if seams.transform is None:
            return self.to_k(source), self.to_v(source)
        for_keys, for_values = seams.transform(source, self.site)
        return self.to_k(for_keys), self.to_v(for_values)

    def forward(self, x: Tensor, keys: Tensor, values: Tensor, seams: Seams) -> Tensor:
        """Attend from `x` [b, n, width] to keys and values [b, m, width] -> [b, n, width]."""
        heads = self.site.heads
        # Views only: the fused kernel reads [b, n, heads, d] through strides and writes it back in the same layout.
        query, key, value = (split_heads(t, heads) for t in (self.to_q(x), keys, values))
        attended = seams.attention(query, key, value, self.site)
        result: Tensor = self.to_out(attended.transpose(1, 2).flatten(2))
        return result


class GEGLU(nn.Module):
    """Gated linear unit with GELU (Shazeer 2020)."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.proj = Linear(width, inner * 2)

    def forward(self, x: Tensor) -> Tensor:
        """[b, n, width] -> [b, n, inner]."""
        return geglu(x, self.proj.weight, self.proj.bias)


class FeedForward(nn.Module):
    """Gated feed-forward part, four times as wide inside."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.Sequential(GEGLU(width, width * 4), nn.Identity(), Linear(width * 4, width))

    def forward(self, x: Tensor) -> Tensor:
        """[b, n, width] -> [b, n, width]."""
        result: Tensor = self.net(x)
        return result


class BasicTransformerBlock(nn.Module):
    """Self-attention, cross-attention and feed-forward part, each behind a norm and added to what came in."""

    def __init__(self, width: int, context_width: int, heads: int) -> None:
        super().__init__()
        self.attn1 = CrossAttention(width, width, heads, "self")
        self.ff = FeedForward(width)
        self.attn2 = CrossAttention(width, context_width, heads, "cross")
        self.norm1 = LayerNorm(width)
        self.norm2 = LayerNorm(width)
        self.norm3 = LayerNorm(width)

    def forward(self, x: Tensor, context: ContextKV, seams: Seams) -> Tensor:
        """[b or 1, n, width] -> [b, n, width], b being the number of conditions: here the text tells the rows apart."""
        h = self.norm1(x)
        x = self.attn1(h, *self.attn1.keys_values(h, seams), seams).add_(x)
        x = repeat_rows(x, context.batch)
        x = self.attn2(self.norm2(x), *context.pairs[self.attn2.site.index], seams).add_(x)
        fed: Tensor = self.ff(self.norm3(x))
        return fed.add_(x)


class SpatialTransformer(nn.Module):
    """Transformer blocks over the pixels of a feature map, added to it.

    Args:
        channels: of the feature map.
        depth: number of blocks.
        linear: `proj_in` and `proj_out` are 2-D weights (SD2, SDXL) rather than 1x1 convolutions (SD1).
        groups: groups of the norm.
    """

    def __init__(self, channels: int, context_width: int, heads: int, depth: int, *, linear: bool, groups: int) -> None:
        super().__init__()
        projection = Linear if linear else TokenConv
        self.norm = GroupNorm(groups, channels, eps=1e-6)
        self.proj_in = projection(channels, channels)
        self.transformer_blocks = nn.ModuleList(BasicTransformerBlock(channels, context_width, heads) for _ in range(depth))
        self.proj_out = projection(channels, channels)

    def forward(self, x: Tensor, context: ContextKV, seams: Seams) -> Tensor:
        """[b or 1, channels, h, w] -> [b, channels, h, w], b being the number of conditions."""
        tokens: Tensor = self.proj_in(to_tokens(self.norm(x)))
        for block in self.transformer_blocks:
            tokens = block(tokens, context, seams)
        return to_image(self.proj_out(tokens), *x.shape[-2:]).add_(x)
