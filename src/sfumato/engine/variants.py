"""What inpainting and instruct-pix2pix models see beside the latents."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from sfumato.engine.autoencode import encode
from sfumato.engine.models.diffusion import DiffusionModel
from sfumato.errors import Unsupported


def extra_channels(model: DiffusionModel, height: int, width: int, source: Tensor | None = None) -> Tensor | None:
    """The channels [1, c, h, w] that the model's UNet takes behind the latents when the whole picture may change, or None.

    An inpainting model is told that everything is masked, so that what lies under the mask is grey; instruct-pix2pix sees
    the source, or nothing.

    Args:
        model: its variant decides.
        height, width: of the picture in pixels.
        source: pixels [1, 3, height, width] in -1..1 of the picture that is changed, or None for a new one.

    Raises:
        Unsupported: the model needs a depth map, which nothing here makes.
    """
    spec = model.spec
    if spec.variant == "depth":
        raise Unsupported(
            "Depth models need a depth map of the source, and nothing here estimates one.",
            advice="Choose a plain model.",
        )
    weight = model.vae.quant_conv.weight
    if spec.variant == "pix2pix":
        if source is None:
            return torch.zeros(1, spec.vae.embed_dim, height // spec.vae.downsampling, width // spec.vae.downsampling)
        return encode(model.vae, source.to(weight.device), scaled=False)
    if spec.variant == "inpaint":
        grey = encode(model.vae, torch.zeros(1, 3, height, width, device=weight.device))
        return F.pad(grey, (0, 0, 0, 0, 1, 0), value=1.0)
    return None
