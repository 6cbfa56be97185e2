"""Latents of a limited number of samples, made once and kept in a file, so that learning from them again costs no encoding."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sfumato.engine.models.vae import AutoencoderKL
from sfumato.errors import DiskFull
from sfumato.train.target import Batch, Source


def encoded(vae: AutoencoderKL, pixels: Tensor) -> Tensor:
    """The scaled means of the latents of pictures [n, 3, h, w] in -1..1."""
    with torch.no_grad():
        return vae.to_latents(vae.encode(pixels).mean)


class KeptLatents:
    """A source that repeats the first `keep` samples of another one, as latents.

    A row of zeros in the file is one that has not been made yet. The file's name tells the autoencoder and the pictures it
    was made with, so that another run does not read it by mistake.

    Args:
        source: of pictures.
        folder: of the file.
        keep: how many samples are repeated.
        size: side of the pictures.
        pictures: what else decides how they look.

    Raises:
        DiskFull: the file does not fit.
    """

    def __init__(self, source: Source, vae: AutoencoderKL, folder: Path, keep: int, size: int, pictures: str) -> None:
        self._source, self._vae, self._keep = source, vae, keep
        side = size // vae.config.downsampling
        shape = (keep, vae.config.embed_dim, side, side)
        path = folder / f"latents-{_fingerprint(vae, f'{pictures} {size}')}.f16"
        _reserve(path, 2 * int(np.prod(shape)))
        self._rows: NDArray[np.float16] = np.memmap(path, dtype=np.float16, mode="r+", shape=shape)

    def batch(self, indices: Sequence[int]) -> Batch:
        """The samples with these numbers; their captions, and latents in place of pixels."""
        rows = [index % self._keep for index in indices]
        missing = list(dict.fromkeys(row for row in rows if not self._rows[row].any()))
        device = self._vae.quant_conv.weight.device
        if missing:
            latents = encoded(self._vae, self._source.batch(missing).pixels)
            self._rows[missing] = latents.to("cpu", torch.float16).numpy()
        kept = torch.from_numpy(self._rows[rows]).float().to(device)
        return Batch(tuple(indices), kept.new_empty(len(rows), 0), self._source.captions(rows), kept)

    def captions(self, indices: Sequence[int]) -> tuple[str, ...]:
        """Captions of samples."""
        return self._source.captions([index % self._keep for index in indices])


def _fingerprint(vae: AutoencoderKL, pictures: str) -> str:
    digest = hashlib.sha256(pictures.encode())
    for name, weight in vae.state_dict().items():
        digest.update(name.encode())
        digest.update(weight.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]


def _reserve(path: Path, size: int) -> None:
    """Make room for the file now: writing to a mapped file without room would end the process."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(descriptor, 0, size)
        else:
            os.ftruncate(descriptor, size)
    except OSError as error:
        path.unlink()
        raise DiskFull(
            f"The latents to be kept need {size >> 20} MiB, which are not free in {path.parent}.",
            advice="Make room, or set a smaller data.keep.",
        ) from error
    finally:
        os.close(descriptor)
