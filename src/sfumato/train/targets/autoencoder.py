"""The autoencoder: pictures to latents and back (Rombach et al. 2022, section 3.1)."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from sfumato.engine.checkpoint.load import load_vae
from sfumato.engine.checkpoint.save import save_vae
from sfumato.engine.models.vae import AutoencoderKL
from sfumato.train.data import source_of
from sfumato.train.losses import divergence, edge_difference, psnr, pyramid_difference
from sfumato.train.recipe import Recipe
from sfumato.train.starter.architecture import architectures
from sfumato.train.target import Batch, Loss, Sheet, Source, draw, seeded, targets

_STATISTICS = 256
"""Samples from which the spread of latents is measured."""
_SHOWN = 12


class Autoencoder:
    """Learns to give pictures back through few latents, which stay near a normal distribution.

    Args:
        recipe: with `objective.kl`, `.l2`, `.edges`, `.pyramid` and `.latent_noise`.
        device: where it learns.
    """

    def __init__(self, recipe: Recipe, device: torch.device) -> None:
        self.recipe, self.device = recipe, device
        if recipe.start:
            self.vae = load_vae(recipe.start, device=device).train()
        else:
            with seeded(recipe.seed):
                self.vae = AutoencoderKL(architectures[recipe.architecture].spec.vae)
        self.vae.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.vae.requires_grad_(True)
        if recipe.objective.decoder_only:
            self.vae.encoder.requires_grad_(False)
            self.vae.quant_conv.requires_grad_(False)
        self._held = source_of(recipe.data, recipe.seed, device, held_out=True)

    @property
    def weights(self) -> Mapping[str, nn.Parameter]:
        """The parameters that learn."""
        return {name: weight for name, weight in self.vae.named_parameters() if weight.requires_grad}

    def prepared(self, source: Source, folder: Path) -> Source:
        """The source as it is."""
        return source

    def loss(self, batch: Batch, seed: int) -> Loss:
        """Differences of the pictures, and of the latents' distribution from the normal one."""
        chosen = self.recipe.objective
        pixels = batch.pixels.to(memory_format=torch.channels_last)
        moments = self.vae.encode(pixels)
        latents = moments.sample(draw(moments.mean.shape[1:], seed, batch.indices, self.device))
        if chosen.latent_noise:
            spread = latents.detach().std(dim=(0, 2, 3), keepdim=True)
            latents = latents + draw(latents.shape[1:], seed, batch.indices, self.device, salt=1) * spread * chosen.latent_noise
        result = self.vae.decode(latents)
        l1, l2 = (result - pixels).abs().mean(), (result - pixels).square().mean()
        kl = divergence(moments.mean, moments.logvar)
        total = l1 + chosen.l2 * l2 + chosen.kl * kl
        if chosen.edges:
            total = total + chosen.edges * edge_difference(result, pixels)
        if chosen.pyramid:
            total = total + chosen.pyramid * pyramid_difference(result, pixels)
        # The range is -1..1, so the peak is 2.
        quality = -10.0 * torch.log10(l2.detach().clamp_min(1e-10) / 4.0)
        return Loss(total, {"l1": l1.detach(), "kl": kl.detach(), "psnr": quality})

    @torch.no_grad()
    def sheet(self) -> Sheet:
        """Pictures that training does not see, each above what became of it."""
        pixels = self._held.batch(range(64)).pixels
        result = torch.cat([self.vae.decode(self.vae.encode(part).mean) for part in torch.split(pixels, 8)])
        before, after = pixels * 0.5 + 0.5, (result * 0.5 + 0.5).clamp(0.0, 1.0)
        pictures = torch.cat([t for row in range(0, _SHOWN, 6) for t in (before[row : row + 6], after[row : row + 6])])
        return Sheet(pictures, {"psnr": float(psnr(before, after).mean())})

    def save(self, path: Path) -> None:
        """Write the autoencoder so that its scaled latents have mean 0 and deviation 1."""
        vae = copy.deepcopy(self.vae)
        if not self.recipe.objective.decoder_only:
            whiten(vae, *self._statistics())
        save_vae(vae, path)

    @torch.no_grad()
    def _statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and deviation of each channel of the latents, [embed_dim] each."""
        latents = torch.cat(
            [self.vae.encode(self._held.batch(range(first, first + 16)).pixels).mean for first in range(0, _STATISTICS, 16)]
        )
        return latents.mean(dim=(0, 2, 3)), latents.std(dim=(0, 2, 3))


@torch.no_grad()
def whiten(vae: AutoencoderKL, mean: Tensor, deviation: Tensor) -> None:
    """Change the convolutions around the latents so that `scale_factor` times a latent has mean 0 and deviation 1.

    What is decoded stays the same: the second convolution undoes what the first one does anew.

    Args:
        mean, deviation: of each latent channel as it is now, [embed_dim].
    """
    channels = vae.config.embed_dim
    factor = 1.0 / (deviation * vae.config.scale_factor)
    before, after = vae.quant_conv, vae.post_quant_conv
    assert before.bias is not None
    assert after.bias is not None
    before.weight[:channels] *= factor[:, None, None, None]
    before.bias[:channels] = (before.bias[:channels] - mean) * factor
    before.bias[channels:] += 2.0 * factor.log()
    after.bias += after.weight[:, :, 0, 0] @ mean
    after.weight /= factor[None, :, None, None]


targets.add("autoencoder", Autoencoder, "vae")
