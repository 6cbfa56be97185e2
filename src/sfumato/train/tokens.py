"""Captions as rows of token ids."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sfumato.engine.models.tokenizer import Tokenizer

LENGTH = 77
"""Tokens of a prompt, start and end included."""


def padded(tokenizer: Tokenizer, captions: Sequence[str], *, to_longest: bool = False) -> Tensor:
    """Ids [n, 77]: start, text as far as there is room, end, and ends again as padding (SD1).

    Args:
        to_longest: [n, longest row] instead, where padding is never looked at.
    """
    rows = [[tokenizer.bos, *tokenizer.encode(caption)[: LENGTH - 2], tokenizer.eos] for caption in captions]
    length = max(map(len, rows), default=2) if to_longest else LENGTH
    return torch.tensor([row + [tokenizer.eos] * (length - len(row)) for row in rows])
