"""CLIP's image encoder (Radford et al. 2021) under Hugging Face's module names: a vision transformer with a class token."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sfumato.engine.models.clip import CLIPAttention, CLIPLayer
from sfumato.engine.models.config import TextConfig
from sfumato.engine.models.layers import Conv2d, Embedding, LayerNorm, Linear, split_heads


@dataclass(frozen=True, slots=True)
class VisionConfig:
    """A CLIP image encoder.

    Attributes:
        size: side of the pictures in pixels.
        patch: side of a patch in pixels.
        projection_dim: width of the space that pictures and texts share.
    """

    size: int = 224
    patch: int = 14
    width: int = 1024
    layers: int = 24
    heads: int = 16
    mlp_width: int = 4096
    projection_dim: int = 768

    @property
    def patches(self) -> int:
        """How many patches a picture has."""
        return (self.size // self.patch) ** 2


def _inner(config: VisionConfig) -> TextConfig:
    """The shapes of a layer, as the text encoder's layers take them."""
    return TextConfig(width=config.width, heads=config.heads, mlp_width=config.mlp_width, layers=config.layers)


class VisionEmbeddings(nn.Module):
    """Patches, a class token before them, and positions."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.class_embedding = nn.Parameter(torch.randn(config.width) * 0.02)
        self.patch_embedding = Conv2d(3, config.width, config.patch, stride=config.patch, padding=0, bias=False)
        self.position_embedding = Embedding(config.patches + 1, config.width)

    def forward(self, pixels: Tensor) -> Tensor:
        """[b, 3, size, size] -> [b, 1 + patches, width]."""
        patches = self.patch_embedding(pixels).flatten(2).transpose(1, 2)
        first = self.class_embedding.expand(pixels.shape[0], 1, -1)
        embedded: Tensor = torch.cat([first, patches], dim=1) + self.position_embedding.weight
        return embedded


class VisionAttention(CLIPAttention):
    """Self-attention in which every patch sees every other."""

    def forward(self, x: Tensor) -> Tensor:
        """[b, n, width] -> [b, n, width]."""
        q, k, v = (split_heads(layer(x), self.heads) for layer in (self.q_proj, self.k_proj, self.v_proj))
        result: Tensor = self.out_proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return result


class VisionEncoder(nn.Module):
    """The stack of layers."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(CLIPLayer(_inner(config), VisionAttention) for _ in range(config.layers))


class VisionModel(nn.Module):
    """The part of the encoder that files keep below `vision_model.`."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.embeddings = VisionEmbeddings(config)
        self.pre_layrnorm = LayerNorm(config.width)  # the name as it is in every file
        self.encoder = VisionEncoder(config)
        self.post_layernorm = LayerNorm(config.width)


class CLIPVision(nn.Module):
    """CLIP's image encoder.

    Args:
        config: the shapes.

    Attributes:
        config: as given.
    """

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.config = config
        self.vision_model = VisionModel(config)
        self.visual_projection = Linear(config.width, config.projection_dim, bias=False)

    def hidden(self, pixels: Tensor) -> Tensor:
        """Features of the class token and of every patch, before the last norm: [b, 1 + patches, width].

        Args:
            pixels: normalised as the model was trained, [b, 3, size, size].
        """
        model = self.vision_model
        x = model.pre_layrnorm(model.embeddings(pixels))
        for layer in model.encoder.layers:
            x = layer(x)
        return x  # type: ignore[no-any-return]

    def forward(self, pixels: Tensor) -> Tensor:
        """One vector per picture in the space that it shares with texts: [b, 3, size, size] -> [b, projection_dim]."""
        pooled: Tensor = self.visual_projection(self.vision_model.post_layernorm(self.hidden(pixels)[:, 0]))
        return pooled
