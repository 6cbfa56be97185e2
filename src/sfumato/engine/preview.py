"""What the unfinished picture looks like: quickly, for watching, or faithfully, for keeping."""

from __future__ import annotations

from typing import Literal

import torch
from PIL import Image
from torch import Tensor

from sfumato.engine.autoencode import decode, to_images
from sfumato.engine.models.diffusion import DiffusionModel
from sfumato.engine.models.preview import PREVIEWS, LatentToRGB, fit_to_autoencoder
from sfumato.engine.models.taesd import TinyDecoder

Method = Literal["none", "linear", "taesd", "full"]


class Previewer:
    """Turns latents into pictures by one method.

    Args:
        method: "linear" costs nothing and has one colour for each latent cell, "taesd" needs a decoder and is nearly right,
            "full" is the autoencoder itself.
        model: whose latents they are.
        taesd: the small decoder; without one "taesd" falls back to "linear".
    """

    def __init__(self, method: Method, model: DiffusionModel, taesd: TinyDecoder | None = None) -> None:
        self.method: Method = "linear" if method == "taesd" and taesd is None else method
        self._model = model
        self._taesd = taesd
        self._linear: LatentToRGB | None = None

    @torch.inference_mode()
    def __call__(self, latents: Tensor) -> list[Image.Image]:
        """Pictures of latents [b, c, h, w] at the scale of the UNet, all at the size of the finished ones."""
        factor = self._model.spec.vae.downsampling
        size = (latents.shape[3] * factor, latents.shape[2] * factor)
        if self.method == "full":
            return to_images(decode(self._model.vae, latents))
        if self.method == "taesd" and self._taesd is not None:
            return to_images(self._taesd(latents.to(next(self._taesd.parameters()).dtype)).float())
        return [image.resize(size, Image.Resampling.BICUBIC) for image in to_images(self._colours()(latents.float().cpu()))]

    def _colours(self) -> LatentToRGB:
        """The published approximation of the family; a model of unusual shape gets one fitted to its own autoencoder."""
        if self._linear is None:
            spec = self._model.spec
            usual = spec.family in PREVIEWS and spec.vae.ch == 128 and len(spec.vae.ch_mult) == 4
            self._linear = PREVIEWS[spec.family] if usual else fit_to_autoencoder(self._model.vae)
        return self._linear
