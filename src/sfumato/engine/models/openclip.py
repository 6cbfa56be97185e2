"""CLIP's text encoder under OpenCLIP's module names, as SD2 (ViT-H) and SDXL (ViT-bigG) files hold it."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sfumato.engine.models.config import TextConfig
from sfumato.engine.models.layers import Embedding, LayerNorm, Linear
from sfumato.engine.models.text import TextOutput, activation, causal_attention, end_of_text, run_layers


class OpenCLIPAttention(nn.Module):
    """Causal self-attention whose three projections are one stacked weight, rows in the order query, key, value."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * config.width, config.width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * config.width))
        self.out_proj = Linear(config.width, config.width)
        _initialise(self.in_proj_weight, config.width**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        """[b, n, width] -> [b, n, width]."""
        query, key, value = F.linear(x, self.in_proj_weight, self.in_proj_bias).chunk(3, dim=-1)
        result: Tensor = self.out_proj(causal_attention(query, key, value, self.heads))
        return result


class OpenCLIPMLP(nn.Module):
    """Feed-forward part."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.activation = activation(config)
        self.c_fc = Linear(config.width, config.mlp_width)
        self.c_proj = Linear(config.mlp_width, config.width)

    def forward(self, x: Tensor) -> Tensor:
        """[b, n, width] -> [b, n, width]."""
        result: Tensor = self.c_proj(self.activation(self.c_fc(x)))
        return result


class OpenCLIPBlock(nn.Module):
    """Attention and feed-forward part, each behind a norm and added to what came in."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.ln_1 = LayerNorm(config.width)
        self.attn = OpenCLIPAttention(config)
        self.ln_2 = LayerNorm(config.width)
        self.mlp = OpenCLIPMLP(config)

    def forward(self, x: Tensor) -> Tensor:
        """[b, n, width] -> [b, n, width]."""
        x = x + self.attn(self.ln_1(x))
        fed: Tensor = self.mlp(self.ln_2(x))
        return x + fed


class OpenCLIPTransformer(nn.Module):
    """The stack of blocks."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(OpenCLIPBlock(config) for _ in range(config.layers))


class OpenCLIPText(nn.Module):
    """OpenCLIP's text encoder.

    Args:
        config: the shapes; `layout` is "open_clip".

    Attributes:
        config: as given.
        logit_scale: the temperature of contrastive training; the encoder does not use it, but files hold it.
    """

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.config = config
        self.positional_embedding = nn.Parameter(torch.empty(config.max_positions, config.width))
        self.token_embedding = Embedding(config.vocab_size, config.width)
        self.transformer = OpenCLIPTransformer(config)
        self.ln_final = LayerNorm(config.width)
        self.text_projection: nn.Parameter | None = None
        if config.projection_dim:
            self.text_projection = nn.Parameter(torch.empty(config.width, config.projection_dim))
            _initialise(self.text_projection, config.width**-0.5)
        self.logit_scale = nn.Parameter(torch.full((), math.log(1 / 0.07)))
        _initialise(self.positional_embedding, 0.01)

    def token_embeddings(self, tokens: Tensor) -> Tensor:
        """Rows of the token table for ids [b, n] -> [b, n, width], before positions are added."""
        rows: Tensor = self.token_embedding(tokens)
        return rows

    def forward(self, tokens: Tensor, *, skip: int = 1, final_norm: bool = True, embeddings: Tensor | None = None) -> TextOutput:
        """Encode token sequences; arguments, result and errors as for `CLIPText.forward`."""
        x = self.token_embeddings(tokens) if embeddings is None else embeddings
        x = x + self.positional_embedding[: tokens.shape[1]]
        hidden, last = run_layers(self.transformer.resblocks, x, skip, whole=self.text_projection is not None)
        pooled = None
        if self.text_projection is not None:
            pooled = self.ln_final(end_of_text(last, tokens)) @ self.text_projection
        return TextOutput(self.ln_final(hidden) if final_norm else hidden, pooled)


def _initialise(parameter: nn.Parameter, deviation: float) -> None:
    """Fill with normal random numbers, unless the parameter has no storage."""
    if not parameter.is_meta:
        nn.init.normal_(parameter, std=deviation)
