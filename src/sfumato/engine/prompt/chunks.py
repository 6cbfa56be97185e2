"""From weighted text to chunks of 75 tokens, the longest text that CLIP reads at once."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from sfumato.engine.prompt.attention import BREAK, parse_attention
from sfumato.errors import InvalidRequest

if TYPE_CHECKING:
    from torch import Tensor

EmphasisMode = Literal["Original", "No norm", "Ignore", "None"]
"""What weights do; "None" also takes brackets and BREAK as plain text."""

CHUNK_SIZE = 75
"""Tokens of a chunk, without those that begin and end it."""


class Tokenizer(Protocol):
    """What is needed of a tokenizer."""

    @property
    def bos(self) -> int:
        """The token that begins a chunk."""

    @property
    def eos(self) -> int:
        """The token that ends a chunk and pads it."""

    def encode(self, text: str) -> list[int]:
        """The tokens of a text, without begin and end."""


@dataclass(frozen=True, slots=True, eq=False)
class Embedding:
    """A textual inversion (Gal et al. 2022): vectors that take the place of a word.

    Attributes:
        name: the word, which may be several.
        tokens: the tokens that the word consists of, at least one.
        vectors: for each text encoder of the model a tensor [n, width]; n, at most 75, is the same for all of them.

    Raises:
        InvalidRequest: no tokens or vectors, or too many vectors.
    """

    name: str
    tokens: tuple[int, ...]
    vectors: tuple[Tensor, ...]

    def __post_init__(self) -> None:
        lengths = {int(vectors.shape[0]) for vectors in self.vectors}
        if not self.tokens or len(lengths) != 1 or not 0 < max(lengths) <= CHUNK_SIZE:
            raise InvalidRequest(
                f"The embedding {self.name[:100]!r} has {len(self.tokens)} tokens and {sorted(lengths)} vectors.",
                advice=f"An embedding has a name and 1 to {CHUNK_SIZE} vectors, equally many for every text encoder.",
            )

    @property
    def length(self) -> int:
        """Number of vectors, which is the number of tokens it takes the room of."""
        return int(self.vectors[0].shape[0])


class Embeddings(Protocol):
    """Looks embeddings up."""

    def find(self, tokens: Sequence[int], position: int) -> Embedding | None:
        """The embedding whose name has the longest match with the tokens at a position."""


class EmbeddingTable:
    """Embeddings by the tokens of their names; without any it is the empty lookup."""

    def __init__(self, embeddings: Iterable[Embedding] = ()) -> None:
        self._by_first: dict[int, list[Embedding]] = {}
        for embedding in sorted(embeddings, key=lambda item: len(item.tokens), reverse=True):
            self._by_first.setdefault(embedding.tokens[0], []).append(embedding)

    def find(self, tokens: Sequence[int], position: int) -> Embedding | None:
        """The embedding whose name has the longest match with the tokens at a position."""
        for embedding in self._by_first.get(tokens[position], ()):
            if tuple(tokens[position : position + len(embedding.tokens)]) == embedding.tokens:
                return embedding
        return None


@dataclass(frozen=True, slots=True)
class Chunk:
    """77 tokens with their weights.

    Attributes:
        tokens: begin, up to 75 tokens, and end tokens to the length of 77; 0 where an embedding stands.
        weights: one for each token; 1 for begin, end and padding.
        embeddings: (index of the first token that it replaces, embedding).
    """

    tokens: tuple[int, ...]
    weights: tuple[float, ...]
    embeddings: tuple[tuple[int, Embedding], ...] = ()


@dataclass(frozen=True, slots=True)
class Chunked:
    """A text as chunks, at least one.

    Attributes:
        chunks: in order.
        count: tokens that it takes; chunks before the last count as full.
    """

    chunks: tuple[Chunk, ...]
    count: int

    @property
    def limit(self) -> int:
        """Tokens that fit before another chunk begins."""
        return max(1, -(-self.count // CHUNK_SIZE)) * CHUNK_SIZE


class Chunker:
    """Cuts texts into chunks.

    Args:
        tokenizer: of the model.
        comma_backtrack: when a chunk is full, what follows its last comma moves to the next one if that is, with the comma,
            at most so many tokens; 0 cuts anywhere.
        emphasis: "None" reads no emphasis and no BREAK.
        embeddings: words that stand for vectors.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        comma_backtrack: int = 20,
        emphasis: EmphasisMode = "Original",
        embeddings: Embeddings | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        self.comma_backtrack = comma_backtrack
        self.emphasis = emphasis
        self.embeddings: Embeddings = embeddings or EmbeddingTable()
        self.comma = tokenizer.encode(",")[0]

    def __call__(self, text: str) -> Chunked:
        """Cut a text; linear in its length.

        Raises:
            InvalidRequest: see `parse_attention`; or emphasis nested so deep that the weight leaves the numbers.
        """
        filling = _Filling(self)
        for piece, weight in [(text, 1.0)] if self.emphasis == "None" else parse_attention(text):
            if not math.isfinite(weight):
                raise InvalidRequest("The emphasis in the prompt is nested too deep.", advice="Write the weight as (word:1.3).")
            if piece == BREAK and weight == -1:
                filling.finish()
            else:
                filling.add(self.tokenizer.encode(piece), weight)
        count = len(filling.chunks) * CHUNK_SIZE
        if filling.tokens or not filling.chunks:
            count += len(filling.tokens)
            filling.finish()
        return Chunked(tuple(filling.chunks), count)


class _Filling:
    """The finished chunks and the one being filled."""

    def __init__(self, chunker: Chunker) -> None:
        self.chunker = chunker
        self.chunks: list[Chunk] = []
        self.begin()

    def begin(self) -> None:
        self.tokens: list[int] = []
        self.weights: list[float] = []
        self.embeddings: list[tuple[int, Embedding]] = []
        self.after_comma = 0

    def add(self, tokens: list[int], weight: float) -> None:
        """Append the tokens of a piece of text."""
        position = 0
        while position < len(tokens):
            token = tokens[position]
            embedding = self.chunker.embeddings.find(tokens, position)
            if len(self.tokens) == CHUNK_SIZE:
                if token == self.chunker.comma:
                    self.finish()
                else:
                    self.overflow()
            if embedding is None:
                self.tokens.append(token)
                self.weights.append(weight)
                if token == self.chunker.comma:
                    self.after_comma = len(self.tokens)
                position += 1
            else:
                self.put(embedding, weight)
                position += len(embedding.tokens)

    def put(self, embedding: Embedding, weight: float) -> None:
        """Append an embedding, in the next chunk if it does not fit into this one."""
        if len(self.tokens) + embedding.length > CHUNK_SIZE:
            self.finish()
        self.embeddings.append((len(self.tokens) + 1, embedding))
        self.tokens += [0] * embedding.length
        self.weights += [weight] * embedding.length

    def overflow(self) -> None:
        """Finish a full chunk, and take what follows its last comma along if that is little."""
        cut = self.after_comma
        if not cut or len(self.tokens) - cut >= self.chunker.comma_backtrack:
            self.finish()
            return
        tokens, weights = self.tokens[cut:], self.weights[cut:]
        moved = [(index - cut, embedding) for index, embedding in self.embeddings if index > cut]
        self.embeddings = [(index, embedding) for index, embedding in self.embeddings if index <= cut]
        del self.tokens[cut:], self.weights[cut:]
        self.finish()
        self.tokens, self.weights, self.embeddings = tokens, weights, moved

    def finish(self) -> None:
        """Pad the chunk and begin the next."""
        padding = CHUNK_SIZE - len(self.tokens)
        bos, eos = self.chunker.tokenizer.bos, self.chunker.tokenizer.eos
        tokens = (bos, *self.tokens, *[eos] * (padding + 1))
        weights = (1.0, *self.weights, *[1.0] * (padding + 1))
        self.chunks.append(Chunk(tokens, weights, tuple(self.embeddings)))
        self.begin()
