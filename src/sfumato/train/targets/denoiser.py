"""The UNet, which learns to predict the noise in latents, alone or with its text encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from sfumato.engine.checkpoint.save import save
from sfumato.engine.models.clip import CLIPText
from sfumato.engine.models.tokenizer import Tokenizer
from sfumato.engine.pipeline import generate
from sfumato.engine.sampling.prediction import Prediction
from sfumato.engine.sampling.samplers import resolve
from sfumato.errors import InvalidRequest, Unsupported
from sfumato.request import Txt2Img
from sfumato.train.data import source_of
from sfumato.train.latents import KeptLatents, encoded
from sfumato.train.recipe import Recipe
from sfumato.train.target import Batch, Loss, Sheet, Source, draw, targets, uniform
from sfumato.train.targets.base import model_of, trainable
from sfumato.train.tokens import padded

_HELD = 64
"""Samples that training does not see, on which its progress is measured."""


class Denoiser:
    """The UNet of an SD1-like model.

    Loss: mean squared error of the predicted noise (or velocity), weighted by min-SNR where the recipe asks for it.

    Raises:
        InvalidRequest: the recipe asks for pictures of several sizes.
        NotFound: there is no such sampler.
        Unsupported: the model has another kind of text encoder or condition.
    """

    def __init__(self, recipe: Recipe, device: torch.device) -> None:
        self.recipe, self.device = recipe, device
        if not isinstance(recipe.data.size, int):
            raise InvalidRequest("data.size must be one size for this target.", advice="Train at one size after the other.")
        self._size = recipe.data.size
        self._requests = [self._request(prompt) for prompt in recipe.sheet.prompts]
        self.model = model_of(recipe, device)
        spec = self.model.spec
        if len(self.model.text_encoders) != 1 or not isinstance(self.model.text_encoders[0], CLIPText) or spec.variant != "base":
            raise Unsupported("This target trains models in SD1's layout only.", advice="Choose an SD1 model as `start`.")
        self._text = self.model.text_encoders[0]
        modules: list[tuple[str, nn.Module]] = [("model.diffusion_model", self.model.unet)]
        if recipe.objective.train_text:
            modules.append((spec.text[0].prefix.rstrip("."), self._text))
        self._weights = trainable(modules)
        self._tokenizer = Tokenizer()
        sigmas = torch.as_tensor(Prediction.of(spec).levels.sigmas, dtype=torch.float32)
        self._alphas = (1.0 / (1.0 + sigmas**2)).to(device)
        self._held = source_of(recipe.data, recipe.seed, device, held_out=True)

    @property
    def weights(self) -> Mapping[str, nn.Parameter]:
        """The UNet's, and the text encoder's where it learns."""
        return self._weights

    def prepared(self, source: Source, folder: Path) -> Source:
        """The source, as kept latents where the recipe limits its samples."""
        data = self.recipe.data
        if not data.keep:
            return source
        pictures = f"{data.folder or data.mix} {self.recipe.seed if data.seed is None else data.seed} {data.pictograms}"
        return KeptLatents(source, self.model.vae, folder, data.keep, self._size, pictures)

    def loss(self, batch: Batch, seed: int) -> Loss:
        """Error at one noise level per sample."""
        error, alpha = self._error(batch, seed, self.recipe.objective.caption_dropout)
        return Loss((error * self._importance(alpha)).mean(), {"error": error.detach().mean()})

    def _error(self, batch: Batch, seed: int, dropout: float) -> tuple[Tensor, Tensor]:
        """Squared error and alpha of each sample, [n] both."""
        chosen = self.recipe.objective
        latents = encoded(self.model.vae, batch.pixels) if batch.latents is None else batch.latents
        noise = draw(latents.shape[1:], seed, batch.indices, latents.device, salt=3)
        if chosen.offset_noise:
            noise = noise + chosen.offset_noise * draw((latents.shape[1], 1, 1), seed, batch.indices, latents.device, salt=4)
        levels = len(self._alphas)
        times = torch.tensor([int(u * levels) for u in uniform(seed, batch.indices, salt=5)], device=latents.device)
        alpha = self._alphas[times][:, None, None, None]
        noisy = alpha.sqrt() * latents + (1.0 - alpha).sqrt() * noise
        dropped = uniform(seed, batch.indices, salt=6)
        captions = ["" if drop < dropout else text for drop, text in zip(dropped, batch.captions, strict=True)]
        predicted = self.model.unet(noisy, times.to(latents.dtype), self.context(captions))
        velocity = self.model.spec.prediction == "v"
        wanted = alpha.sqrt() * noise - (1.0 - alpha).sqrt() * latents if velocity else noise
        return (predicted.float() - wanted).square().mean(dim=(1, 2, 3)), alpha.flatten()

    def _importance(self, alpha: Tensor) -> Tensor:
        """Min-SNR weights (Hang et al. 2023), 1 without."""
        gamma = self.recipe.objective.min_snr
        if not gamma:
            return torch.ones_like(alpha)
        snr = (alpha / (1.0 - alpha)).clamp(min=1e-8)
        capped = snr.clamp(max=gamma)
        return capped / (snr + 1.0) if self.model.spec.prediction == "v" else capped / snr

    def context(self, captions: Sequence[str]) -> Tensor:
        """What cross-attention sees, [n, 77, width]."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.recipe.objective.train_text):
            hidden: Tensor = self._text(padded(self._tokenizer, captions).to(self.device)).hidden
        return hidden

    def sheet(self) -> Sheet:
        """A picture per prompt of the recipe, made as any other picture is; and the error on samples kept for this."""
        with torch.no_grad():
            numbers = [range(first, first + 16) for first in range(0, _HELD, 16)]
            errors = [self._error(self._held.batch(some), self.recipe.seed, 0.0)[0] for some in numbers]
        pictures = [self._picture(request) for request in self._requests]
        return Sheet(torch.stack(pictures) if pictures else None, {"held_error": float(torch.cat(errors).mean())})

    def _request(self, prompt: str) -> Txt2Img:
        chosen = self.recipe.sheet
        sampler, scheduler = resolve(chosen.sampler, "Automatic")
        return Txt2Img(
            prompt=prompt,
            seed=chosen.seed,
            steps=chosen.steps,
            cfg_scale=chosen.guidance,
            sampler=sampler,
            scheduler=scheduler,
            width=self._size,
            height=self._size,
        )

    def _picture(self, request: Txt2Img) -> Tensor:
        image = generate(request, self.model)[0].image
        return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255.0

    def save(self, path: Path) -> None:
        """Write the whole model."""
        save(self.model, path)


targets.add("denoiser", Denoiser, "unet")
