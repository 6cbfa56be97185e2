"""Sfumato: a complete Stable Diffusion system.

As a library:

    from sfumato import Txt2Img, generate, load

    model = load("model.safetensors")
    (picture,) = generate(Txt2Img(prompt="a red circle on a white background", seed=1), model)
    picture.image.save("picture.png")
"""

from __future__ import annotations

from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from sfumato.version import __version__

if TYPE_CHECKING:
    from sfumato.engine.checkpoint.load import load
    from sfumato.engine.material import Material
    from sfumato.engine.pipeline import Picture, generate, stream
    from sfumato.request import Img2Img, Txt2Img

__all__ = ["Img2Img", "Material", "Picture", "Txt2Img", "__version__", "generate", "load", "stream"]

# Imported when they are first used, so that `import sfumato` stays free of torch.
_HOMES = MappingProxyType(
    {
        "Img2Img": "sfumato.request",
        "Txt2Img": "sfumato.request",
        "Material": "sfumato.engine.material",
        "Picture": "sfumato.engine.pipeline",
        "generate": "sfumato.engine.pipeline",
        "stream": "sfumato.engine.pipeline",
        "load": "sfumato.engine.checkpoint.load",
    }
)


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever the name stands for
    if name not in _HOMES:
        raise AttributeError(f"module 'sfumato' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
