"""CLIP's text encoder (Radford et al. 2021) under Hugging Face's module names, as SD1 and SDXL files hold it."""

from __future__ import annotations

from torch import Tensor, nn

from sfumato.engine.models.config import TextConfig
from sfumato.engine.models.layers import Embedding, LayerNorm, Linear
from sfumato.engine.models.text import TextOutput, activation, causal_attention, end_of_text, run_layers


class CLIPEmbeddings(nn.Module):
    """Token plus position embeddings."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.token_embedding = Embedding(config.vocab_size, config.width)
        self.position_embedding = Embedding(config.max_positions, config.width)


class CLIPAttention(nn.Module):
    """Causal self-attention with separate projections."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.k_proj = Linear(config.width, config.width)
        self.v_proj = Linear(config.width, config.width)
        self.q_proj = Linear(config.width, config.width)
        self.out_proj = Linear(config.width, config.width)

    def forward(self, x: Tensor) -> Tensor:
        """[b, n, width] -> [b, n, width]."""
        result: Tensor = self.out_proj(causal_attention(self.q_proj(x), self.k_proj(x), self.v_proj(x), self.heads))
        return result


class CLIPMLP(nn.Module):
    """Feed-forward part."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.activation = activation(config)
        self.fc1 = Linear(config.width, config.mlp_width)
        self.fc2 = Linear(config.mlp_width, config.width)

    def forward(self, x: Tensor) -> Tensor:
        """[b, n, width] -> [b, n, width]."""
        result: Tensor = self.fc2(self.activation(self.fc1(x)))
        return result


class CLIPLayer(nn.Module):
    """Attention and feed-forward part, each behind a norm and added to what came in.

    Args:
        config: the shapes.
        attention: what looks at what; tokens at those before them by default.
    """

    def __init__(self, config: TextConfig, attention: type[CLIPAttention] = CLIPAttention) -> None:
        super().__init__()
        self.self_attn = attention(config)
        self.layer_norm1 = LayerNorm(config.width)
        self.mlp = CLIPMLP(config)
        self.layer_norm2 = LayerNorm(config.width)

    def forward(self, x: Tensor) -> Tensor:
        """[b, n, width] -> [b, n, width]."""
        x = x + self.self_attn(self.layer_norm1(x))
        fed: Tensor = self.mlp(self.layer_norm2(x))
        return x + fed


class CLIPEncoder(nn.Module):
    """The stack of layers."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(CLIPLayer(config) for _ in range(config.layers))


class CLIPTextModel(nn.Module):
    """The part of the encoder that files keep below `text_model.`."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.embeddings = CLIPEmbeddings(config)
        self.encoder = CLIPEncoder(config)
        self.final_layer_norm = LayerNorm(config.width)


class CLIPText(nn.Module):
    """CLIP's text encoder.

    Args:
        config: the shapes; `layout` is "hf".

    Attributes:
        config: as given.
    """

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.config = config
        self.text_model = CLIPTextModel(config)
        self.text_projection = Linear(config.width, config.projection_dim, bias=False) if config.projection_dim else None

    def token_embeddings(self, tokens: Tensor) -> Tensor:
        """Rows of the token table for ids [b, n] -> [b, n, width], before positions are added."""
        rows: Tensor = self.text_model.embeddings.token_embedding(tokens)
        return rows

    def forward(self, tokens: Tensor, *, skip: int = 1, final_norm: bool = True, embeddings: Tensor | None = None) -> TextOutput:
        """Encode token sequences.

        Args:
            tokens: ids [b, n] with start and end tokens, n at most `max_positions`.
            skip: which hidden states to give: 1 for those of the last layer, 2 for those of the one before, ...
            final_norm: apply the final norm to the hidden states.
            embeddings: [b, n, width] in place of `token_embeddings(tokens)`, for textual inversion.

        Raises:
            ValueError: `skip` is not between 1 and the number of layers.
        """
        model = self.text_model
        x = self.token_embeddings(tokens) if embeddings is None else embeddings
        x = x + model.embeddings.position_embedding.weight[: tokens.shape[1]]
        hidden, last = run_layers(model.encoder.layers, x, skip, whole=self.text_projection is not None)
        pooled = None
        if self.text_projection is not None:
            pooled = self.text_projection(model.final_layer_norm(end_of_text(last, tokens)))
        return TextOutput(model.final_layer_norm(hidden) if final_norm else hidden, pooled)
