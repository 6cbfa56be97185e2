"""Adapters of a UNet: trained on pictures, or distilled so that four steps are enough."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from sfumato.engine.models.attention import ContextKV
from sfumato.train.adapters import Adapters
from sfumato.train.latents import encoded
from sfumato.train.recipe import Recipe
from sfumato.train.target import Batch, Loss, draw, seeded, targets, uniform
from sfumato.train.targets.denoiser import Denoiser

_KNOTS = 50
"""Steps of the teacher's sampler, whose way the student learns to jump."""
_SIGMA_DATA = 0.5
_TIMESTEP_SCALING = 10.0
_HUBER = 0.001


class Lora(Denoiser):
    """Low-rank adapters of the UNet's transformers, with the objective of the denoiser."""

    def __init__(self, recipe: Recipe, device: torch.device) -> None:
        super().__init__(recipe, device)
        with seeded(recipe.seed):
            self.adapters = Adapters(self.model.unet, recipe.adapter.rank, recipe.adapter.alpha)

    @property
    def weights(self) -> Mapping[str, nn.Parameter]:
        """Those of the adapters."""
        return self.adapters.weights

    def save(self, path: Path) -> None:
        """Write the adapters alone."""
        self.adapters.save(path, {"ss_output_name": self.recipe.name})


class ConsistencyLora(Lora):
    """Adapters with which the network jumps to the end from any noise (latent consistency, Luo et al. 2023).

    The frozen network with guidance makes one step of DDIM; before and after it the adapted network must say the same.
    `objective.guidance` gives the range that the teacher's guidance is drawn from.
    """

    def loss(self, batch: Batch, seed: int) -> Loss:
        """Pseudo-Huber distance of what the student says at both ends of a teacher's step."""
        with torch.no_grad():
            latents = encoded(self.model.vae, batch.pixels) if batch.latents is None else batch.latents
            count, device = len(latents), latents.device
            knots = torch.tensor([int(u * _KNOTS) for u in uniform(seed, batch.indices, salt=5)], device=device)
            levels = len(self._alphas)
            times = (knots + 1) * (levels // _KNOTS) - 1
            earlier = (times - levels // _KNOTS).clamp(min=0)
            alpha, alpha_earlier = (self._alphas[t][:, None, None, None] for t in (times, earlier))
            noise = draw(latents.shape[1:], seed, batch.indices, device, salt=3)
            noisy = alpha.sqrt() * latents + (1.0 - alpha).sqrt() * noise
            low, high = self.recipe.objective.guidance
            guidance = torch.tensor([low + (high - low) * u for u in uniform(seed, batch.indices, salt=7)], device=device)
            text, empty = self.context(batch.captions), self.context([""]).expand(count, -1, -1)
            stepped = self._teacher(noisy, times, alpha, alpha_earlier, text, empty, guidance[:, None, None, None])
            wanted = self._jump(stepped, earlier, alpha_earlier, text)
        difference = self._jump(noisy, times, alpha, text) - wanted
        total = ((difference.square() + _HUBER**2).sqrt() - _HUBER).mean()
        return Loss(total, {"distance": difference.detach().square().mean()})

    def _teacher(
        self, x: Tensor, times: Tensor, alpha: Tensor, alpha_to: Tensor, text: Tensor, empty: Tensor, guidance: Tensor
    ) -> Tensor:
        """One step of DDIM with guidance, by the network as it was."""
        with self.adapters.off():
            both = self.model.unet(torch.cat([x, x]), torch.cat([times, times]).to(x.dtype), torch.cat([text, empty])).float()
        conditional, unconditional = both.chunk(2)
        noise = self._noise(unconditional + guidance * (conditional - unconditional), x, alpha)
        return alpha_to.sqrt() * (x - (1.0 - alpha).sqrt() * noise) / alpha.sqrt() + (1.0 - alpha_to).sqrt() * noise

    def _jump(self, x: Tensor, times: Tensor, alpha: Tensor, text: Tensor | ContextKV) -> Tensor:
        """The student's estimate of the clean latents, with the boundary condition at timestep 0."""
        noise = self._noise(self.model.unet(x, times.to(x.dtype), text).float(), x, alpha)
        clean = (x - (1.0 - alpha).sqrt() * noise) / alpha.sqrt()
        scaled = (times.to(x.dtype) * _TIMESTEP_SCALING)[:, None, None, None]
        whole = scaled.square() + _SIGMA_DATA**2
        return x * (_SIGMA_DATA**2 / whole) + clean * (scaled / whole.sqrt())

    def _noise(self, predicted: Tensor, x: Tensor, alpha: Tensor) -> Tensor:
        """The noise in `x`, whichever of noise and velocity the network predicts."""
        if self.model.spec.prediction == "v":
            return alpha.sqrt() * predicted + (1.0 - alpha).sqrt() * x
        return predicted


targets.add("lora", Lora)
targets.add("consistency", ConsistencyLora, "lcm")
