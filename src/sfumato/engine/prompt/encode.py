"""From text to the tensors that condition the UNet."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sfumato.engine.models.config import TextEncoderSpec
from sfumato.engine.models.diffusion import DiffusionModel, TextEncoder
from sfumato.engine.models.layers import timestep_embedding
from sfumato.engine.prompt.chunks import Chunk, Chunked, Chunker, Embeddings, EmphasisMode, Tokenizer
from sfumato.errors import InvalidRequest, Unsupported

MAX_CHUNKS = 1024
"""Chunks of 75 tokens that one job may hold: far beyond any picture's need, and small enough for any machine."""


@dataclass(frozen=True, slots=True, eq=False)
class Conditioning:
    """What one text tells the UNet. Compared by identity, so that work done for one can be kept in a dictionary.

    Attributes:
        hidden: [n, d] for cross-attention; n is 77 for each chunk, d the joined width of the text encoders.
        vector: [adm] for the vector condition of SDXL and its refiner, otherwise None.
    """

    hidden: Tensor
    vector: Tensor | None


@dataclass(frozen=True, slots=True)
class Sizes:
    """SDXL's size conditions in pixels (Podell et al. 2023, 2.2).

    Attributes:
        original: (height, width) that the picture claims to have had before it was scaled for training.
        crop: (top, left) of the part that it claims to be.
        target: (height, width) of the result; the refiner has none.
    """

    original: tuple[int, int]
    target: tuple[int, int]
    crop: tuple[int, int] = (0, 0)

    @classmethod
    def plain(cls, height: int, width: int, *, crop: tuple[int, int] = (0, 0)) -> Sizes:
        """Those of a picture that was never scaled."""
        return cls((height, width), (height, width), crop)


@dataclass(frozen=True, slots=True)
class EncodeOptions:
    """How texts are encoded.

    Attributes:
        clip_skip: which hidden states are taken, counted from the last, 1 being the family's own choice. SD2, SDXL and the
            refiner have been trained for one choice and ignore it.
        sdxl_clip_skip: `clip_skip` decides for SDXL's smaller text encoder all the same.
        emphasis: "Original" multiplies a chunk's vectors by their weights and brings the chunk back to its mean, "No norm"
            only multiplies, "Ignore" reads weights without using them, "None" reads none.
        comma_backtrack: see `Chunker`.
        sizes: size conditions; None for the size that the model was trained at.
        aesthetic_score, negative_aesthetic_score: the refiner's score conditions, from 1 to 10.
    """

    clip_skip: int = 1
    sdxl_clip_skip: bool = False
    emphasis: EmphasisMode = "Original"
    comma_backtrack: int = 20
    sizes: Sizes | None = None
    aesthetic_score: float = 6.0
    negative_aesthetic_score: float = 2.5


@dataclass(frozen=True, slots=True)
class _EncodedChunk:
    """hidden: [77, d], pooled: [p] or None."""

    hidden: Tensor
    pooled: Tensor | None


class PromptEncoder:
    """Encodes texts for one job with the text encoders of a model.

    Everything is computed once: each different chunk runs through the text encoders alone, so the result does not depend on
    what else is encoded, and chunks that texts have in common are shared. Keep one for a job and drop it when weights
    change.

    Args:
        model: its text encoders must be on the device where they shall run.
        tokenizer: of the model.
        options: see `EncodeOptions`.
        embeddings: textual inversions that prompts may name.

    Raises:
        InvalidRequest: clip skip is below 1 or there are fewer layers.
    """

    def __init__(
        self,
        model: DiffusionModel,
        tokenizer: Tokenizer,
        options: EncodeOptions = EncodeOptions(),
        *,
        embeddings: Embeddings | None = None,
    ) -> None:
        self.spec = model.spec
        self.options = options
        self.chunker = Chunker(
            tokenizer, comma_backtrack=options.comma_backtrack, emphasis=options.emphasis, embeddings=embeddings
        )
        self._encoders = model.text_encoders
        self._skips = tuple(_skip(spec, options) for spec in self.spec.text)
        self._texts: dict[str, Chunked] = {}
        self._chunks: dict[Chunk, _EncodedChunk] = {}
        self._conditions: dict[tuple[str, bool, int], Conditioning] = {}

    def resized(self, sizes: Sizes) -> PromptEncoder:
        """The same encoder for other size conditions; what the text encoders have computed is shared."""
        other = copy.copy(self)
        other.options = replace(self.options, sizes=sizes)
        other._conditions = {}
        return other

    def count(self, text: str) -> tuple[int, int]:
        """Tokens of a text, and how many fit before another chunk begins.

        Raises:
            InvalidRequest: as for `encode`.
        """
        chunked = self._chunked(text)
        return chunked.count, chunked.limit

    def encode_all(self, texts: Sequence[str], *, negative: bool = False) -> list[Conditioning]:
        """Encode the texts of a timeline to equal length: one with fewer chunks than another gets empty ones.

        See `encode`.
        """
        chunks = max((len(self._chunked(text).chunks) for text in dict.fromkeys(texts)), default=1)
        return [self.encode(text, negative=negative, chunks=chunks) for text in texts]

    @torch.no_grad()
    def encode(self, text: str, *, negative: bool = False, chunks: int = 1) -> Conditioning:
        """Encode a text; the same arguments give the same object.

        Args:
            text: one text of a timeline, without `AND`, tags and comments.
            negative: it is a negative prompt: the refiner then gets its low score, and an empty text is all zeros for SDXL
                apart from the sizes.
            chunks: pad with empty chunks to at least so many.

        Raises:
            InvalidRequest: a malformed weight, an embedding for another model, or far too much text.
            Unsupported: the model's vector condition does not fit its text encoders.
        """
        negative = negative and self.spec.adm in ("sdxl", "refiner")
        key = (text, negative, chunks)
        known = self._conditions.get(key)
        if known is None:
            known = self._conditions[key] = self._condition(text, negative=negative, chunks=chunks)
        return known

    def _condition(self, text: str, *, negative: bool, chunks: int) -> Conditioning:
        texts = list(self._chunked(text).chunks)
        if len(texts) < chunks:
            texts += self._chunked("").chunks * (chunks - len(texts))
        self._refuse_too_much(sum(len(known.hidden) // len(texts[0].tokens) for known in self._conditions.values()) + len(texts))
        encoded = [self._encode_chunk(chunk) for chunk in texts]
        hidden, pooled = torch.cat([chunk.hidden for chunk in encoded]), encoded[0].pooled
        if negative and not text and self.spec.adm == "sdxl":
            hidden = torch.zeros_like(hidden)
            pooled = None if pooled is None else torch.zeros_like(pooled)
        return Conditioning(hidden, self._vector(pooled, negative=negative))

    def _chunked(self, text: str) -> Chunked:
        known = self._texts.get(text)
        if known is None:
            known = self._texts[text] = self.chunker(text)
            self._refuse_too_much(sum(len(chunked.chunks) for chunked in self._texts.values()))
        return known

    def _refuse_too_much(self, chunks: int) -> None:
        if chunks > MAX_CHUNKS:
            raise InvalidRequest(
                f"The prompts take more than {MAX_CHUNKS} chunks of 75 tokens over all steps.",
                advice="Shorten them, or let fewer of their texts change from step to step.",
            )

    def _encode_chunk(self, chunk: Chunk) -> _EncodedChunk:
        known = self._chunks.get(chunk)
        if known is not None:
            return known
        hidden: list[Tensor] = []
        pooled: Tensor | None = None
        for index, (encoder, spec) in enumerate(zip(self._encoders, self.spec.text, strict=True)):
            device = next(encoder.parameters()).device
            tokens = torch.tensor([_tokens(chunk, spec, self.chunker.tokenizer.eos)], device=device)
            rows = self._with_embeddings(chunk, index, encoder, tokens) if chunk.embeddings else None
            output = encoder(tokens, skip=self._skips[index], final_norm=spec.final_norm, embeddings=rows)
            hidden.append(self._emphasised(output.hidden[0], chunk.weights))
            if spec.pooled and output.pooled is not None:
                pooled = output.pooled[0]
        known = self._chunks[chunk] = _EncodedChunk(torch.cat(hidden, dim=-1), pooled)
        return known

    def _with_embeddings(self, chunk: Chunk, index: int, encoder: TextEncoder, tokens: Tensor) -> Tensor:
        """The token embeddings [1, 77, width] with vectors of textual inversions in their places."""
        rows = encoder.token_embeddings(tokens).clone()
        for start, embedding in chunk.embeddings:
            found = [tuple(vectors.shape[1:]) for vectors in embedding.vectors]
            wanted = [(spec.config.width,) for spec in self.spec.text]
            if found != wanted:
                raise InvalidRequest(
                    f"The vectors of the embedding {embedding.name[:100]!r} are {_widths(found)} wide, those of this model "
                    f"{_widths(wanted)}.",
                    advice="Use an embedding that was made for this family of models.",
                )
            rows[0, start : start + embedding.length] = embedding.vectors[index].to(rows)
        return rows

    def _emphasised(self, hidden: Tensor, weights: tuple[float, ...]) -> Tensor:
        """Multiply the vectors [77, width] by their weights."""
        if self.options.emphasis in ("None", "Ignore") or all(weight == 1.0 for weight in weights):
            return hidden
        exact = hidden.float()
        weighted = exact * torch.tensor(weights, dtype=torch.float32, device=hidden.device)[:, None]
        if self.options.emphasis == "Original":
            weighted = weighted * (exact.mean() / weighted.mean())
        return weighted.to(hidden.dtype)

    def _vector(self, pooled: Tensor | None, *, negative: bool) -> Tensor | None:
        """The vector condition: pooled text features, then sinusoids of each size, and of the refiner's score."""
        if self.spec.adm not in ("sdxl", "refiner"):
            return None
        sizes = self.options.sizes or Sizes.plain(self.spec.size, self.spec.size)
        numbers: list[float] = [*sizes.original, *sizes.crop]
        if self.spec.adm == "sdxl":
            numbers += sizes.target
        else:
            numbers.append(self.options.negative_aesthetic_score if negative else self.options.aesthetic_score)
        width, rest = divmod((self.spec.unet.adm_in_channels or 0) - (0 if pooled is None else len(pooled)), len(numbers))
        if pooled is None or rest or width <= 0:
            raise Unsupported(
                f"The vector condition of width {self.spec.unet.adm_in_channels} does not fit a pooled text feature of width "
                f"{None if pooled is None else len(pooled)} and {len(numbers)} numbers.",
                advice="The text encoder belongs to another model.",
            )
        features = timestep_embedding(torch.tensor(numbers, device=pooled.device), width).flatten()
        return torch.cat([pooled, features.to(pooled.dtype)])


def _skip(spec: TextEncoderSpec, options: EncodeOptions) -> int:
    """Which hidden states of an encoder are taken, counted from the last."""
    skip = options.clip_skip
    if skip < 1:
        raise InvalidRequest(f"Clip skip {skip} is too small.", advice="1 is the least, and the default.")
    forced = options.sdxl_clip_skip and not spec.skippable and spec.config.layout == "hf"
    if not forced and (skip == 1 or not spec.skippable):
        return spec.skip
    if skip > spec.config.layers:
        raise InvalidRequest(
            f"Clip skip {skip} is too large for a text encoder with {spec.config.layers} layers.",
            advice=f"Use 1 to {spec.config.layers}.",
        )
    return skip


def _tokens(chunk: Chunk, spec: TextEncoderSpec, eos: int) -> list[int]:
    """The chunk's tokens, padded in the way of the encoder."""
    tokens = list(chunk.tokens)
    if not spec.config.eos_padding:
        end = tokens.index(eos) + 1
        tokens[end:] = [0] * (len(tokens) - end)
    return tokens


def _widths(shapes: Sequence[tuple[int, ...]]) -> str:
    return " and ".join("x".join(map(str, shape)) for shape in shapes) or "0"
