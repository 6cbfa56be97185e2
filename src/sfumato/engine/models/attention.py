"""Attention functions and the three seams through which other features act on the UNet.

Nothing outside the models reaches into a module. Whoever wants to change what a network does passes a `Seams`:

* `attention`: the function that turns queries, keys and values into the result. IP-Adapter (a second, decoupled
  attention), token merging, regional prompts and attention maps for guidance wrap this one.
* `transform`: what the keys and the values are made from (hypernetworks).
* `residuals`: feature maps to add (ControlNet, T2I-Adapter).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True, slots=True)
class AttentionSite:
    """Where in the network an attention is computed.

    Attributes:
        name: path of the module inside the UNet: "input_blocks.1.1.transformer_blocks.0.attn2".
        kind: "self" where queries, keys and values come from the picture, "cross" where keys and values come from the text.
        index: number of the site among those of its kind, in the order of the forward pass.
        width: channels of the picture's features here.
        context_width: channels of what keys and values are made from.
        heads: number of heads.
    """

    name: str
    kind: Literal["self", "cross"]
    index: int
    width: int
    context_width: int
    heads: int


AttentionFunction = Callable[[Tensor, Tensor, Tensor, AttentionSite], Tensor]
"""(query [b, heads, n, d], key [b, heads, m, d], value [b, heads, m, d], site) -> [b, heads, n, d]."""

ContextTransform = Callable[[Tensor, AttentionSite], tuple[Tensor, Tensor]]
"""(source [b, m, context_width], site) -> what to project keys from, and what to project values from."""


def flash_attention(query: Tensor, key: Tensor, value: Tensor, site: AttentionSite | None = None) -> Tensor:
    """PyTorch's fused attention: never holds the [n, m] matrix of scores. See `AttentionFunction` for shapes."""
    return F.scaled_dot_product_attention(query, key, value)


def chunked_attention(budget: int) -> AttentionFunction:
    """Attention that computes its scores in pieces, for devices without a fused kernel and little memory.

    Args:
        budget: bytes that one piece of the score matrix may take; at least one row of queries is always computed.

    Returns:
        an attention function with the result of `flash_attention` up to rounding.
    """

    def attention(query: Tensor, key: Tensor, value: Tensor, site: AttentionSite | None = None) -> Tensor:
        batch, heads, rows, _ = query.shape
        row_bytes = batch * heads * key.shape[2] * query.element_size()
        step = max(1, min(rows, budget // max(row_bytes, 1)))
        scaled_keys = (key * query.shape[-1] ** -0.5).transpose(-1, -2)
        # Laid out as the fused kernel does it, so that joining the heads afterwards is a view.
        result = query.new_empty(batch, rows, heads, value.shape[-1]).transpose(1, 2)
        for start in range(0, rows, step):
            scores = query[:, :, start : start + step] @ scaled_keys
            result[:, :, start : start + step] = scores.softmax(dim=-1) @ value
        return result

    return attention


@dataclass(frozen=True, slots=True)
class Residuals:
    """Feature maps to add inside the UNet; each [b or 1, c, h, w] like the map it is added to.

    Attributes:
        skips: one per input block, or None: added to what the decoder receives from that block (ControlNet).
        middle: added to the result of the middle block (ControlNet).
        inputs: input block -> map added to its result, which the encoder then continues with (T2I-Adapter).
    """

    skips: Sequence[Tensor | None] = ()
    middle: Tensor | None = None
    inputs: Mapping[int, Tensor] = field(default_factory=dict)

    def skip(self, block: int) -> Tensor | None:
        """What is added to the skip connection of input block `block`, if anything."""
        return self.skips[block] if block < len(self.skips) else None


@dataclass(frozen=True, slots=True)
class Seams:
    """Everything from outside that takes part in a forward pass of the UNet; see the module's text."""

    attention: AttentionFunction = flash_attention
    transform: ContextTransform | None = None
    residuals: Residuals = field(default_factory=Residuals)


@dataclass(frozen=True, slots=True)
class ContextKV:
    """Keys and values of every cross-attention, computed once per job by `UNet.project_context`.

    Attributes:
        pairs: (keys, values) by `AttentionSite.index`; each [b, m, width of the site].
    """

    pairs: tuple[tuple[Tensor, Tensor], ...]

    @property
    def batch(self) -> int:
        """How many conditions are held."""
        return self.pairs[0][0].shape[0] if self.pairs else 0

    def expand(self, batch: int) -> ContextKV:
        """A view with the single condition held repeated `batch` times."""
        return ContextKV(tuple((k.expand(batch, -1, -1), v.expand(batch, -1, -1)) for k, v in self.pairs))

    def select(self, rows: slice | Sequence[int]) -> ContextKV:
        """The conditions of these rows of the batch."""
        chosen = rows if isinstance(rows, slice) else list(rows)
        return ContextKV(tuple((k[chosen], v[chosen]) for k, v in self.pairs))

    @staticmethod
    def concatenate(parts: Sequence[ContextKV]) -> ContextKV:
        """The conditions of all parts in one batch; all must have equally many tokens."""
        return ContextKV(
            tuple(
                (torch.cat([k for k, _ in site]), torch.cat([v for _, v in site]))
                for site in zip(*(part.pairs for part in parts), strict=True)
            )
        )
