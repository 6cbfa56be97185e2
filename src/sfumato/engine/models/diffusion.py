"""The root of a model: its UNet, autoencoder and text encoders in the places that single-file checkpoints give them."""

from __future__ import annotations

from torch import nn

from sfumato.engine.models.clip import CLIPText
from sfumato.engine.models.config import ModelSpec, TextConfig
from sfumato.engine.models.openclip import OpenCLIPText
from sfumato.engine.models.unet import UNet
from sfumato.engine.models.vae import AutoencoderKL

TextEncoder = CLIPText | OpenCLIPText
"""Either kind of text encoder; both are called in the same way."""


class DiffusionModel(nn.Module):
    """A whole model; the keys of its `state_dict` are the keys of the single-file layout.

    Build it under `torch.device("meta")` to learn its names and shapes without memory or random numbers, then
    `load_state_dict(tensors, assign=True)`.

    Args:
        spec: everything there is to know of the model besides its weights.

    Attributes:
        spec: as given.
    """

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        _mount(self, "model.diffusion_model", UNet(spec.unet))
        _mount(self, "first_stage_model", AutoencoderKL(spec.vae))
        for encoder in spec.text:
            _mount(self, encoder.prefix.rstrip("."), build_text_encoder(encoder.config))
        self.eval()

    @property
    def unet(self) -> UNet:
        """The denoising network."""
        return self.get_submodule("model.diffusion_model")  # type: ignore[return-value]

    @property
    def vae(self) -> AutoencoderKL:
        """The autoencoder."""
        return self.get_submodule("first_stage_model")  # type: ignore[return-value]

    @property
    def text_encoders(self) -> tuple[TextEncoder, ...]:
        """The text encoders in the order of `spec.text`."""
        return tuple(self.get_submodule(encoder.prefix.rstrip(".")) for encoder in self.spec.text)  # type: ignore[misc]


def build_text_encoder(config: TextConfig) -> TextEncoder:
    """A text encoder in the layout that the config asks for."""
    return CLIPText(config) if config.layout == "hf" else OpenCLIPText(config)


def _mount(root: nn.Module, path: str, module: nn.Module) -> None:
    """Make `module` reachable from `root` under a dotted path, with bare modules for the parts in between."""
    *parents, name = path.split(".")
    for parent in parents:
        if parent not in dict(root.named_children()):
            root.add_module(parent, nn.Module())
        root = root.get_submodule(parent)
    root.add_module(name, module)
