"""What the two text encoders of this package share: their result, the activation, and the choice of hidden states."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sfumato.engine.models.config import TextConfig
from sfumato.engine.models.layers import split_heads


@dataclass(frozen=True, slots=True)
class TextOutput:
    """Features of a batch of token sequences.

    Attributes:
        hidden: [b, n, width], one vector per token: what cross-attention sees.
        pooled: [b, projection_dim], one vector per sequence, or None where the encoder has no projection.
    """

    hidden: Tensor
    pooled: Tensor | None


def activation(config: TextConfig) -> Callable[[Tensor], Tensor]:
    """The non-linearity of the feed-forward parts."""
    return _quick_gelu if config.activation == "quick_gelu" else F.gelu


def _quick_gelu(x: Tensor) -> Tensor:
    """x * sigmoid(1.702 x), the approximation of GELU that OpenAI's CLIP was trained with."""
    return torch.sigmoid(x * 1.702) * x


def causal_attention(query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
    """Multi-head attention in which a token sees itself and those before it: [b, n, width] each -> [b, n, width]."""
    q, k, v = (split_heads(t, heads) for t in (query, key, value))
    return F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)


def run_layers(layers: Sequence[nn.Module] | nn.ModuleList, x: Tensor, skip: int, *, whole: bool) -> tuple[Tensor, Tensor]:
    """Run a stack of layers and keep the hidden states `skip` counts from the end.

    Args:
        skip: 1 for the last layer's result, 2 for that of the layer before it, ...
        whole: run all layers even where fewer are enough for the chosen hidden states.

    Returns:
        the chosen hidden states, and those after the last layer that was run.

    Raises:
        ValueError: there are not that many layers.
    """
    count = len(layers)
    if not 1 <= skip <= count:
        raise ValueError(f"clip skip must be between 1 and {count} for this text encoder, not {skip}")
    chosen = x
    for number in range(count if whole else count - skip + 1):
        x = layers[number](x)
        if number == count - skip:
            chosen = x
    return chosen, x


def end_of_text(hidden: Tensor, tokens: Tensor) -> Tensor:
    """The vectors [b, width] at each sequence's first end token, which is the highest id of the vocabulary."""
    return hidden[torch.arange(hidden.shape[0], device=hidden.device), tokens.argmax(dim=-1)]
