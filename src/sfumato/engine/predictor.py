"""The UNet under conditions: what `Prediction.denoiser` calls, with everything that is constant over a job computed once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor

from sfumato.engine.models.attention import ContextKV, Seams
from sfumato.engine.models.diffusion import DiffusionModel
from sfumato.engine.prompt.encode import Conditioning

KEPT = 64
"""Projected conditions kept at a time; a prompt that changes at every step has more, and projects them again."""


class Predictor:
    """Runs a UNet on rows that each have their own condition.

    Rows whose conditions have equally many tokens go through the network together, others one group after the other.

    Args:
        model: on its device.
        extra: channels that inpainting and instruct-pix2pix models see beside the latents, [1, c, h, w] or [b, c, h, w], or None.
        seams: what takes part in every forward pass.
    """

    def __init__(self, model: DiffusionModel, *, extra: Tensor | None = None, seams: Seams | None = None) -> None:
        self.model = model
        self._unet = model.unet
        self._extra = extra
        self._seams = seams
        self._projected: OrderedDict[tuple[Conditioning, ...], tuple[ContextKV, Tensor | None]] = OrderedDict()

    @torch.inference_mode()
    def __call__(self, x: Tensor, timesteps: Tensor, conds: Sequence[Conditioning]) -> Tensor:
        """The raw output [n, c, h, w] for scaled latents `x` [n, c, h, w], `timesteps` [n] and one condition per row."""
        lengths = [cond.hidden.shape[0] for cond in conds]
        if len(set(lengths)) == 1:
            return self._run(x, timesteps, tuple(conds))
        result = torch.empty_like(x[:, : self.model.spec.unet.out_channels])
        for length in dict.fromkeys(lengths):
            rows = [row for row, other in enumerate(lengths) if other == length]
            result[rows] = self._run(x[rows], timesteps[rows], tuple(conds[row] for row in rows)).to(result.dtype)
        return result

    def _run(self, x: Tensor, timesteps: Tensor, conds: tuple[Conditioning, ...]) -> Tensor:
        context, vector = self._conditions(conds)
        if self._extra is not None:
            repeats = x.shape[0] // self._extra.shape[0]
            x = torch.cat([x, self._extra.to(x).repeat(repeats, 1, 1, 1)], dim=1)
        predicted: Tensor = self._unet(x, timesteps, context, vector, seams=self._seams)
        return predicted

    def _conditions(self, conds: tuple[Conditioning, ...]) -> tuple[ContextKV, Tensor | None]:
        """Keys and values of every cross-attention, and the vector condition, for these rows."""
        known = self._projected.get(conds)
        if known is None:
            weight = next(self._unet.parameters())
            context = self._unet.project_context(torch.stack([cond.hidden for cond in conds]).to(weight))
            known = self._projected[conds] = (context, self._vectors(conds, weight))
            if len(self._projected) > KEPT:
                self._projected.popitem(last=False)
        self._projected.move_to_end(conds)
        return known

    def _vectors(self, conds: tuple[Conditioning, ...], weight: Tensor) -> Tensor | None:
        width = self.model.spec.unet.adm_in_channels
        if width is None:
            return None
        # A model conditioned on pictures (unCLIP) is told "no picture" by zeros.
        rows = [torch.zeros(width) if cond.vector is None else cond.vector for cond in conds]
        return torch.stack([row.to(weight) for row in rows])
