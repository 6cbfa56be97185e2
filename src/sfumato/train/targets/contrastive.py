"""CLIP: a text and an image encoder that learn to find each other (Radford et al. 2021), with hard negatives."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sfumato.engine.checkpoint.safetensors import read_safetensors
from sfumato.engine.checkpoint.table import GivenTensor
from sfumato.engine.checkpoint.writer import write_safetensors
from sfumato.engine.models.clip import CLIPText
from sfumato.engine.models.layers import Linear
from sfumato.engine.models.text import end_of_text
from sfumato.engine.models.tokenizer import Tokenizer
from sfumato.engine.models.vision import CLIPVision
from sfumato.errors import InvalidRequest
from sfumato.train.data import source_of
from sfumato.train.recipe import Recipe
from sfumato.train.starter.architecture import architectures, small_embeddings
from sfumato.train.starter.dice import Dice
from sfumato.train.starter.negatives import hard_negative
from sfumato.train.target import Batch, Loss, Sheet, Source, seeded, targets
from sfumato.train.tokens import padded

_HARDEST = math.log(100.0)
"""The largest logarithm of the scale, as in the paper."""
_NEGATIVES = 0x4E454741
_COMPARED = 256


class CLIP(nn.Module):
    """Both encoders under the names that Hugging Face's `CLIPModel` gives them."""

    def __init__(self, architecture: str) -> None:
        super().__init__()
        chosen = architectures[architecture]
        text, vision = CLIPText(chosen.spec.text[0].config), CLIPVision(chosen.vision)
        self.text_model, self.vision_model = text.text_model, vision.vision_model
        self.visual_projection = vision.visual_projection
        self.text_projection = Linear(text.config.width, chosen.vision.projection_dim, bias=False)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        self.size = chosen.vision.size
        # The whole encoders share these modules; tuples keep them from being listed twice.
        self._parts = (text, vision)

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Ids [b, n] -> directions [b, projection_dim]."""
        return F.normalize(self.text_projection(end_of_text(self._parts[0](tokens).hidden, tokens)), dim=-1)

    def encode_image(self, pixels: Tensor) -> Tensor:
        """Pictures [b, 3, size, size] in -1..1 -> directions [b, projection_dim]."""
        return F.normalize(self._parts[1](pixels), dim=-1)


class Contrastive:
    """Learns which caption belongs to which picture of a batch, and which of two captions that are nearly the same.

    Raises:
        InvalidRequest: the pictures have another size than the image encoder's.
    """

    def __init__(self, recipe: Recipe, device: torch.device) -> None:
        self.recipe, self.device = recipe, device
        with seeded(recipe.seed):
            self.clip = CLIP(recipe.architecture)
            small_embeddings(self.clip)
        if recipe.start:
            self.clip.load_state_dict({name: tensor.read() for name, tensor in read_safetensors(recipe.start).items()})
        self.clip.to(device)
        if recipe.data.size != self.clip.size:
            raise InvalidRequest(
                f"data.size is {recipe.data.size}, but the image encoder of {recipe.architecture!r} sees {self.clip.size}.",
                advice=f"Set data.size to {self.clip.size}.",
            )
        self._first = self._table.detach().clone()
        self._tokenizer = Tokenizer()
        self._held = source_of(recipe.data, recipe.seed, device, held_out=True)

    @property
    def weights(self) -> Mapping[str, nn.Parameter]:
        """All of both encoders."""
        return dict(self.clip.named_parameters())

    @property
    def _table(self) -> Tensor:
        table: Tensor = self.clip.text_model.embeddings.token_embedding.weight
        return table

    def tokens(self, captions: Sequence[str]) -> Tensor:
        """Ids [n, longest]; captions end with one end token at least."""
        return padded(self._tokenizer, captions, to_longest=True).to(self.device)

    def prepared(self, source: Source, folder: Path) -> Source:
        """The source as it is."""
        return source

    def loss(self, batch: Batch, seed: int) -> Loss:
        """Cross-entropy of pictures over captions, true and made wrong, and of captions over pictures."""
        rows = [i for i, caption in enumerate(batch.captions) if caption]
        captions = [batch.captions[i] for i in rows]
        wrong = [hard_negative(text, Dice(seed, batch.indices[i], _NEGATIVES)) for i, text in zip(rows, captions, strict=True)]
        texts = self.clip.encode_text(self.tokens([*captions, *(text for text in wrong if text is not None)]))
        images = self.clip.encode_image(batch.pixels[rows])
        scale = self.clip.logit_scale.clamp(max=_HARDEST).exp()
        logits = scale * images @ texts.t()
        count = len(rows)
        truth = torch.arange(count, device=self.device)
        pairs = logits[:, :count].masked_fill(_same_words(captions).to(self.device), -torch.inf)
        both = torch.cat([pairs, logits[:, count:]], dim=1)
        total = 0.5 * (F.cross_entropy(both, truth) + F.cross_entropy(pairs.t(), truth))
        hit = (pairs.argmax(1) == truth).float().mean()
        return Loss(total, {"hit": hit.detach(), "scale": scale.detach()})

    @torch.no_grad()
    def sheet(self) -> Sheet:
        """How often the right one of 256 captions is found, and preferred to one made wrong."""
        batches = [self._held.batch(range(first, first + 64)) for first in range(0, _COMPARED + 64, 64)]
        found: dict[str, tuple[Tensor, int]] = {}
        for batch in batches:
            for caption, picture, number in zip(batch.captions, batch.pixels, batch.indices, strict=True):
                if caption:
                    found.setdefault(caption, (picture, number))
        chosen = list(found)[:_COMPARED]
        images = torch.cat([self.clip.encode_image(part) for part in torch.split(torch.stack([found[c][0] for c in chosen]), 64)])
        texts = self.clip.encode_text(self.tokens(chosen))
        similar = images @ texts.t()
        recall = (similar.argmax(1) == torch.arange(len(chosen), device=self.device)).float().mean()
        wrong = [hard_negative(text, Dice(0, found[text][1], _NEGATIVES)) for text in chosen]
        rows = [i for i, text in enumerate(wrong) if text is not None]
        others = self.clip.encode_text(self.tokens([text for text in wrong if text is not None]))
        preferred = similar.diagonal()[rows] > (images[rows] * others).sum(1)
        return Sheet(None, {"recall": float(recall), "swap": float(preferred.float().mean())})

    @torch.no_grad()
    def save(self, path: Path) -> None:
        """Write both encoders; rows of words that were never seen become zero, so that such words say nothing."""
        state = dict(self.clip.state_dict())
        name = "text_model.embeddings.token_embedding.weight"
        unseen = (state[name] == self._first).all(dim=1)
        state[name] = state[name].masked_fill(unseen[:, None], 0.0)
        write_safetensors(path, {key: GivenTensor(value) for key, value in state.items()}, metadata={"format": "pt"})


def _same_words(captions: Sequence[str]) -> Tensor:
    """Where another row has the same caption: it is as right as the own one, so it must not count as wrong."""
    numbers = {caption: number for number, caption in enumerate(captions)}
    ids = torch.tensor([numbers[caption] for caption in captions])
    same = ids[:, None] == ids[None, :]
    return same.fill_diagonal_(False)


targets.add("contrastive", Contrastive, "clip")
